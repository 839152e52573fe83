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


def supervised(data, epochs: int, batch: int = 128) -> float:
    """Test accuracy of a convnet that is trained with labels, on pictures shifted by up to 3 pixels and flipped."""
    net = nets.convnet()
    model = torch.nn.Sequential(net, torch.nn.Linear(net.dim, len(data.classes))).to(memory_format=torch.channels_last)
    opt = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    steps = epochs * (len(data.train) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(opt, 4e-3, total_steps=steps, pct_start=0.15)
    for step, pick in zip(range(steps), _shuffled(len(data.train), batch), strict=False):
        dx, dy = torch.randint(0, 7, (2,)).tolist()
        x = F.pad(data.train.x[pick].float() / 255, (3, 3, 3, 3), mode="replicate")[:, :, dy : dy + 32, dx : dx + 32]
        loss = F.cross_entropy(model(x.flip(3) if step % 2 else x), data.train.y[pick])
        opt.zero_grad()
        loss.backward()
        opt.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        right = torch.cat([model(x).argmax(1) for x in data.test.x.split(500)]) == data.test.y
    return 100 * right.float().mean().item()


def _shuffled(n: int, batch: int):
    """Batches of row numbers without end, every row once an epoch."""
    while True:
        yield from torch.randperm(n)[: n // batch * batch].split(batch)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=12, help="of the supervised convnet")
    parser.add_argument("--only", choices=["speed", "knn", "random", "supervised"])
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)

    def wanted(name):
        return given.only in (None, name)

    if wanted("speed"):
        print(f"32×32 pictures a second on {given.threads} threads: {pictures_per_second():,.0f}", flush=True)
    data = toybox.dataset()
    if wanted("knn"):
        bank, queries = data.train.x.flatten(1).float() / 255, data.test.x.flatten(1).float() / 255
        print(f"raw pixels, kNN: {knn(bank, data.train.y, queries, data.test.y)['top1']:.1f} %", flush=True)
    if wanted("random"):
        net = nets.convnet()
        z = [features(net, part) for part in (data.train, data.val, data.test)]
        y = [part.y for part in (data.train, data.val, data.test)]
        probe = linear_probe(z[0], y[0], z[1], y[1], z[2], y[2])
        print(f"untrained convnet, linear probe: {probe.top1:.1f} %", flush=True)
    if wanted("supervised"):
        print(f"supervised convnet, {given.epochs} epochs: {supervised(data, given.epochs):.1f} %", flush=True)


if __name__ == "__main__":
    main()
