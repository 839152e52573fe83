"""Losses are computed in float32 or wider, also inside autocast."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor


def full_precision(function: Callable) -> Callable:
    """Run a loss outside autocast, with half-precision arguments widened to float32; float64 stays float64.

    Arguments may be lists and tuples of tensors, as of many views, and those nested. Gradients come back in the
    precision of each argument.

    Why: a cosine divided by a temperature of 0.07 needs more than the 8 bits of a bfloat16, and its exponential
    overflows in float16.
    """

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        # Without any tensor it runs too: the function itself has the sentence for what is missing.
        device = next((t.device.type for t in _tensors((*args, *kwargs.values()))), "cpu")
        with torch.autocast(device, enabled=False):
            return function(*map(_widen, args), **{name: _widen(value) for name, value in kwargs.items()})

    return wrapper


def _widen(value: Any) -> Any:
    if type(value) in (list, tuple):
        return type(value)(map(_widen, value))
    half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
    return value.float() if half else value


def _tensors(values: list | tuple) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif type(value) in (list, tuple):
            yield from _tensors(value)


def check_temperature(temperature: float | Tensor) -> None:
    """Raise ValueError unless it is positive."""
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")


def check_pair(z1: Tensor, z2: Tensor, smallest: int = 2) -> None:
    """Raise ValueError unless z1 and z2 are two `[N, D]` embeddings of the same N >= `smallest` pictures."""
    if z1.ndim != 2 or z1.shape != z2.shape:
        raise ValueError("a loss of two views needs two embeddings of one shape [N, D], "
                         f"got {list(z1.shape)} and {list(z2.shape)}")
    if len(z1) < smallest:
        raise ValueError(f"this loss compares pictures with each other and needs at least {smallest} of them, "
                         f"got {len(z1)}: use a larger batch")
