"""SupCon: contrast with every view of the same class as a positive (Khosla et al. 2020)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_lib import augment
from course_lib.methods.base import Batch, Method
from course_lib.nets import mlp
from course_lib.parts import check_temperature, full_precision, gather


@full_precision
def supcon_loss(z: Float[Tensor, "n v d"], labels: Int64[Tensor, " n"], temperature: float = 0.1,
                mean: str = "outside") -> Float[Tensor, ""]:
    """Cross-entropy of an anchor view with all views of its class, mean over anchors; V views of each of N pictures.

    mean: where that over positives stands. "outside" the logarithm is the paper's L_out (equation 2), "inside" its
    L_in (equation 3), whose gradient lets the positives that are near already have most of the say. There is no factor
    τ/0.07 in front, as the paper's own code has.
    With two views and labels that are all different both are NT-Xent. Random embeddings of many dimensions give
    log(NV − 1).
    Raises ValueError for other shapes, a batch in which no view has a positive, a temperature that is not positive, or
    another `mean`.
    """
    if z.ndim != 3 or labels.shape != (len(z),):
        raise ValueError(f"views of pictures [N, V, D] need a label a picture, [N], got {list(z.shape)} and "
                         f"{list(labels.shape)}: stack views with torch.stack([z1, z2], 1)")
    check_temperature(temperature)
    if mean not in ("outside", "inside"):
        raise ValueError(f"mean must be 'outside' or 'inside' of the logarithm, got {mean!r}")
    y = labels.repeat_interleave(z.shape[1])
    z = F.normalize(z.flatten(0, 1), dim=1)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    positive = (y[:, None] == y) & ~itself
    some = positive.any(1)
    if not some.any():
        raise ValueError("no view has a positive in this batch: give two views of each picture, or more pictures")
    log_share = (z @ z.T / temperature).masked_fill(itself, float("-inf")).log_softmax(1)[some]
    positive = positive[some]
    count = positive.sum(1).to(z.dtype)
    if mean == "outside":
        return -(log_share.masked_fill(~positive, 0).sum(1) / count).mean()
    return (count.log() - log_share.masked_fill(~positive, float("-inf")).logsumexp(1)).mean()


class SupCon(Method):
    """SimCLR that is told the classes: two views, a projector, and `supcon_loss` between the projections.

    mean: "outside" or "inside", as in `supcon_loss`.
    """

    needs = frozenset({"labels"})
    objective = staticmethod(supcon_loss)  # the loss of projections: a subclass may name another

    def __init__(self, encoder: nn.Module, *, dim: int = 128, temperature: float = 0.1, mean: str = "outside",
                 views: nn.Module | None = None):
        super().__init__(encoder, views or augment.simclr())
        if mean not in ("outside", "inside"):
            raise ValueError(f"mean must be 'outside' or 'inside' of the logarithm, got {mean!r}")
        self.projector = mlp(encoder.dim, encoder.dim, dim)
        self.temperature, self.mean = temperature, mean

    def loss(self, batch: Batch) -> Tensor:
        z = torch.stack([self.projector(self.encoder(self.view(batch.x))) for _ in range(2)], 1)
        return self.objective(gather(z), gather(batch.y), self.temperature, self.mean)
