"""Siamese network: what shares a label shall lie near, what does not shall keep its distance (Hadsell et al. 2006)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from course_lib import augment
from course_lib.methods.base import Batch, Method
from course_lib.nets import mlp
from course_lib.parts import check_pair, full_precision, gather


@full_precision
def contrastive_pair_loss(z1: Float[Tensor, "n d"], z2: Float[Tensor, "n d"], same: Bool[Tensor, " n"],
                          margin: float = 1.0) -> Float[Tensor, ""]:
    """same·d² + (1 − same)·max(0, m − d)², mean over pairs, with the Euclidean distance d (equation 4, without its ½).

    same: whether the pair has one label. A pair of two labels that is further apart than the margin costs nothing.
    Raises ValueError for other shapes or a margin that is not positive.
    """
    check_pair(z1, z2, smallest=1)
    if same.shape != (len(z1),):
        raise ValueError(f"same must say of each of the {len(z1)} pairs whether it has one label, got "
                         f"{list(same.shape)}")
    if not margin > 0:
        raise ValueError(f"margin must be positive, got {margin}: 1 is usual")
    squared = (z1 - z2).square().sum(1)
    distance = squared.clamp(min=1e-12).sqrt()  # at 0 the root has no gradient; the clamp makes it 0
    return torch.where(same.bool(), squared, (margin - distance).clamp(min=0).square()).mean()


class Siamese(Method):
    """All pairs of a batch: those of one label and those of two count the same, however many there are of each.

    dim: of the embedding, which a head makes of the encoder's vector. margin: as in `contrastive_pair_loss`.
    """

    needs = frozenset({"labels"})
    objective = staticmethod(contrastive_pair_loss)  # the loss of pairs: a subclass may name another

    def __init__(self, encoder: nn.Module, *, dim: int = 128, margin: float = 1.0, views: nn.Module | None = None):
        super().__init__(encoder, views or augment.weak())
        self.head = mlp(encoder.dim, encoder.dim, dim)
        self.margin = margin

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        z, y = gather(self.head(self.encoder(self.view(batch.x)))), gather(batch.y)
        first, second = torch.triu_indices(len(z), len(z), offset=1, device=z.device)
        same = y[first] == y[second]
        # Of ten classes nine pairs in ten are of two labels, and a plain mean would hardly feel the others.
        terms = {name: self.objective(z[first[pairs]], z[second[pairs]], same[pairs], self.margin)
                 for name, pairs in (("together", same), ("apart", ~same)) if pairs.any()}
        return {"loss": sum(terms.values()) / len(terms), **terms}
