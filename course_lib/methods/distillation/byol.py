"""BYOL: predict what a slow copy of yourself says of another view; no negatives (Grill et al. 2020)."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from course_lib import augment
from course_lib.methods.base import Batch, Method
from course_lib.nets import mlp
from course_lib.parts import check_pair, cosine_momentum, ema_update, full_precision


@full_precision
def byol_loss(p1: Float[Tensor, "n d"], p2: Float[Tensor, "n d"],
              z1: Float[Tensor, "n d"], z2: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """(2 − 2·cos(p1, z2)) + (2 − 2·cos(p2, z1)), mean over pictures (equation 2, made symmetric as in section 3.1).

    p: the student's predictions of views 1 and 2; z: the teacher's projections, through which no gradient flows.
    The two terms are summed, as in the paper: 0 at best, 4 for unrelated vectors, 8 at worst.
    """
    check_pair(p1, z2, smallest=1)
    check_pair(p2, z1, smallest=1)
    cosines = F.cosine_similarity(p1, z2.detach(), dim=1) + F.cosine_similarity(p2, z1.detach(), dim=1)
    return (4 - 2 * cosines).mean()


class BYOL(Method):
    """A student (encoder, projector, predictor) follows a teacher (encoder, projector), its own moving average.

    momentum: of the teacher at the start; it rises to 1 along a cosine, so that the teacher comes to rest.
    """

    def __init__(self, encoder: nn.Module, *, hidden: int = 1024, dim: int = 256, momentum: float = 0.99,
                 views: nn.Module | None = None):
        super().__init__(encoder, views or augment.byol())
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum is a share of the old teacher and must lie in [0, 1], got {momentum}: "
                             "0.99 is usual")
        self.projector = mlp(encoder.dim, hidden, dim)
        self.predictor = mlp(dim, hidden, dim)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.momentum = momentum

    @property
    def student(self) -> nn.Sequential:
        """What the teacher is a slow copy of: encoder and projector, without the predictor."""
        return nn.Sequential(self.encoder, self.projector)

    def objective(self, p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor) -> Float[Tensor, ""]:
        """The loss of predictions and the teacher's projections, all `[N, D]`: the line to override for another."""
        return byol_loss(p1, p2, z1, z2)

    def loss(self, batch: Batch) -> Tensor:
        v1, v2 = self.view(batch.x), self.view(batch.x)
        p1, p2 = (self.predictor(self.projector(self.encoder(v))) for v in (v1, v2))
        with torch.no_grad():
            z1, z2 = self.teacher(v1), self.teacher(v2)
        return self.objective(p1, p2, z1, z2)

    def after_step(self, progress: float) -> None:
        ema_update(self.teacher, self.student, cosine_momentum(self.momentum, progress))
