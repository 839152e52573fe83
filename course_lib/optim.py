"""Parameter groups, optimizers and the one schedule: linear warm-up, then half a cosine down to zero."""

from __future__ import annotations

import math

import torch
from torch import nn


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict]:
    """Weights that decay, and those that do not: biases, norms' scales and shifts, single tokens.

    Frozen parameters are left out. A parameter with at most one dimension longer than 1 does not decay.
    """
    decay, rest = [], []
    for p in module.parameters():
        if p.requires_grad:
            (decay if sum(s > 1 for s in p.shape) > 1 else rest).append(p)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def build_optimizer(module: nn.Module, name: str, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """`"adamw"` (betas 0.9, 0.95 as MAE: steadier in short trainings) or `"sgd"` with Nesterov momentum 0.9."""
    groups = parameter_groups(module, weight_decay)
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95))
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True)
    raise ValueError(f"optimizer must be 'adamw' or 'sgd', got {name!r}")


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """The rate of `step` (from 0) of `steps`: up in a line over `warmup` steps, then down along half a cosine to 0."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2
