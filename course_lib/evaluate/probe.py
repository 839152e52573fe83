"""The linear probe: how well a linear map reads the classes out of frozen features."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from course_lib.evaluate.checks import PATIENCE, check_features, check_labels, check_same_width, undisturbed
from course_lib.evaluate.knn import accuracy
from course_lib.progress import bar

STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


@dataclasses.dataclass(frozen=True)
class Probe:
    """A fitted linear map from features to class scores.

    mean, std: `[d]`, by which features are standardised. weight: `[d, classes]`. bias: `[classes]`.
    l2: the penalty it was fitted with. gradient: the largest entry of the gradient where fitting stopped.
    converged: whether that is within the tolerance.
    """

    mean: Float[Tensor, " d"]
    std: Float[Tensor, " d"]
    weight: Float[Tensor, "d classes"]
    bias: Float[Tensor, " classes"]
    l2: float
    gradient: float
    converged: bool

    @undisturbed()
    def scores(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n classes"]:
        """Class scores (logits); their softmax is the probability of each class."""
        check_features(z, "features")
        check_same_width(z, self.mean[None], "the features and the probe")
        return ((z - self.mean) / self.std) @ self.weight + self.bias


@dataclasses.dataclass(frozen=True)
class ProbeResult:
    """What `linear_probe` found.

    probe: the one fitted on train with the strength chosen. top1, top5: its accuracy on test, in percent.
    l2: the strength chosen. val_top1: strength that was tried -> accuracy on val, in percent. at_end: "strongest" or
    "weakest" where an end of the grid is better on val by more than chance, so that a wider grid might do better; None
    otherwise. converged: whether every fit, along the whole path, reached its gradient tolerance.
    """

    probe: Probe
    top1: float
    top5: float
    l2: float
    val_top1: dict[float, float]
    at_end: str | None
    converged: bool


@undisturbed()
def fit_probe(
    z: Float[Tensor, "n d"],
    y: Int64[Tensor, " n"],
    *,
    l2: float,
    classes: int | None = None,
    standard: tuple[Float[Tensor, " d"], Float[Tensor, " d"]] | None = None,
    start: Probe | None = None,
    tolerance: float = 1e-4,
    max_iter: int = 500,
) -> Probe:
    """Multinomial logistic regression on standardised features, by full-batch L-BFGS.

    With x = (z - mean) / std it minimises over W `[d, classes]` and b `[classes]`

        mean over the n rows of cross_entropy(x W + b, y)  +  l2 / 2 * (sum of squares of W)

    b is not penalised. scikit-learn's LogisticRegression(C=1 / (n * l2)) minimises the same, times a constant.

    classes: how many there are; by default as many as the largest label says.
    standard: mean and std to standardise with, such as `standardizer` of many more pictures; by default those of z.
    start: a probe to start from, such as that of the next stronger penalty; zeros if None.
    tolerance: stop where no entry of the gradient, in the coordinates that `_Problem.solve` searches, is larger.

    Raises ValueError where l2 is not above 0, only one class occurs, or features and labels do not fit.
    """
    check_features(z, "features", rows=2)
    check_labels(y, z, "labels", classes)
    return _Problem(z, y, classes or 1 + int(y.max()), standard).solve(l2, start, tolerance, max_iter)


def standardizer(z: Float[Tensor, "n d"]) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    """Mean and standard deviation of each dimension; 1 for a dimension that is constant up to rounding."""
    std, mean = torch.std_mean(z, dim=0, correction=0)
    rounding = 10 * torch.finfo(z.dtype).eps * mean.abs()
    return mean, torch.where(std > rounding, std, torch.ones_like(std))


class _Problem:
    """Standardised features, labels, and what every strength shares."""

    def __init__(self, z: Tensor, y: Tensor, classes: int, standard: tuple[Tensor, Tensor] | None = None):
        if bool((y == y[0]).all()):
            raise ValueError(f"labels must hold at least two classes, got class {int(y[0])} alone: a probe learns to "
                             "tell classes apart, so take more pictures or shuffle before taking a part")
        self.y, self.classes = y.clone(), classes  # a copy, since gradients want no tensor of inference mode
        self.mean, self.std = standard or standardizer(z)
        self.x = (z - self.mean) / self.std
        # It steers the search (see solve). Of all rows: a few far out, as untrained encoders have, carry much of it.
        self.covariance = (self.x.T @ self.x).double() / len(z)

    def solve(self, l2: float, start: Probe | None, tolerance: float, max_iter: int) -> Probe:
        # L-BFGS is slow where some directions of feature space carry thousands of times the variance of others. So it
        # works on V = R W with R'R = covariance / classes + l2, the second derivative at W = 0: near the start every
        # direction curves alike. The objective and its minimum stay the same; a fit takes tens of steps, not thousands.
        # All but the features is float64: in float32 the last steps of the line search drown in the loss's rounding.
        if not l2 > 0:
            raise ValueError(f"l2 must be above 0, got {l2}: separable classes have no solution without a penalty")
        x, d = self.x, self.x.shape[1]
        identity = torch.eye(d, dtype=torch.float64, device=x.device)
        curvature = self.covariance / self.classes
        root, failed = torch.linalg.cholesky_ex(curvature + l2 * identity)
        if failed:  # fewer pictures than dimensions: rounding of the covariance weighs more than a weak penalty
            root = torch.linalg.cholesky(curvature + (l2 + 1e-5 * curvature.diagonal().mean()) * identity)
        root = root.mT
        if start is None:
            v, bias = root.new_zeros(d, self.classes), root.new_zeros(self.classes)
        else:
            # The same scores, where the features were standardised by another mean and deviation.
            shift = ((self.mean - start.mean) / start.std).double() @ start.weight.double()
            v = root @ (start.weight * (self.std / start.std)[:, None]).double()
            bias = start.bias.double() + shift
        optimizer = torch.optim.LBFGS(
            [v.requires_grad_(), bias.requires_grad_()], max_iter=max_iter, history_size=20,
            tolerance_grad=tolerance, tolerance_change=0, line_search_fn="strong_wolfe",
        )

        def objective() -> Tensor:
            optimizer.zero_grad()
            weight = torch.linalg.solve_triangular(root, v, upper=True)
            scores = (x @ weight.to(x.dtype)).double() + bias
            loss = F.cross_entropy(scores, self.y) + l2 / 2 * weight.square().sum()
            loss.backward()
            return loss

        with torch.enable_grad():
            optimizer.step(objective)
            objective()  # the line search may have tried a point after the one that it kept
        gradient = max(v.grad.abs().max().item(), bias.grad.abs().max().item())
        weight = torch.linalg.solve_triangular(root, v.detach(), upper=True)
        return Probe(self.mean, self.std, weight.to(x.dtype), bias.detach().to(x.dtype), l2, gradient,
                     gradient <= tolerance)


@undisturbed()
def linear_probe(
    train_z: Float[Tensor, "n d"],
    train_y: Int64[Tensor, " n"],
    val_z: Float[Tensor, "v d"],
    val_y: Int64[Tensor, " v"],
    test_z: Float[Tensor, "m d"],
    test_y: Int64[Tensor, " m"],
    *,
    classes: int | None = None,
    strengths: Sequence[float] = STRENGTHS,
    tolerance: float = 1e-4,
    max_iter: int = 500,
    quiet: bool = False,
) -> ProbeResult:
    """`fit_probe` on train for each strength, the best chosen on val, and test scored once with that very probe.

    Strengths are tried from strong to weak, each fit starting from the last, until val falls by more than a standard
    error of its best accuracy: weaker ones overfit more. Of equals on val the strongest is chosen.
    Standardising uses train alone. Nothing is fitted on val: it chooses, and stays fit for comparing encoders.

    quiet: show no progress bar, however long it takes. Raises as `fit_probe`.
    """
    parts = {"train": (train_z, train_y), "val": (val_z, val_y), "test": (test_z, test_y)}
    for name, (z, y) in parts.items():
        check_features(z, f"{name} features")
        check_same_width(train_z, z, f"train and {name} features")
        check_labels(y, z, f"{name} labels", classes)
    classes = classes or 1 + max(int(y.max()) for _, y in parts.values())
    with bar(total=len(strengths), desc="linear probe", unit="fit", delay=PATIENCE, quiet=quiet) as fitted:
        path = search(train_z, train_y, val_z, val_y, classes, strengths, tolerance, max_iter, fitted.update)
        fitted.total = fitted.n  # weaker strengths may have been left out
    scores = path.best.scores(test_z)
    return ProbeResult(
        path.best,
        top1=accuracy(scores, test_y),
        top5=accuracy(scores, test_y, top=5),
        l2=path.best.l2,
        val_top1=path.val_top1,
        at_end=_end(strengths, path.best.l2, path.val_top1, len(val_y)),
        converged=path.converged,
    )


@dataclasses.dataclass(frozen=True)
class Path:
    """What `search` found: the best probe on val, strength that was tried -> top-1 on val, did every fit converge."""

    best: Probe
    val_top1: dict[float, float]
    converged: bool


def search(train_z: Tensor, train_y: Tensor, val_z: Tensor, val_y: Tensor, classes: int,
           strengths: Sequence[float] = STRENGTHS, tolerance: float = 1e-4, max_iter: int = 500,
           fitted: Callable[[], object] = lambda: None) -> Path:
    """Probes on train from strong to weak, until val falls; see `linear_probe`. fitted: called after each fit."""
    problem = _Problem(train_z, train_y, classes)
    fits, val_top1 = [], {}
    for l2 in sorted(strengths, reverse=True):
        fits.append(problem.solve(l2, fits[-1] if fits else None, tolerance, max_iter))
        val_top1[l2] = accuracy(fits[-1].scores(val_z), val_y)
        fitted()
        highest = max(val_top1.values())
        if val_top1[l2] < highest - _standard_error(highest, len(val_y)):
            break
    best = max(fits, key=lambda fit: val_top1[fit.l2])  # the first of equals: the strongest
    return Path(best, val_top1, all(fit.converged for fit in fits))


def _standard_error(top1: float, n: int) -> float:
    """How far an accuracy on n pictures, in percent, lies from the true one by chance."""
    return (top1 * (100 - top1) / n) ** 0.5


def _end(strengths: Sequence[float], chosen: float, val_top1: dict[float, float], n: int) -> str | None:
    """Which end of the grid was chosen, where it beats its neighbour by more than chance: less promises nothing."""
    grid = sorted(strengths, reverse=True)
    margin = _standard_error(val_top1[chosen], n)
    for name, end, neighbour in (("strongest", 0, 1), ("weakest", -1, -2)):
        if len(grid) > 1 and chosen == grid[end] and val_top1[chosen] > val_top1[grid[neighbour]] + margin:
            return name
    return None
