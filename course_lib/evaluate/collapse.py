"""Has the encoder collapsed? Measures of how features fill their space, none of which reads a label."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from course_lib.evaluate.checks import check_features, check_same_width, undisturbed


@undisturbed()
def rankme(z: Float[Tensor, "n d"]) -> float:
    """The effective rank of the features: exp of the entropy of the normalised singular values, from 1 to min(n, d).

    1 where every feature vector lies on one line, d where all directions are used alike, 0 where all are zero. Features
    are not centred. Garrido et al. 2023, "RankMe", equation 1.

    Raises ValueError where the features do not fit.
    """
    check_features(z, "features")
    z = z.double()
    gram = z.T @ z if len(z) >= z.shape[1] else z @ z.T  # its eigenvalues are the squared singular values
    square = torch.linalg.eigvalsh(gram)
    if not square[-1] > 0:
        return 0.0
    noise = square[-1] * max(z.shape) * torch.finfo(z.dtype).eps
    singular = square[square > noise].sqrt()
    p = singular / singular.sum()
    return torch.special.entr(p).sum().exp().item()


@undisturbed()
def alignment(z1: Float[Tensor, "n d"], z2: Float[Tensor, "n d"]) -> float:
    """Mean squared distance of two views of one picture, features scaled to length 1: 0 (the same) to 4 (opposite).

    Wang and Isola 2020, "Understanding contrastive representation learning through alignment and uniformity",
    equation 6 with alpha = 2. Raises ValueError where the features do not fit each other.
    """
    check_features(z1, "the first view's features")
    check_features(z2, "the second view's features")
    check_same_width(z1, z2, "both views' features")
    if len(z1) != len(z2):
        raise ValueError(f"both views must be of the same pictures, got {len(z1)} and {len(z2)}: "
                         "give one row a picture, in the same order")
    return (F.normalize(z1, dim=1) - F.normalize(z2, dim=1)).square().sum(dim=1).double().mean().item()


@undisturbed()
def uniformity(z: Float[Tensor, "n d"], t: float = 2, *, chunk: int = 1024) -> float:
    """log of the mean over all pairs i < j of exp(-t * squared distance), features scaled to length 1.

    0 where all features are the same; towards -2t where they spread evenly over a sphere of many dimensions. Wang and
    Isola 2020, equation 8. All pairs are taken, `chunk` rows at a time.

    Raises ValueError for fewer than two rows or features that do not fit.
    """
    check_features(z, "features", rows=2)
    z = F.normalize(z, dim=1)
    length = z.square().sum(dim=1)  # 1, but for a vector of zeros
    total = torch.zeros((), dtype=torch.float64, device=z.device)
    for start in range(0, len(z), chunk):
        some, rest = z[start : start + chunk], z[start:]
        square = length[start : start + chunk, None] + length[start:] - 2 * some @ rest.T
        total += square.mul_(-t).exp_().triu_(diagonal=1).sum(dtype=torch.float64)
    return (total / (len(z) * (len(z) - 1) / 2)).log().item()


@undisturbed()
def feature_std(z: Float[Tensor, "n d"]) -> float:
    """Mean over dimensions of the standard deviation of features scaled to length 1, times the square root of d.

    0 where all features are the same (collapse); 1 where they spread evenly over the sphere. In between, features share
    a common part: those behind a ReLU are never negative, so a healthy encoder ends below 1. Chen and He 2021,
    "SimSiam", section 4.1.

    Raises ValueError for fewer than two rows or features that do not fit.
    """
    check_features(z, "features", rows=2)
    return (F.normalize(z, dim=1).std(dim=0, correction=0).mean() * z.shape[1] ** 0.5).item()
