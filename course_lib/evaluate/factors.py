"""Factor probe: how well a linear map reads what a picture was drawn from (its class, hue, size, ...) out of features.

It shows what a representation keeps and what it throws away; notebook 10 compares an encoder's features with those
behind its projector.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from course_lib.evaluate.checks import check_features, check_same_width, undisturbed
from course_lib.evaluate.knn import is_right
from course_lib.evaluate.probe import STRENGTHS, linear_probe, standardizer


@undisturbed()
def factor_scores(
    train_z: Float[Tensor, "n d"],
    train_factors: Mapping[str, Tensor],
    test_z: Float[Tensor, "m d"],
    test_factors: Mapping[str, Tensor],
) -> dict[str, Float[Tensor, " m"]]:
    """factor -> what each picture of test adds to how well the factor is read linearly: its mean is `factor_probe`'s
    score, as a share of 1. So two representations can be compared on the same pictures, by `paired_scores`.

    A class: 1 where it is read rightly, 0 where not. A quantity: 1 less its squared error over the variance.

    Raises as `factor_probe`.
    """
    check_features(train_z, "train features", rows=5)
    check_features(test_z, "test features")
    check_same_width(train_z, test_z, "train and test features")
    if set(train_factors) != set(test_factors) or not train_factors:
        raise ValueError(f"train and test must have the same factors, got {sorted(train_factors)} and "
                         f"{sorted(test_factors)}: take both from one data set that has factors, such as toybox")
    scores = {}
    for name, train_t in train_factors.items():
        test_t = test_factors[name]
        if train_t.shape != (len(train_z),) or test_t.shape != (len(test_z),):
            raise ValueError(f"factor {name} must have one value a feature vector, [{len(train_z)}] and "
                             f"[{len(test_z)}], got {list(train_t.shape)} and {list(test_t.shape)}")
        # A class may be the same in all of test; a quantity may not, or there is no variance to explain.
        if any(bool((t == t[0]).all()) for t in ([train_t, test_t] if test_t.is_floating_point() else [train_t])):
            raise ValueError(f"factor {name} must vary to be read, got {train_t[0].item():g} throughout: leave it out")
        cut = len(train_z) - len(train_z) // 5
        parts = (train_z[:cut], train_t[:cut], train_z[cut:], train_t[cut:], test_z)
        if train_t.is_floating_point():
            scores[name] = 1 - _ridge_errors(*parts, test_t) / test_t.double().var(correction=0)
        else:
            scores[name] = is_right(linear_probe(*parts, test_t).probe.scores(test_z), test_t).double()
    return scores


def factor_probe(
    train_z: Float[Tensor, "n d"],
    train_factors: Mapping[str, Tensor],
    test_z: Float[Tensor, "m d"],
    test_factors: Mapping[str, Tensor],
) -> dict[str, float]:
    """factor -> how much of it is read linearly from the features, in percent, on test.

    A factor of whole numbers (int64) is a class: accuracy of `linear_probe`. A factor of floats is a quantity: R², the
    share of its variance that ridge regression explains; 0 is no better than the mean, and below 0 is worse. (An angle
    jumps where it comes round: give its cosine and sine as two factors.) The last fifth of train chooses the L2
    strength and is not fitted on, test scores once.

    Raises ValueError where the factors of train and test differ, lengths do not fit, or a factor never varies.
    """
    scores = factor_scores(train_z, train_factors, test_z, test_factors)
    return {name: 100 * each.mean().item() for name, each in scores.items()}


def _ridge_errors(train_z, train_t, val_z, val_t, test_z, test_t) -> Float[Tensor, " m"]:
    """Squared errors on test of a fit on train; the strength is chosen on val."""
    errors = {l2: _squared_errors(train_z, train_t, val_z, val_t, l2).mean().item() for l2 in STRENGTHS}
    return _squared_errors(train_z, train_t, test_z, test_t, min(errors, key=errors.get))


def _squared_errors(z: Tensor, t: Tensor, new_z: Tensor, new_t: Tensor, l2: float) -> Float[Tensor, " m"]:
    """Squared errors on new rows of the w, b minimising mean (x w + b - t)² / 2 + l2 / 2 |w|², x standardised."""
    z, t, new_z, new_t = z.double(), t.double(), new_z.double(), new_t.double()
    mean, std = standardizer(z)
    x = (z - mean) / std
    penalty = l2 * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    w = torch.linalg.solve(x.T @ x / len(x) + penalty, x.T @ (t - t.mean()) / len(x))
    return ((new_z - mean) / std @ w + t.mean() - new_t).square()
