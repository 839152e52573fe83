"""Checkers for notebook 00: voting neighbours, an honest evaluation, and two predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_lib.check.base import (
    NotAttempted,
    Spy,
    Wrong,
    checker,
    exercise,
    hard_coded,
    is_empty,
    predicted,
)
from course_lib.data.types import Dataset, Images
from course_lib.evaluate import features, knn

WORDS = ("up", "down", "same")
UNCHANGED = 1.0  # points of accuracy that count as "same"


@checker(predicts=True, example=({"raw pixels": 0.0, "untrained convnet": -12.3},))
def shuffled_pixels(answer: Mapping[str, str], change: Mapping[str, float]) -> Iterator[str]:
    """Exercise 1, a prediction. answer: encoder -> "up", "down" or "same". change: encoder -> points, measured."""
    if not isinstance(answer, Mapping):
        raise Wrong(f"a dict from encoder to a word is wanted, and this is a {type(answer).__name__}")
    for name, points in change.items():
        said = answer.get(name)
        if is_empty(said):
            raise NotAttempted(f"write a word for {name}")
        if said not in WORDS:
            raise Wrong(f"for {name} write one of {', '.join(WORDS)}; you wrote {said!r}")
        truth = "same" if abs(points) < UNCHANGED else "up" if points > 0 else "down"
        if said != truth:
            raise Wrong(f"for {name} you said {said}, and it changed by {points:+.1f} points. Ask what the encoder "
                        "knows about which pixels are neighbours")
        yield f"{name}: {said} ({points:+.1f} points)"


# --- exercise 2 -------------------------------------------------------------------------------------------------------

def _unit(z: Tensor) -> Tensor:
    return F.normalize(z, dim=1)


def _exp(s: Tensor, temperature: float) -> Tensor:
    """exp(s / temperature), divided by the largest: the order of the classes stays, and nothing overflows."""
    return ((s - s.max()) / temperature).exp()


def _vote(bank: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], queries: Float[Tensor, "m d"], k: int, classes: int,
          temperature: float = 0.07, *, scale: Callable = _unit, scale_queries: Callable | None = None,
          least: bool = False, voters: Callable = lambda k, n: k, weigh: Callable = _exp, add: bool = True,
          elect: Callable = lambda votes, best: votes.argmax()) -> Int64[Tensor, " m"]:
    """Exercise 2: `knn_vote(bank, labels, queries, k, classes, temperature)` -> int64 `[m]`, the class with most votes.

    One query after another, as in section 3.4 of Wu et al. 2018. The options are places for mistakes.
    """
    elected = []
    for query in (scale_queries or scale)(queries):
        s, best = (scale(bank) @ query).sort(descending=not least)
        s, best = s[:voters(k, len(bank))], best[:voters(k, len(bank))]
        votes = torch.zeros(classes, dtype=s.dtype)
        for label, weight in zip(labels[best].tolist(), weigh(s, temperature), strict=True):
            votes[label] = votes[label] + weight if add else weight
        elected.append(elect(votes, best))
    return torch.stack(elected)


def _overflow(bank: Tensor, labels: Tensor, queries: Tensor, k: int, classes: int, temperature: float, *,
              nan: bool) -> Int64[Tensor, " m"]:
    """The vote by exponentials of dot products in float32, many of which are inf; times 0, they are NaN."""
    best, index = (queries @ bank.T).topk(k, dim=1)
    weights = (best.float() / temperature).exp()
    if nan:
        return (weights[:, :, None] * F.one_hot(labels[index], classes)).sum(1).argmax(1)
    return weights.new_zeros(len(queries), classes).scatter_add(1, labels[index], weights).argmax(1)


def _shared_among_queries(bank: Tensor, labels: Tensor, queries: Tensor, k: int, classes: int, temperature: float
                          ) -> Int64[Tensor, " m"]:
    """The vote with a softmax along the wrong dimension."""
    best, index = (_unit(queries) @ _unit(bank).T).topk(k, dim=1)
    weights = (best / temperature).softmax(0)
    return weights.new_zeros(len(queries), classes).scatter_add(1, labels[index], weights).argmax(1)


def _by_distance(bank: Tensor, labels: Tensor, queries: Tensor, k: int, classes: int, temperature: float
                 ) -> Int64[Tensor, " m"]:
    """The vote by Euclidean distances in place of cosines."""
    far, index = torch.cdist(queries, bank).topk(k, dim=1, largest=False)
    weights = ((far.amin(1, keepdim=True) - far) / temperature).exp()
    return weights.new_zeros(len(queries), classes).scatter_add(1, labels[index], weights).argmax(1)


def _elected(out: Tensor, bank: Tensor, labels: Tensor, queries: Tensor, k: int, classes: int, temperature: float
             ) -> str | None:
    if isinstance(out, Tensor) and list(out.shape) == [len(queries), classes]:
        return "these are the votes of every class: `.argmax(1)` says which class has the most"
    return None


def _ballot(k: int, n: int, temperature: float) -> tuple:
    """A crowded bank of vectors of very different lengths, so that every slip changes some answers."""
    bank = torch.randn(n, 4) * torch.logspace(-1, 1, n)[torch.randperm(n), None]
    return bank, torch.randint(4, (n,)), torch.randn(60, 4), k, 4, temperature


def _reordered(f: Callable) -> tuple:
    bank, labels, *rest = _ballot(5, 40, 0.07)
    order = torch.randperm(len(bank))
    return f(bank[order], labels[order], *rest), f(bank, labels, *rest), "the answer changes with the order of the bank"


def _longer(f: Callable) -> tuple:
    bank, labels, queries, *rest = _ballot(5, 40, 0.07)
    return f(bank, labels, 100 * queries, *rest), f(bank, labels, queries, *rest), (
        "a query of a hundred times the length gets another class: cosine looks at directions alone")


_INF = "exp of a dot product overflows, and votes become {}: scale every vector to length 1 first".format

knn_vote = exercise(
    "knn_vote", _vote,
    lambda: [_ballot(1, 40, 0.07), _ballot(5, 40, 0.07), _ballot(24, 40, 2.0), _ballot(8, 400, 0.07)],
    slips={
        "you return the numbers of pictures in the bank: look up their labels": {"elect": lambda votes, best: best[0]},
        "you return places among the k neighbours, from 0 to k − 1: look up the labels of these pictures":
            {"elect": lambda votes, best: torch.tensor(0)},
        "you take the k least similar pictures: a large cosine means alike": {"least": True},
        "all votes count alike: weigh each by exp(cosine / temperature)": {"weigh": lambda s, t: torch.ones_like(s)},
        "votes are weighed by the cosine itself: weigh each by exp(cosine / temperature)": {"weigh": lambda s, t: s},
        "you multiply by the temperature: divide by it, so that near neighbours count more":
            {"weigh": lambda s, t: _exp(s, 1 / t)},
        "the temperature is not used": {"weigh": lambda s, t: _exp(s, 1)},
        "the nearest picture decides alone: all k vote": {"voters": lambda k, n: 1},
        "the whole bank votes: only the k most similar pictures may": {"voters": lambda k, n: n},
        "you use the dot product: long vectors then win, so scale every vector to length 1 first":
            {"scale": lambda z: z},
        "you normalised each column: F.normalize(z, dim=1) makes each vector of length 1":
            {"scale": lambda z: F.normalize(z, dim=0)},
        "the queries keep their lengths, and a long one makes its nearest picture decide alone: scale them to length 1 "
        "too": {"scale_queries": lambda z: z},
        "the bank keeps its lengths, and long vectors win: scale them to length 1 too":
            {"scale": lambda z: z, "scale_queries": _unit},
        "of several votes for a class only the last one counts: `votes[labels] = …` and `+=` write one over the other, "
        "so add them up": {"add": False},
        "your softmax shares the weights out among the queries: dim=1 shares them among the neighbours of each":
            _shared_among_queries,
        "you compare by distance: take the cosine, which looks at directions alone": _by_distance,
        _INF("inf"): lambda *case: _overflow(*case, nan=False),
        _INF("NaN"): lambda *case: _overflow(*case, nan=True),
        **hard_coded(_vote, (0.07, 0.1, 0.5))},
    limits={"the order of the bank does not matter": _reordered, "the length of a vector does not matter": _longer},
    look={"answers with one class a query": _elected}, holds="elects the same classes as a slow reference",
    otherwise="your votes elect other classes than the slow reference")


# --- exercise 3 -------------------------------------------------------------------------------------------------------

class _Colors(nn.Module):
    """An encoder that tells the color of a picture that has only one, and has batch statistics."""

    dim = 3

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3, affine=False)

    def forward(self, x: Tensor) -> Float[Tensor, "n 3"]:
        x = x.float() / 255 if x.dtype == torch.uint8 else x
        return self.norm(x.mean((2, 3)) - 0.5)


def _exam(seed: int, ks: Sequence[int]) -> tuple[Spy, Dataset, Sequence[int]]:
    """Pictures of one colour each in three classes that overlap. The seeds below tell all slips from each other."""
    g = torch.Generator().manual_seed(seed)
    parts = {}
    for name, n in {"train": 60, "val": 40, "test": 45}.items():
        y = torch.arange(n) % 3
        color = 128 + 30 * F.one_hot(y, 3) + 35 * torch.randn(n, 3, generator=g)
        x = color.clamp(0, 255).to(torch.uint8)[:, :, None, None].expand(-1, -1, 8, 8).contiguous()
        parts[name] = Images(x, y, ("red", "green", "blue"))
    return Spy(_Colors()).train(), Dataset("exam", parts["train"].without_labels(), **parts), ks


def _measure(encoder: nn.Module, data: Dataset, ks: Sequence[int] = (1, 5, 15), *, bank: Sequence[str] = ("train",),
             choose: str = "val", read: str = "test", pick: Callable = lambda scores: max(scores, key=scores.get),
             read_k: Callable = lambda k: k) -> tuple[int, float]:
    """Exercise 3: `measure(encoder, data, ks)` -> `(k, accuracy)`: frozen encoder, k chosen on val, read on test.

    The options are places for mistakes.
    """
    z = {part: features(encoder, getattr(data, part)) for part in ("train", "val", "test")}
    y = {part: getattr(data, part).y for part in z}
    known, answers = torch.cat([z[part] for part in bank]), torch.cat([y[part] for part in bank])
    k = pick({k: knn(known, answers, z[choose], y[choose], k=k)["top1"] for k in ks})
    return k, knn(known, answers, z[read], y[read], k=read_k(k))["top1"]


def _frozen(out: tuple, encoder: Spy, data: Dataset, ks: Sequence[int]) -> str | None:
    if not encoder.calls:
        return "the encoder was never asked: take its features of data.train, data.val and data.test"
    if any(call.training for call in encoder.calls) or encoder.inner.norm.num_batches_tracked:
        return ("the encoder was in train mode: what it says of a picture then depends on the pictures beside it, "
                "and measuring changes it. Use `features(encoder, images)`, or encoder.eval() and torch.no_grad()")
    return None


def _best_on_test(encoder: nn.Module, data: Dataset, ks: Sequence[int]) -> tuple[int, float]:
    return _measure(encoder, data, ks)[0], max(_measure(encoder, data, (k,))[1] for k in ks)


def _val_joins(encoder: nn.Module, data: Dataset, ks: Sequence[int]) -> tuple[int, float]:
    k, _ = _measure(encoder, data, ks)
    return k, _measure(encoder, data, (k,), bank=("train", "val"))[1]


def _always(k: int) -> dict[str, Callable]:
    return {"pick": lambda scores: k}


honest_knn = exercise(
    "honest_knn", _measure, lambda: [_exam(0, (5, 1, 15)), _exam(5, (12, 25, 3, 7)), _exam(6, (9, 2, 20))],
    look={"the encoder is frozen": _frozen},
    slips={
        "the test pictures are in the bank: each is its own nearest neighbour and brings the answer along":
            {"bank": ("train", "test")},
        "the val pictures are in the bank: each is its own nearest neighbour, so val cannot choose k":
            {"bank": ("train", "val")},
        "test chose k: choose it on data.val, then read data.test once": {"choose": "test"},
        "this is the accuracy on val, which chose k: report the one on data.test": {"read": "val"},
        "this is the accuracy on train, where each picture finds itself: report the one on data.test":
            {"read": "train"},
        "this is the accuracy with k = 20, which knn takes if it is not told: give it your k":
            {"read_k": lambda k: 20},
        "you take the k that does worst on val: take the best": {"pick": lambda scores: min(scores, key=scores.get)},
        "the smallest of ks is taken, as by a choice on train, where each picture finds itself: val chooses":
            {"pick": min},
        "you take the first of ks: val chooses": {"pick": lambda scores: next(iter(scores))},
        "you take the last of ks: val chooses": {"pick": lambda scores: list(scores)[-1]},
        "this is the best accuracy on test of all ks: val has chosen one k, so read test once, with that one":
            _best_on_test,
        "val joins the bank for the last reading: in this course the bank is data.train alone, as it was when k was "
        "chosen": _val_joins,
        "ks is not used: try the numbers of neighbours that it holds":
            lambda encoder, data, ks: _measure(encoder, data),
        **{f"k is always {k}, and ks is not used: data.val chooses one of ks": _always(k) for k in (1, 5, 10, 15, 20)},
        "the accuracy is wanted in percent": {"after": lambda out, *case: (out[0], out[1] / 100)},
        "k comes first, then the accuracy": {"after": lambda out, *case: out[::-1]}},
    returns="k, accuracy", holds="the bank is data.train alone, val chooses k and test is read once",
    otherwise="on a small data set of this checker you give another pair (k, accuracy). The bank is data.train, val "
              "chooses k, test is read once")


# --- exercise 4 -------------------------------------------------------------------------------------------------------

LUCK = {  # kind of tries -> why its winner claims less on a longer exam, and what other answers take for granted
    "equally good": (
        "Where all tries are equally good in truth, the winner has nothing but luck, and luck goes with one over the "
        "square root of the number of pictures: four times as many, half of it",
        {"that is a quarter, but chance goes with the square root of the number of pictures": 1 / 4,
         "that is no change, but a longer exam leaves less to chance": 1}),
    "ours": (
        "These differ in truth as well. A longer exam leaves less to luck and finds more often a try that is really "
        "better, so less than half of the optimism is left",
        {"that is half, as if all tries were equally good in truth": 1 / 2,
         "that is a quarter, as if the tries differed in truth far more than by chance": 1 / 4,
         "that is no change, but a longer exam leaves less to chance": 1})}


@checker(predicts=True, example=({"equally good": 7.6, "ours": 6.7}, {"equally good": 3.7, "ours": 2.5}))
def four_times_the_exam(answer: Mapping[str, float], small: Mapping[str, float], large: Mapping[str, float]
                        ) -> Iterator[str]:
    """Exercise 4, a prediction. answer: kind of tries -> points of optimism with four times as many pictures in the
    exam. small, large: the same, measured on the short exam and on the long one.

    With chance² + truth² the variance of the tries' scores on an exam, the best of T is optimistic by about
    c(T) · chance² / √(chance² + truth²), where c(T) is how far the best of T normal draws stands out.
    """
    if not isinstance(answer, Mapping):
        raise Wrong(f"a dict from kind of tries to points is wanted, and this is a {type(answer).__name__}")
    for kind, (why, slips) in LUCK.items():
        if is_empty(answer.get(kind)):
            raise NotAttempted(f"write a number for {kind}")
        try:
            yield f"{kind}: " + predicted(answer[kind], large[kind], within=small[kind] / 16, unit=" points", why=why,
                                          mistakes={told: share * small[kind] for told, share in slips.items()})
        except Wrong as wrong:
            raise Wrong(f"{kind}: {wrong}") from None
