"""The ceiling: the same encoder trained with every label."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import augment
from course_lib.data.types import Images
from course_lib.methods.base import Batch, Method


class Supervised(Method):
    """Cross-entropy with the labels; not self-supervised, but what every method is measured against."""

    needs = frozenset({"labels"})
    objective = staticmethod(F.cross_entropy)  # the loss of logits and labels: a subclass may name another

    def __init__(self, encoder: nn.Module, *, classes: int = 10, views: nn.Module | None = None):
        super().__init__(encoder, views or augment.weak())
        self.classifier = nn.Linear(encoder.dim, classes)

    @classmethod
    def build(cls, encoder: nn.Module, images: Images, **options) -> Supervised:
        return super().build(encoder, images, classes=len(images.classes), **options)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.classifier(self.encoder(self.view(batch.x))).float()
        return {"loss": self.objective(logits, batch.y), "accuracy": (logits.argmax(1) == batch.y).float().mean()}
