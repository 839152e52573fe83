"""NNCLR: the positive is not the other view, but its nearest neighbour among pictures seen before (Dwibedi et al. 2021)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_lib import augment
from course_lib.methods.base import Batch, Method
from course_lib.nets import mlp
from course_lib.parts import Queue, batch_info_nce, gather


@torch.no_grad()
def nearest(z: Float[Tensor, "n d"], rows: Float[Tensor, "size d"], k: int = 1) -> Int64[Tensor, "n k"]:
    """The numbers of the k rows with the largest cosine with each z, nearest first; rows of length 1."""
    return (F.normalize(z.to(rows.dtype), dim=1) @ rows.T).topk(k, dim=1).indices


class NNCLR(Method):
    """A view's projection looks up its nearest neighbour in a queue, and the other view's prediction must find that
    neighbour among those of the whole batch (equation 3, both ways).

    queue: how many projections it holds; of earlier batches alone, or a view would find itself. hidden, dim: of
    projector and predictor.
    """

    not_shipped = ("queue.",)

    def __init__(self, encoder: nn.Module, *, hidden: int = 1024, dim: int = 256, queue: int = 4096,
                 temperature: float = 0.1, views: nn.Module | None = None):
        super().__init__(encoder, views or augment.simclr())
        self.projector = mlp(encoder.dim, hidden, dim, last_norm=True)
        self.predictor = mlp(dim, hidden, dim)
        self.queue, self.temperature = Queue(queue, dim), temperature

    def objective(self, p: Float[Tensor, "n d"], neighbours: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
        """The loss of one view's predictions and the other's neighbours: the line to override for another loss."""
        return batch_info_nce(neighbours, p, self.temperature)

    def loss(self, batch: Batch) -> Tensor:
        z1, z2 = (self.projector(self.encoder(self.view(batch.x))) for _ in range(2))
        p1, p2 = gather(self.predictor(z1)), gather(self.predictor(z2))
        rows = self.queue.get()
        found1, found2 = (gather(rows[nearest(z, rows)[:, 0]]) for z in (z1, z2))
        self.newest = z1.detach()
        return (self.objective(p1, found2) + self.objective(p2, found1)) / 2

    def after_step(self, progress: float) -> None:
        self.queue.push(self.newest)
