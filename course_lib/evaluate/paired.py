"""Is one encoder better than another? Their answers on the same pictures, compared picture by picture.

Two accuracies on the same pictures vary together: a hard picture is hard for both. So the pictures on which they differ
decide, and the interval of the difference is far narrower than two intervals of their own would suggest.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Difference:
    """How much more often a is right than b, in percentage points, or how much higher its scores are, in hundredths,
    with an interval of 95 %.

    points: as it was observed. low, high: the interval. pictures: on how many it was seen. seeds: how many trainings of
    a and of b it is the mean of. With one of each, it is about these two trainings: how others of the same two recipes
    would differ is not in the interval. With 0 for both, no training sets them apart: two floors, or one network used
    twice.
    """

    points: float
    low: float
    high: float
    pictures: int
    seeds: tuple[int, int]

    @property
    def counts_seeds(self) -> bool:
        """Whether the spread between trainings with different seeds is in the interval."""
        return max(self.seeds) > 1

    def __str__(self) -> str:
        return f"{one_decimal(self.points, sign='+')} points ({one_decimal(self.low)} to {one_decimal(self.high)})"

    def __repr__(self) -> str:
        a, b = self.seeds
        once = f"one training{' of each' if min(a, b) else ''}, so the spread between seeds is not counted"
        seeds = ("no training sets them apart" if not max(a, b) else once if not self.counts_seeds else
                 f"{a} seeds each" if a == b else f"{a} and {b} seeds")
        return f"{self}, 95 %, on {self.pictures:,} pictures, {seeds}"


def one_decimal(value: float, sign: str = "") -> str:
    """A number with one decimal, and never "-0.0"."""
    return f"{round(value, 1) + 0.0:{sign}.1f}"


def paired(a: Bool[Tensor, "n"] | Bool[Tensor, "s n"], b: Bool[Tensor, "n"] | Bool[Tensor, "t n"]) -> Difference:
    """a - b in percentage points with a 95 % interval, from who was right on the same n pictures.

    a, b: for each picture whether it was right, one row a seed. The seeds of a and of b need not be as many.

    With d the difference of a picture's means over the seeds, the interval is d̄ ± t·√(P + max(S - E, 0)):

    - P, from the choice of pictures: the variance of d over n, after two pictures were added, one that a alone has
      right and one that b alone has right; d̄ is the mean with them too. With one seed each, this is the whole interval,
      the adjusted Wald interval of Bonett and Price 2012, "Adjusted Wald confidence interval for a difference of
      binomial proportions based on paired data", equation 6: plain Wald is too narrow where few pictures decide.
    - S, from the choice of seeds: the variance of each side's accuracies over its number of seeds, both sides added. A
      side with one seed is given the other side's variance.
    - E, what is in both P and S: trainings differ in each single picture by chance. It is the residual mean square of
      seeds by pictures, over their number, so that P + S - E is free of bias, as for any mean of a crossed table of two
      random factors (Searle, Casella and McCulloch 1992, "Variance components", section 4.3).
    - t: Student's, with the degrees of freedom of Satterthwaite 1946 for such a sum; 1.96 with one seed each.

    Trainings of a and b with the same number for a seed are taken for independent.

    Raises TypeError for what is no tensor of bools, ValueError for other shapes, no picture, or not the same pictures.
    """
    a, b = _both(a, b)
    d = torch.cat([a.mean(0) - b.mean(0), torch.tensor([1.0, -1.0], dtype=torch.float64, device=a.device)])
    found = _difference(a, b, d.mean().item(), d.var(correction=0).item() / len(d), len(d) - 1)
    return dataclasses.replace(found, low=max(found.low, -100.0), high=min(found.high, 100.0))


def paired_scores(a: Float[Tensor, "n"] | Float[Tensor, "s n"], b: Float[Tensor, "n"] | Float[Tensor, "t n"]
                  ) -> Difference:
    """a - b in hundredths with a 95 % interval, from scores of the same n things, such as J of films.

    a, b: a score for each, one row a seed. The interval is that of `paired`, with nothing added to what was measured:
    with one seed each it is d̄ ± 1.96 standard errors over the n, with several it counts the spread between them too.

    Raises TypeError for what is no tensor of floats, ValueError as `paired`, and for fewer than two things.
    """
    a, b = _both(a, b, scores=True)
    d = a.mean(0) - b.mean(0)
    if len(d) < 2:
        raise ValueError("an interval needs two things that were measured or more, got one: measure more of them")
    return _difference(a, b, d.mean().item(), d.var().item() / len(d), len(d) - 1)


def _difference(a: Float[Tensor, "s n"], b: Float[Tensor, "t n"], center: float, of_pictures: float,
                freedom_of_pictures: int) -> Difference:
    """The interval of `paired`, from its centre, P and P's degrees of freedom."""
    n, seeds = a.shape[1], (len(a), len(b))
    observed = (a.mean() - b.mean()).item()
    variance, freedom = of_pictures, math.inf
    if max(seeds) > 1:
        like_a, like_b = (a if len(a) > 1 else b), (b if len(b) > 1 else a)
        of_a, of_b = (side.mean(dim=1).var().item() / s for side, s in zip((like_a, like_b), seeds, strict=True))
        counted_twice = sum(_residual(side) / (s * n) for side, s in zip((like_a, like_b), seeds, strict=True))
        variance += max(of_a + of_b - counted_twice, 0.0)
        squares = of_pictures**2 / freedom_of_pictures
        if min(seeds) > 1:
            squares += of_a**2 / (len(a) - 1) + of_b**2 / (len(b) - 1)
        else:  # one estimate serves both sides
            squares += (of_a + of_b) ** 2 / (max(seeds) - 1)
        freedom = max(variance**2 / squares, 1.0) if squares else math.inf
    half = student_t(freedom) * math.sqrt(variance)
    return Difference(100 * observed, 100 * (center - half), 100 * (center + half), n, seeds)


