"""What counts as pictures: the one place that checks them and turns them into floats."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

SLACK = 1e-3  # resampling may round this far past 0 and 1


def as_float(x: Tensor, *, values: bool = True) -> Float[Tensor, "n 3 h w"]:
    """Pictures `[N, 3, H, W]` as floats in [0, 1]: uint8 is divided by 255, floats are checked and passed on.

    values: whether to look at the values of floats too. That waits for a GPU, so encoders leave it to whoever made the
    pictures.

    Raises TypeError for what is no tensor or of another dtype, ValueError for another shape, for values outside [0, 1]
    and for NaN.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"pictures must be a tensor, got {type(x).__name__}: give images.x of an Images")
    if x.ndim != 4 or x.shape[1] != 3:
        raise ValueError(f"pictures must have shape [N, 3, H, W], got {list(x.shape)}: one picture needs a batch "
                         "dimension, x[None]; repeat the channel of grey pictures three times")
    if x.dtype == torch.uint8:
        return x.float().div_(255)
    if not x.is_floating_point():
        raise TypeError(f"pictures must be uint8 in 0..255 or floats in [0, 1], got {x.dtype}: convert them to uint8")
    if values and x.numel() and not (x.amin() >= -SLACK and x.amax() <= 1 + SLACK):  # a NaN fails both comparisons
        if x.isnan().any():
            raise ValueError("floats must lie in [0, 1], got values from nan to nan: find where the first NaN arose")
        raise ValueError(f"floats must lie in [0, 1], got values from {x.amin().item():.3g} to {x.amax().item():.3g}: "
                         "divide by 255, and do not normalise, since encoders do that themselves")
    return x
