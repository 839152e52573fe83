"""Parameter groups, optimizers and the one schedule: linear warm-up, then half a cosine down to zero."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn


def parameter_groups(module: nn.Module, weight_decay: float, constant_lr: Sequence[str] = ()) -> list[dict]:
    """Weights that decay, and those that do not: biases, norms' scales and shifts, single tokens.

    Frozen parameters are left out. A parameter with at most one dimension longer than 1 does not decay.
    constant_lr: names of submodules. Their groups carry `"constant_lr": True`, which a schedule can ask for; there are
    such groups only where there are such submodules.

    Raises ValueError for a submodule that is not there.
    """
    modules = dict(module.named_modules())
    if missing := [name for name in constant_lr if name not in modules]:
        raise ValueError(f"constant_lr names {missing[0]!r}, and {type(module).__name__} has no such submodule: "
                         "give the name of an attribute, such as 'predictor'")
    constant = {p for name in constant_lr for p in modules[name].parameters()}
    groups = []
    for fixed in (False, True):
        mine = [p for p in module.parameters() if p.requires_grad and (p in constant) == fixed]
        decay = [p for p in mine if sum(s > 1 for s in p.shape) > 1]
        rest = [p for p in mine if sum(s > 1 for s in p.shape) <= 1]
        if mine or not fixed:
            groups += [{"params": decay, "weight_decay": weight_decay, "constant_lr": fixed},
                       {"params": rest, "weight_decay": 0.0, "constant_lr": fixed}]
    return groups


def build_optimizer(module: nn.Module, name: str, lr: float, weight_decay: float,
                    constant_lr: Sequence[str] = ()) -> torch.optim.Optimizer:
    """`"adamw"` (betas 0.9, 0.95 as MAE: steadier in short trainings) or `"sgd"` with Nesterov momentum 0.9."""
    groups = parameter_groups(module, weight_decay, constant_lr)
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
