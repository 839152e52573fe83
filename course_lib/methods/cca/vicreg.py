"""VICReg: views agree, no dimension dies, no two dimensions say the same (Bardes, Ponce and LeCun 2022)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from course_lib import augment
from course_lib.methods.base import Batch, Method
from course_lib.nets import mlp
from course_lib.parts import check_pair, full_precision, gather


@full_precision
def vicreg_loss(z1: Float[Tensor, "n d"], z2: Float[Tensor, "n d"], invariance: float = 25.0, variance: float = 25.0,
                covariance: float = 1.0) -> dict[str, Float[Tensor, ""]]:
    """invariance·s + variance·v + covariance·c (equations 1 to 6), and each term before its weight.

    s: mean squared difference over all N·D entries. v: hinge at a deviation of 1, mean over dimensions and over the two
    views. c: squared off-diagonal covariances summed and divided by D, for each view. Variance and covariance are the
    unbiased ones. A collapse to one point costs variance·0.99, since each deviation is then √1e-4.
    """
    check_pair(z1, z2)
    s = F.mse_loss(z1, z2)
    v = sum(F.relu(1 - (z.var(dim=0) + 1e-4).sqrt()).mean() for z in (z1, z2)) / 2
    c = sum(off_diagonal_energy(torch.atleast_2d(torch.cov(z.T))) / z.shape[1] for z in (z1, z2))
    return {"loss": invariance * s + variance * v + covariance * c, "invariance": s, "variance": v, "covariance": c}


def off_diagonal_energy(matrix: Float[Tensor, "d d"]) -> Float[Tensor, ""]:
    """The sum of squares off the diagonal."""
    return matrix.square().sum() - matrix.diagonal().square().sum()


class VICReg(Method):
    """Two views, one encoder, a wide expander, and `vicreg_loss` between the expansions; nothing is normalised."""

    def __init__(self, encoder: nn.Module, *, dim: int = 1024, invariance: float = 25.0, variance: float = 25.0,
                 covariance: float = 1.0, views: nn.Module | None = None):
        super().__init__(encoder, views or augment.simclr())
        self.expander = mlp(encoder.dim, dim, dim, dim)
        self.weights = {"invariance": invariance, "variance": variance, "covariance": covariance}

    def objective(self, z1: Float[Tensor, "n d"], z2: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, ""]]:
        """The loss of the expansions of every process's pictures: the one line to override for another loss."""
        return vicreg_loss(z1, z2, **self.weights)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        z1, z2 = (gather(self.expander(self.encoder(self.view(batch.x)))) for _ in range(2))
        return self.objective(z1, z2)
