"""CIELAB: lightness L apart from colour, a (green to red) and b (blue to yellow), where equal distances look equal.

sRGB, D65, 2 degrees. Matrix and white point are published rounded, so that white has a = -0.002 and b = 0.005.
All of it raises TypeError or ValueError for what is no pictures `[N, 3, H, W]`, and works in the precision it is given.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from course_lib.parts.precision import full_precision
from course_lib.pictures import as_float

RGB_TO_XYZ = torch.tensor([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169],
                           [0.019334, 0.119193, 0.950227]], dtype=torch.float64)
RGB_TO_T = RGB_TO_XYZ / torch.tensor([[0.95047], [1.0], [1.08883]], dtype=torch.float64)  # shares of the white point
XYZ_TO_LAB = torch.tensor([[0.0, 116, 0], [500, -500, 0], [0, 200, -200]], dtype=torch.float64)


@full_precision
def rgb_to_lab(x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """sRGB, uint8 or in [0, 1], to L in [0, 100] and a, b within ±108. Gradients are finite, at black too."""
    t = mix(RGB_TO_T, light(x))
    return mix(XYZ_TO_LAB, torch.where(t > 0.008856, t.clamp(min=0.008856) ** (1 / 3) - 16 / 116, 7.787 * t))


@full_precision
def lab_to_rgb(lab: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """The inverse of `rgb_to_lab`. What no screen can show is cut off at 0 and 1. Raises TypeError for uint8."""
    if isinstance(lab, Tensor) and lab.dtype == torch.uint8:
        raise TypeError("Lab has L in 0..100 and negative numbers too and must be floats, got torch.uint8: "
                        "give what rgb_to_lab returns")
    f = mix(XYZ_TO_LAB.inverse(), as_float(lab, values=False))
    t = torch.where(f > 0.008856 ** (1 / 3) - 16 / 116, (f + 16 / 116) ** 3, f / 7.787)
    return screen(mix(RGB_TO_T.inverse(), t)).clamp(0, 1)


@full_precision
def gray(x: Tensor) -> Float[Tensor, "n 3 h w"]:
    """Pictures, uint8 or in [0, 1], without colour: every pixel the grey of its L. What is grey stays as it is."""
    return screen(mix(RGB_TO_T[1:2], light(x))).expand(-1, 3, -1, -1)


def light(x: Tensor) -> Float[Tensor, "n 3 h w"]:
    """sRGB's numbers to amounts of light. A line near 0, where the clamp keeps the power's slope out of the way."""
    x = as_float(x, values=False)
    return torch.where(x > 0.04045, ((x.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4, x / 12.92)


def screen(x: Tensor) -> Tensor:
    """Amounts of light to sRGB's numbers: the inverse of `light`."""
    return torch.where(x > 0.0031308, 1.055 * x.clamp(min=0.0031308) ** (1 / 2.4) - 0.055, 12.92 * x)


def mix(matrix: Float[Tensor, "m 3"], x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n m h w"]:
    """A matrix times the channels of every pixel."""
    return torch.einsum("ij,njhw->nihw", matrix.to(x), x)
