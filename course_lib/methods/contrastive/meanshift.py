"""MeanShift: move towards the mean of one's nearest neighbours, and no negatives (Koohpayegani et al. 2021)."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from course_lib import augment
from course_lib.methods.base import Batch, Method
from course_lib.methods.contrastive.nnclr import nearest
from course_lib.nets import mlp
from course_lib.parts import Queue, cosine_momentum, ema_update, full_precision, gather


@full_precision
def mean_shift_loss(p: Float[Tensor, "n d"], neighbours: Float[Tensor, "n k d"]) -> Float[Tensor, ""]:
    """2 − 2·cos(p, neighbour), the squared distance of unit vectors, mean over k neighbours and pictures (section 3).

    No gradient flows to the neighbours. With k = 1, where the only neighbour is the target itself, it is one of the two
    terms of BYOL's loss. 0 at best, 2 for unrelated vectors.
    Raises ValueError for other shapes.
    """
    if p.ndim != 2 or neighbours.ndim != 3 or (len(p), p.shape[1]) != (len(neighbours), neighbours.shape[2]):
        raise ValueError(f"predictions [N, D] need neighbours [N, K, D], got {list(p.shape)} and "
                         f"{list(neighbours.shape)}")
    return (2 - 2 * F.cosine_similarity(p[:, None], neighbours.detach(), dim=2)).mean()


class MeanShift(Method):
    """BYOL whose target is not the teacher's view alone, but its k nearest among all that is remembered.

    neighbours: k. The queue already holds the batch's own targets when they are looked up, so that each is its own
    first neighbour. queue: how many targets it holds. momentum: of the teacher at the start; it rises to 1 along a
    cosine.
    """

    not_shipped = ("queue.",)

    def __init__(self, encoder: nn.Module, *, hidden: int = 1024, dim: int = 256, neighbours: int = 5,
                 queue: int = 4096, momentum: float = 0.99, views: nn.Module | None = None):
        super().__init__(encoder, views or augment.byol())
        if not 1 <= neighbours <= queue:
            raise ValueError(f"a queue of {queue} has 1 to {queue} neighbours to give, got {neighbours}: 5 are usual")
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum is a share of the old teacher and must lie in [0, 1], got {momentum}: "
                             "0.99 is usual")
        self.projector, self.predictor = mlp(encoder.dim, hidden, dim), mlp(dim, hidden, dim)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.queue, self.neighbours, self.momentum = Queue(queue, dim), neighbours, momentum

    @property
    def student(self) -> nn.Sequential:
        """What the teacher is a slow copy of: encoder and projector, without the predictor."""
        return nn.Sequential(self.encoder, self.projector)

    def objective(self, p: Float[Tensor, "n d"], neighbours: Float[Tensor, "n k d"]) -> Float[Tensor, ""]:
        """The loss of predictions and the targets' neighbours: the line to override for another loss."""
        return mean_shift_loss(p, neighbours)

    def loss(self, batch: Batch) -> Tensor:
        v1, v2 = self.view(batch.x), self.view(batch.x)
        p = self.predictor(self.projector(self.encoder(v1)))
        with torch.no_grad():
            z = self.teacher(v2)
        rows = self.queue.pushed(z)
        if (n := len(gather(z))) > len(rows):
            raise ValueError(f"a queue of {len(rows)} cannot hold a batch of {n}, of which each is to "
                             "find itself: make the queue longer or the batch smaller")
        self.newest = z
        return self.objective(p, rows[nearest(z, rows, self.neighbours)])

    def after_step(self, progress: float) -> None:
        self.queue.push(self.newest)
        ema_update(self.teacher, self.student, cosine_momentum(self.momentum, progress))
