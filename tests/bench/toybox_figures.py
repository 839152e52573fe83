"""The figures in Toybox's docstring, measured again: `python tests/bench/toybox_figures.py` (a few minutes)."""

from __future__ import annotations

import argparse
import time

import torch

from course_lib import fit, methods, nets
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


def supervised(data, epochs: int) -> float:
    """Test accuracy of a convnet that is trained with labels, on pictures gently cropped and flipped."""
    torch.manual_seed(0)
    method = methods.Supervised(nets.convnet(), classes=len(data.classes))
    fit(method, data.train, epochs=epochs, batch_size=128, lr=4e-3, weight_decay=0.05)
    z = features(method.encoder, data.test)
    with torch.no_grad():
        return 100 * (method.classifier(z).argmax(1) == data.test.y).float().mean().item()


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
