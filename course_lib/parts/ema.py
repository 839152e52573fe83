"""A teacher that follows its student slowly."""

from __future__ import annotations

import math

import torch
from torch import nn


@torch.no_grad()
def ema_update(teacher: nn.Module, student: nn.Module, momentum: float, buffers: str = "copy") -> None:
    """teacher ← momentum · teacher + (1 − momentum) · student, weight by weight.

    buffers: what happens to BatchNorm's running statistics. "copy" takes the student's; "ema" averages them like the
    weights (integers are copied); "none" leaves the teacher's own. A teacher that is ever evaluated needs one of the
    first two.
    Raises ValueError for a momentum outside [0, 1] or an unknown `buffers`.
    """
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum must lie in [0, 1], got {momentum}")
    if buffers not in ("copy", "ema", "none"):
        raise ValueError(f"buffers must be 'copy', 'ema' or 'none', got {buffers!r}")
    for t, s in zip(teacher.parameters(), student.parameters(), strict=True):
        t.lerp_(s, 1 - momentum)
    if buffers != "none":
        for t, s in zip(teacher.buffers(), student.buffers(), strict=True):
            if buffers == "ema" and t.is_floating_point():
                t.lerp_(s, 1 - momentum)
            else:
                t.copy_(s)


def cosine_momentum(start: float, progress: float) -> float:
    """From `start` to 1 along half a cosine as progress goes from 0 to 1 (BYOL, Grill et al. 2020, section 3.3).

    Raises ValueError for a start or a progress outside [0, 1].
    """
    if not (0 <= start <= 1 and 0 <= progress <= 1):
        raise ValueError(f"a momentum starts and progress lies in [0, 1], got start={start} and progress={progress}")
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2
