"""Rotation: which way up is this picture? (RotNet, Gidaris, Singh and Komodakis 2018)"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_lib import augment
from course_lib.methods.base import Batch, Method
from course_lib.parts import full_precision


def rotate4(x: Float[Tensor, "n c s s"]) -> tuple[Float[Tensor, "4n c s s"], Int64[Tensor, " 4n"]]:
    """All four rotations of each picture and their labels: first all pictures upright (label 0), then all turned by
    90 degrees counter-clockwise (1), by 180 (2), by 270 (3).

    Flips and transposes only, so no pixel is resampled: that would leave traces which give the answer away
    (section 2.2).
    Raises ValueError for pictures that are not square.
    """
    if x.ndim != 4 or x.shape[2] != x.shape[3]:
        raise ValueError("rotations by 90 degrees need square pictures [N, C, S, S], "
                         f"got {list(x.shape)}: crop them first")
    rotations = torch.cat([torch.rot90(x, k, (2, 3)) for k in range(4)])
    return rotations, torch.arange(4, device=x.device).repeat_interleave(len(x))


@full_precision
def rotation_loss(logits: Float[Tensor, "n 4"], rotation: Int64[Tensor, " n"]) -> Float[Tensor, ""]:
    """Four-way cross-entropy, mean over pictures and rotations (equations 2 and 3); log 4 = 1.386 for a blind guess."""
    return F.cross_entropy(logits, rotation)


class RotNet(Method):
    """The encoder sees each picture at all four rotations in one batch and tells them apart."""

    objective = staticmethod(rotation_loss)  # the loss: a subclass may name another

    def __init__(self, encoder: nn.Module, *, views: nn.Module | None = None):
        super().__init__(encoder, views or augment.weak())
        self.classifier = nn.Linear(encoder.dim, 4)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        x, rotation = rotate4(self.view(batch.x))
        logits = self.classifier(self.encoder(x))
        return {"loss": self.objective(logits, rotation), "accuracy": (logits.argmax(1) == rotation).float().mean()}
