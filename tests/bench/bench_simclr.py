"""Training SimCLR: ours beside lightly's recipe with its DataLoader, same net, head and batch, in one run.

    python tests/bench/bench_simclr.py [--rounds 5] [--steps 8] [--batch 256]

Ours: `course_lib.fit`, with the precision that it picks itself. Lightly's: SimCLRTransform on PIL pictures, a
DataLoader with two workers, SimCLRProjectionHead, NTXentLoss, float32 and AdamW, as in its example. Both train the
laptop's convnet and are measured in turn, some steps each, round after round, and the median of the rounds' ratios is
printed. Lightly's steps are timed in the second half of each piece, when its workers have been at work for a while.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import torch
from torchvision.transforms.functional import to_pil_image

import course_lib as cl
from course_lib.data.types import Images
from course_lib.devices import autocast_dtype, pick_device

WORKERS, WANTED = 2, 3


class Ours:
    """`fit` for a few steps at a time."""

    def __init__(self, images: Images, batch: int):
        self.method, self.images, self.batch = cl.methods.SimCLR(cl.nets.convnet()), images, batch

    def seconds(self, steps: int) -> float:
        """Of one step."""
        cl.fit(self.method, self.images[: 2 * self.batch], epochs=0.5, batch_size=self.batch)  # warm up
        run = cl.fit(self.method, self.images, epochs=steps * self.batch / len(self.images), batch_size=self.batch)
        return run.seconds / len(run.logs)


class Pictures(torch.utils.data.Dataset):
    """What lightly's transform gets: one PIL picture."""

    def __init__(self, images: Images, transform):
        self.pictures, self.transform = [to_pil_image(x) for x in images.x], transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, i: int):
        return self.transform(self.pictures[i])


class Lightlys:
    """The loop of lightly's SimCLR example."""

    def __init__(self, images: Images, batch: int):
        from lightly.loss import NTXentLoss
        from lightly.models.modules import SimCLRProjectionHead
        from lightly.transforms import SimCLRTransform

        transform = SimCLRTransform(input_size=32, cj_strength=0.5, min_scale=0.2, gaussian_blur=0.0)
        self.loader = torch.utils.data.DataLoader(Pictures(images, transform), batch, shuffle=True, drop_last=True,
                                                  num_workers=WORKERS)
        encoder = cl.nets.convnet()
        self.device = pick_device()
        head = SimCLRProjectionHead(encoder.dim, encoder.dim, 128)
        self.model = torch.nn.Sequential(encoder, head).to(self.device)
        self.loss = NTXentLoss(temperature=0.5)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)

    def seconds(self, steps: int) -> float:
        """Of one step, by the later half of `steps`."""
        marks = []
        for _, views in zip(range(steps), self.loader, strict=False):
            z1, z2 = (self.model(v.to(self.device)) for v in views)
            loss = self.loss(z1, z2)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            loss.item()
            marks.append(time.perf_counter())
        half = len(marks) // 2
        return (marks[-1] - marks[half - 1]) / (len(marks) - half)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=256)
    options = parser.parse_args()

    # More batches than a piece takes, so that lightly's workers are busy to its end.
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(256, (2 * options.steps * options.batch, 3, 32, 32), dtype=torch.uint8, generator=draw)
    images = Images(x)
    ours, lightlys = Ours(images, options.batch), Lightlys(images, options.batch)
    seconds = [(ours.seconds(options.steps), lightlys.seconds(options.steps)) for _ in range(options.rounds)]

    device = pick_device()
    precision = str(autocast_dtype("auto", device)).removeprefix("torch.")
    print(f"SimCLR training, convnet, batch {options.batch}, {options.rounds} rounds of {options.steps} steps, "
          f"{device}, {torch.get_num_threads()} threads, {os.cpu_count()} cores")
    for name, column in ((f"course_lib, {precision}", 0), (f"lightly, float32, {WORKERS} workers", 1)):
        median = statistics.median(pair[column] for pair in seconds)
        print(f"  {name:<36}{2 * options.batch / median:8,.0f} views a second")
    ratio = statistics.median(theirs / mine for mine, theirs in seconds)
    print(f"  course_lib is {ratio:.1f} times as fast (wanted: {WANTED})")


if __name__ == "__main__":
    main()
