"""The context encoder's losses and masks again, slow and obvious: one number, one pixel at a time."""

from __future__ import annotations

import torch


def hole(output, target, mask):
    total, count = 0.0, 0
    n, channels, height, width = output.shape
    for i in range(n):
        for row in range(height):
            for column in range(width):
                if mask[i, 0, row, column]:
                    for c in range(channels):
                        total = total + (output[i, c, row, column] - target[i, c, row, column]) ** 2
                        count += 1
    return total / count


def sigmoid(logit):
    return 1 / (1 + torch.exp(-logit))


def discriminator(real, painted):
    total = 0.0
    for a, b in zip(real, painted, strict=True):
        total = total - torch.log(sigmoid(a)) - torch.log(1 - sigmoid(b))
    return total / len(real)


def adversarial(painted):
    total = 0.0
    for logit in painted:
        total = total - torch.log(sigmoid(logit))
    return total / len(painted)


def in_the_middle_half(place, length):
    """Whether a pixel belongs to the `length // 2` pixels that start a quarter of the way in."""
    return length // 4 <= place < length // 4 + length // 2
