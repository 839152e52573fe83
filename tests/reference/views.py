"""One view of one picture by torchvision's functional operations, one after the other, from what `Views.draw` drew."""

from __future__ import annotations

import math

import torch
import torchvision.transforms.v2.functional as F
from torch import Tensor

YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]],
                   dtype=torch.float64)


def crop_and_flip(picture: Tensor, draw, i: int, size: int) -> Tensor:
    """Picture i of the draw: `[3, H, W]` floats to `[3, size, size]`."""
    top, left, height, width = draw.box[i].tolist()
    view = F.resized_crop(picture, top, left, height, width, [size, size], antialias=True)
    return F.horizontal_flip(view) if draw.flip[i] else view


def turn_hue(picture: Tensor, turns: float) -> Tensor:
    """Rotate chrominance in YIQ, pixel by pixel, in float64."""
    angle = 2 * math.pi * turns
    out = torch.empty(picture.shape, dtype=torch.float64)
    for row in range(picture.shape[1]):
        for column in range(picture.shape[2]):
            y, i, q = YIQ @ picture[:, row, column].double()
            turned = [y, i * math.cos(angle) - q * math.sin(angle), i * math.sin(angle) + q * math.cos(angle)]
            out[:, row, column] = torch.linalg.solve(YIQ, torch.stack(turned))
    return out


COLORS = {
    "brightness": lambda picture, draw, i: F.adjust_brightness(picture, draw.brightness[i].item()),
    "contrast": lambda picture, draw, i: F.adjust_contrast(picture, draw.contrast[i].item()),
    "saturation": lambda picture, draw, i: F.adjust_saturation(picture, draw.saturation[i].item()),
    "gray": lambda picture, draw, i: F.rgb_to_grayscale(picture, 3) if draw.gray[i] else picture,
    "solarize": lambda picture, draw, i: F.solarize(picture, 0.5) if draw.solarize[i] else picture,
}
