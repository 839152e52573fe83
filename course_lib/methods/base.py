"""What a method is: an encoder that is kept, and a loss that trains it."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxtyping import Int64, UInt8
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class Batch:
    """What a method sees of the data at one step.

    x: uint8 `[N, 3, H, W]`, the pictures as they are; clips `[N, T, 3, H, W]` for a method that needs those.
    index: int64 `[N]`, which pictures of the training set these are.
    y: int64 `[N]`, or None unless the method's class sets `needs_labels`.
    extra: whatever else a method asked for, such as captions; None for most.
    """

    x: UInt8[Tensor, "n 3 h w"]
    index: Int64[Tensor, " n"]
    y: Int64[Tensor, " n"] | None = None
    extra: Any = None

    def __len__(self) -> int:
        return len(self.x)


class Method(nn.Module):
    """Base of every method. A subclass sets up its heads in `__init__` and says what it minimises in `loss`.

    encoder: the part that is kept and evaluated.
    views: uint8 pictures in, random views in [0, 1] out.

    needs_labels: its batches have labels. needs_clips: they are clips, `x` `[N, T, 3, H, W]`. smallest_batch: how many
    pictures its loss makes sense of.

    Whatever a method remembers from step to step (a teacher, a queue, a centre) is a module or a buffer, so that it is
    in `state_dict()` and a run resumes exactly.
    """

    needs_labels = False
    needs_clips = False
    smallest_batch = 2

    def __init__(self, encoder: nn.Module, views: nn.Module):
        super().__init__()
        self.encoder, self.views = encoder, views

    def loss(self, batch: Batch) -> Tensor | dict[str, Tensor]:
        """A scalar, or a dict with `"loss"` and whatever else is worth plotting."""
        raise NotImplementedError(f"{type(self).__name__} has no loss yet: define loss(self, batch)")

    def before_step(self, progress: float) -> None:
        """Called before each step, with the share of the training that is done, in [0, 1]."""

    def after_step(self, progress: float) -> None:
        """Called after each step of the optimizer: the place for momentum and queues."""

    def forward(self, batch: Batch) -> Tensor | dict[str, Tensor]:
        """The same as `loss`: DistributedDataParallel synchronises gradients of what goes through `forward`."""
        return self.loss(batch)
