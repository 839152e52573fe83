"""The relative-patch loss and the dropping of colours, one patch at a time."""

from __future__ import annotations

import torch
from reference.losses import cross_entropy


def position_loss(logits):
    total = 0.0
    for picture in logits:
        for neighbour in range(8):
            total = total + cross_entropy(list(picture[neighbour]), neighbour)
    return total / (8 * len(logits))


def kept_channel(before, after):
    """Which of red, green and blue fills all three channels of `after`; None where it is none of them alone."""
    for channel in range(3):
        if all(torch.equal(plane, before[channel]) for plane in after):
            return channel
    return None
