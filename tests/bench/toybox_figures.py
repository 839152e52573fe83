"""The figures in Toybox's docstring, measured again: `python tests/bench/toybox_figures.py` (a few minutes)."""

from __future__ import annotations

import argparse
import time

import torch
import torch.nn.functional as F

from course_lib import nets
from course_lib.data import toybox
from course_lib.evaluate import features, knn, linear_probe


def pictures_per_second(n: int = 6400, tries: int = 3) -> float:
    """The best of several tries, since other work on the machine can only slow one down."""
    seconds = []
    for _ in range(tries + 1):  # the first one warms up
        start = time.perf_counter()
        toybox.draw(n)
        seconds.append(time.perf_counter() - start)
    return n / min(seconds[1:])


def supervised(data, seconds: float) -> tuple[float, float]:
    """Test accuracy of a convnet trained with labels, shifts of up to 3 pixels and flips, and epochs it took."""
    torch.manual_seed(0)
    net = nets.convnet()
    head = torch.nn.Linear(net.dim, len(data.classes))
    model = torch.nn.Sequential(net, head).to(memory_format=torch.channels_last)
    opt = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.05)
    start, steps, batch = time.perf_counter(), 0, 128
    while (done := (time.perf_counter() - start) / seconds) < 1:
        for group in opt.param_groups:
            group["lr"] = 2e-3 * min(1, 20 * done + 0.05) * (1 - done)
        pick = torch.randint(len(data.train), (batch,))
        dx, dy = torch.randint(0, 7, (2,)).tolist()
        x = F.pad(data.train.x[pick].float() / 255, (3, 3, 3, 3), mode="replicate")[:, :, dy : dy + 32, dx : dx + 32]
        loss = F.cross_entropy(model(x.flip(3) if steps % 2 else x), data.train.y[pick])
        opt.zero_grad()
        loss.backward()
        opt.step()
        steps += 1
    model.eval()
    with torch.no_grad():
        right = torch.cat([model(x).argmax(1) for x in data.test.x.split(500)]) == data.test.y
    return 100 * right.float().mean().item(), steps * batch / len(data.train)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=240, help="training time of the supervised convnet")
    parser.add_argument("--only", choices=["speed", "knn", "random", "supervised"])
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)

    def wanted(name):
        return given.only in (None, name)

    if wanted("speed"):
        print(f"32×32 pictures a second on {given.threads} threads: {pictures_per_second():,.0f}")
    data = toybox.dataset()
    if wanted("knn"):
        bank, queries = data.train.x.flatten(1).float() / 255, data.test.x.flatten(1).float() / 255
        print(f"raw pixels, kNN: {knn(bank, data.train.y, queries, data.test.y)['top1']:.1f} %")
    if wanted("random"):
        net = nets.convnet()
        z = [features(net, part) for part in (data.train, data.val, data.test)]
        y = [part.y for part in (data.train, data.val, data.test)]
        probe = linear_probe(z[0], y[0], z[1], y[1], z[2], y[2])
        print(f"untrained convnet, linear probe: {probe.top1:.1f} %")
    if wanted("supervised"):
        top1, epochs = supervised(data, given.seconds)
        print(f"supervised convnet, {epochs:.1f} epochs: {top1:.1f} %")


if __name__ == "__main__":
    main()
