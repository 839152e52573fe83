"""Losses are computed in float32 or wider, also inside autocast."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor


def full_precision(function: Callable) -> Callable:
    """Run a loss outside autocast, with half-precision arguments widened to float32; float64 stays float64.

    Why: a cosine divided by a temperature of 0.07 needs more than the 8 bits of a bfloat16, and its exponential
    overflows in float16.
    """

    def widen(value):
        half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
        return value.float() if half else value

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        device = next(a.device.type for a in (*args, *kwargs.values()) if isinstance(a, Tensor))
        with torch.autocast(device, enabled=False):
            return function(*map(widen, args), **{k: widen(v) for k, v in kwargs.items()})

    return wrapper


def check_pair(z1: Tensor, z2: Tensor, smallest: int = 2) -> None:
    """Raise ValueError unless z1 and z2 are two `[N, D]` embeddings of the same N >= `smallest` pictures."""
    if z1.ndim != 2 or z1.shape != z2.shape:
        raise ValueError("a loss of two views needs two embeddings of one shape [N, D], "
                         f"got {list(z1.shape)} and {list(z2.shape)}")
    if len(z1) < smallest:
        raise ValueError(f"this loss compares pictures with each other and needs at least {smallest} of them, "
                         f"got {len(z1)}: use a larger batch")
