"""Small encoders and views without chance, so that several processes can be compared with one to the last digits."""

from __future__ import annotations

import itertools

import torch
from torch import nn


class Flips(nn.Module):
    """Two views without chance: the picture, then its mirror image, in turn; floats in [0, 1]."""

    def __init__(self):
        super().__init__()
        self.turns = itertools.cycle((1, -1))

    def forward(self, x):
        x = x / 255 if x.dtype == torch.uint8 else x
        return x if next(self.turns) == 1 else x.flip(3)


class Flat(nn.Module):
    """A linear encoder of pictures of any size, which it averages to 4×4 pixels.

    It has no BatchNorm, which would see half of the batch in each process.
    """

    def __init__(self, dim: int = 5):
        super().__init__()
        self.dim, self.layer = dim, nn.Linear(3 * 16, dim)

    def forward(self, x):
        return self.layer(nn.functional.adaptive_avg_pool2d(x, 4).flatten(1))


class FlatMaps(Flat):
    """The same on each quarter of a picture: an encoder with maps `[N, dim, 2, 2]`, whose mean is its vector."""

    def __init__(self, dim: int = 5):
        super().__init__(dim)
        self.channels = [dim]

    def maps(self, x):
        quarters = x.unflatten(2, (2, -1)).unflatten(4, (2, -1)).permute(0, 2, 4, 1, 3, 5)
        return super().forward(quarters.flatten(0, 2)).unflatten(0, (len(x), 2, 2)).permute(0, 3, 1, 2)

    def pool(self, maps):
        return maps.mean((2, 3))

    def forward(self, x):
        return self.pool(self.maps(x))


class Sized(Flips):
    """Views of which the side is known."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size
