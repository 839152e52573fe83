"""Triplets: nearer to a picture of its class than to one of another, by a margin (Schroff et al. 2015, FaceNet)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_lib import augment
from course_lib.methods.base import Batch, Method
from course_lib.nets import mlp
from course_lib.parts import full_precision, gather


@torch.no_grad()
def semi_hard_triplets(z: Float[Tensor, "n d"], labels: Int64[Tensor, " n"]
                       ) -> tuple[Int64[Tensor, " t"], Int64[Tensor, " t"], Int64[Tensor, " t"]]:
    """For every ordered pair of one label, the negative that is to teach it: numbers of anchors, positives, negatives.

    The nearest negative that is further from the anchor than the positive is ("semi-hard", section 3.2); where none
    is, the furthest there is. The hardest of all would be taken most often from wrong labels and outliers.
    z: L2-normalised. Anchors without a positive or a negative in the batch have no triplet.
    """
    squared = 2 - 2 * z @ z.T
    same = labels[:, None] == labels
    anchor, positive = (same & ~torch.eye(len(z), dtype=torch.bool, device=z.device)).nonzero(as_tuple=True)
    some = ~same.all(1)[anchor]
    anchor, positive = anchor[some], positive[some]
    to_others = squared[anchor].masked_fill(same[anchor], torch.nan)  # [T, N]; never a positive
    further = to_others > squared[anchor, positive, None]
    nearest_further = to_others.masked_fill(~further, torch.inf).argmin(1)
    furthest = to_others.nan_to_num(nan=-torch.inf).argmax(1)
    return anchor, positive, torch.where(further.any(1), nearest_further, furthest)


@full_precision
def triplet_loss(z: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], margin: float = 0.2) -> Float[Tensor, ""]:
    """max(0, d²(a, p) − d²(a, n) + margin), mean over the batch's `semi_hard_triplets` (section 3.1).

    z is L2-normalised here, so d² lies in [0, 4]. 0 for a batch without a triplet, with gradients of 0; `margin` for
    embeddings that are all equal. Raises ValueError for other shapes or a margin that is not positive.
    """
    terms = triplet_terms(z, labels, margin)
    return terms.mean() if len(terms) else 0 * z.sum()


def triplet_terms(z: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], margin: float) -> Float[Tensor, " t"]:
    """What each triplet costs. Those at 0 teach nothing. Raises as `triplet_loss`."""
    if z.ndim != 2 or labels.shape != (len(z),):
        raise ValueError(f"embeddings [N, D] need a label each, [N], got {list(z.shape)} and {list(labels.shape)}")
    if not margin > 0:
        raise ValueError(f"margin must be positive, got {margin}: 0.2 is usual")
    z = F.normalize(z, dim=1)
    anchor, positive, negative = semi_hard_triplets(z, labels)
    near, far = ((z[anchor] - z[other]).square().sum(1) for other in (positive, negative))
    return (near - far + margin).clamp(min=0)


class Triplet(Method):
    """Semi-hard triplets of the batch. It logs which share of them still costs something, "active".

    dim: of the embedding, which a head makes of the encoder's vector. margin: as in `triplet_loss`.
    """

    needs = frozenset({"labels"})
    objective = staticmethod(triplet_loss)  # the loss of a batch: a subclass may name another

    def __init__(self, encoder: nn.Module, *, dim: int = 128, margin: float = 0.2, views: nn.Module | None = None):
        super().__init__(encoder, views or augment.weak())
        self.head = mlp(encoder.dim, encoder.dim, dim)
        self.margin = margin

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        z, y = gather(self.head(self.encoder(self.view(batch.x)))), gather(batch.y)
        with torch.no_grad():
            terms = triplet_terms(z.float(), y, self.margin)
            active = (terms > 0).float().mean() if len(terms) else 0.0
        return {"loss": self.objective(z, y, self.margin), "active": active}