def _both(a: Tensor, b: Tensor, scores: bool = False) -> tuple[Tensor, Tensor]:
    """Both as rows, of the same pictures."""
    a, b = _rows(a, "a", scores), _rows(b, "b", scores)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"a and b must be of the same pictures, got {a.shape[1]} and {b.shape[1]}: take both on the "
                         "same part of the same data set")
    return a, b


def _rows(right: Tensor, name: str, scores: bool = False) -> Float[Tensor, "s n"]:
    """Who was right, as 0 and 1, or scores as they are, one row a seed."""
    if scores and not (isinstance(right, Tensor) and right.is_floating_point()):
        raise TypeError(f"{name} must be a tensor of floats, one score a picture or film, got {type(right).__name__}: "
                        "who was right is for paired(a, b)")
    if not scores and (not isinstance(right, Tensor) or right.dtype != torch.bool):
        got = right.dtype if isinstance(right, Tensor) else type(right).__name__
        raise TypeError(f"{name} must be a tensor of bools, one a picture, got {got}: take report.right[...], "
                        "runs.right(...) or predicted == y")
    rows = right[None] if right.ndim == 1 else right
    if rows.ndim != 2 or 0 in rows.shape:
        raise ValueError(f"{name} must say for at least one picture whether it was right, [n] or [seeds, n], got "
                         f"{list(right.shape)}")
    return rows.double()


def _residual(right: Float[Tensor, "s n"]) -> float:
    """Mean square of what neither the seed's mean nor the picture's explains."""
    seeds, n = right.shape
    rest = right - right.mean(dim=1, keepdim=True) - right.mean(dim=0) + right.mean()
    return rest.square().sum().item() / ((seeds - 1) * max(n - 1, 1))


def student_t(freedom: float) -> float:
    """The t within which Student's distribution of so many degrees of freedom has 95 %, on both sides of 0 together:
    4.30 for 2 degrees, 1.96 for infinitely many. freedom: at least 1, not only whole numbers.
    """
    if freedom > 1e6:
        return 1.959963984540054
    # With t = √f·tan(x) the density becomes a multiple of cos(x)^(f - 1), whose integral is read at 0.95. The largest t
    # that is ever asked for, of one degree of freedom, is 12.7.
    x = torch.linspace(0, math.atan(13 / math.sqrt(freedom)), 5001, dtype=torch.float64)
    scale = 2 * math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    share = scale * torch.cumulative_trapezoid(x.cos() ** (freedom - 1), x)
    return math.sqrt(freedom) * math.tan(np.interp(0.95, share, x[1:]))


def claim(sentence: str, shown: Difference | bool, *, above: float = 0.0, below: float | None = None, same: bool = False
          ) -> None:
    """Print one line that says whether the numbers bear a sentence out: "✓ sentence: +5.6 points (4.4 to 6.8)" or ✗.

    shown: a `Difference`, which bears it out where its whole interval lies above `above`; a plain comparison of
        numbers, such as `loss < math.log(10)`, is taken as it is, and the line says that it has no interval.
    above: in percentage points. below: claim instead that the whole interval lies below so many points. same: claim
        that there is no difference to be measured, so the interval must hold 0.

    Raises TypeError for anything else, ValueError where `above`, `below` or `same` does not fit.
    """
    if isinstance(shown, Difference):
        if (above != 0) + (below is not None) + same > 1:
            raise ValueError("a claim is of a difference above so many points, below so many, or of none at all: "
                             "give one of above, below and same")
        true = shown.low <= 0 <= shown.high if same else shown.low > above if below is None else shown.high < below
        what = f"no difference that we can measure, {shown}" if same and true else str(shown)
        if above:
            what += f", claimed above {above:g}"
        if below is not None:
            what += f", claimed below {below:g}"
        if max(shown.seeds) == 1:
            what += "; one training" + (" of each" if min(shown.seeds) else "")
    else:
        if isinstance(shown, np.bool_) or (isinstance(shown, Tensor) and shown.ndim == 0 and shown.dtype == torch.bool):
            shown = bool(shown)
        if not isinstance(shown, bool):
            raise TypeError(f"a claim is borne out by a Difference or by True or False, got {type(shown).__name__}: "
                            "give evaluate.paired(a, b), or a comparison such as loss < 1")
        if same or above or below is not None:
            raise ValueError("above, below and same are for a Difference, got them with a plain comparison: put the "
                             "bound into the comparison")
        true, what = shown, "a comparison of two numbers, without an interval"
    print(f"{'✓' if true else '✗'} {sentence}: {what}")
