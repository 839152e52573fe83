"""Random views of 32×32 pictures: ours beside kornia's, batched, and torchvision's on PIL in two processes, in one run.

    python tests/bench/bench_views.py [--rounds 7]

The three make the same views (crop, flip, colour jitter, grey; pictures start as bytes and end as floats) and are
measured in turn, a short piece each, round after round: whatever else the machine does falls on all of them. What is
printed is the median over rounds and, for the ratios, the median of each round's ratio.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch
from PIL import Image

from course_lib import augment

SIZE, BATCH, PROCESSES = 32, 256, 2
OURS, KORNIA, TORCHVISION = "course_lib", "kornia, batched", f"torchvision on PIL, {PROCESSES} processes"
WANTED = {KORNIA: 4, TORCHVISION: 5}


def kornia_views():
    import kornia.augmentation as K

    return K.AugmentationSequential(
        K.RandomResizedCrop((SIZE, SIZE), scale=(0.2, 1.0), ratio=(3 / 4, 4 / 3)),
        K.RandomHorizontalFlip(p=0.5),
        K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
        K.RandomGrayscale(p=0.2),
    )


def torchvision_views():
    from torchvision import transforms as T

    return T.Compose([
        T.RandomResizedCrop(SIZE, scale=(0.2, 1.0), ratio=(3 / 4, 4 / 3)),
        T.RandomHorizontalFlip(0.5),
        T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
        T.RandomGrayscale(0.2),
        T.ToTensor(),
    ])


def start_worker() -> None:
    """In a process of its own: one thread, and transforms made once."""
    global worker_views
    torch.set_num_threads(1)
    worker_views = torchvision_views()


def worker_batch(pictures: np.ndarray) -> int:
    """Views of `[n, h, w, 3]` bytes. They stay in the worker: sending them back is a loader's cost, not a view's."""
    return len(torch.stack([worker_views(Image.fromarray(picture)) for picture in pictures]))


def rate(make, batches: int) -> float:
    """Views a second."""
    began = time.perf_counter()
    make(batches)
    return batches * BATCH / (time.perf_counter() - began)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds

    pictures = torch.randint(256, (BATCH, 3, SIZE, SIZE), dtype=torch.uint8)
    arrays = pictures.permute(0, 2, 3, 1).contiguous().numpy()
    ours, kornia = augment.simclr(SIZE), kornia_views()
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn"), initializer=start_worker) as pool:
        batches = {OURS: 40, KORNIA: 10, TORCHVISION: 2 * PROCESSES}  # a round of each takes about as long

        def in_processes(count):
            return sum(pool.map(worker_batch, [arrays] * count))

        with torch.no_grad():
            run = {
                OURS: lambda count: [ours(pictures) for _ in range(count)],
                KORNIA: lambda count: [kornia(pictures.float() / 255) for _ in range(count)],
                TORCHVISION: in_processes,
            }
            for name in run:
                run[name](PROCESSES)  # warm up
            rates = [{name: rate(run[name], batches[name]) for name in run} for _ in range(rounds)]

    print(f"views a second, {SIZE}×{SIZE}, batches of {BATCH}, {rounds} rounds, {torch.get_num_threads()} threads, "
          f"{os.cpu_count()} cores")
    for name in batches:
        line = f"  {name:<36}{statistics.median(r[name] for r in rates):10,.0f}"
        if name in WANTED:
            ratio = statistics.median(r[OURS] / r[name] for r in rates)
            line += f"   course_lib is {ratio:.1f} times as fast (wanted: {WANTED[name]})"
        print(line)


if __name__ == "__main__":
    main()
