"""Checkers for notebook 00: voting neighbours, an honest evaluation, and two predictions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_lib.check.base import NotAttempted, Wrong, agree, checker, function, is_empty, number, predicted
from course_lib.data.types import Dataset, Images
from course_lib.evaluate import features, knn

TEMPERATURE = 0.07
KS = (1, 5, 15)
WORDS = ("up", "down", "same")
UNCHANGED = 1.0  # points of accuracy that count as "same"


@checker
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


@checker
def knn_vote(answer) -> Iterator[str]:
    """Exercise 2: `knn_vote(bank, labels, queries, k, classes)` -> int64 `[m]`, the class with the heaviest votes."""
    student = function(answer)
    cases = [_vote_case(seed, k, n) for seed, (k, n) in enumerate(((1, 40), (5, 40), (3, 400)))]
    agree(student, cases, vote_slowly, otherwise="your votes elect other classes than the slow reference", mistakes={
        "you return the numbers of pictures in the bank: look up their labels":
            lambda bank, labels, queries, k, classes: _similar(bank, queries).argmax(1),
        "you take the k least similar pictures: a large cosine means alike":
            lambda bank, labels, queries, k, classes: _elect(_similar(bank, queries), labels, k, classes, least=True),
        "all votes count alike: weigh each by exp(cosine / 0.07)":
            lambda bank, labels, queries, k, classes: _elect(_similar(bank, queries), labels, k, classes, math.inf),
        "the whole bank votes: only the k most similar pictures may":
            lambda bank, labels, queries, k, classes: _elect(_similar(bank, queries), labels, len(bank), classes),
        "you use the dot product: long vectors then win, so scale every vector to length 1 first":
            lambda bank, labels, queries, k, classes: _elect(queries @ bank.T, labels, k, classes),
    })
    yield "elects the same classes as a slow reference"
    bank, labels, queries, k, classes = cases[1]
    order = torch.randperm(len(bank))
    if not torch.equal(student(bank[order], labels[order], queries, k, classes), vote_slowly(*cases[1])):
        raise Wrong("the answer changes with the order of the bank, and it must not")
    yield "the order of the bank does not matter"
    if not torch.equal(student(bank, labels, 100 * queries, k, classes), vote_slowly(*cases[1])):
        raise Wrong("a query of a hundred times the length gets another class: cosine looks at directions alone")
    yield "the length of a vector does not matter"


@checker
def honest_knn(answer) -> Iterator[str]:
    """Exercise 3: `measure(encoder, data, ks)` -> `(k, accuracy)`: frozen encoder, k chosen on val, read on test."""
    student = function(answer)
    data, encoder = exam(), Watched().train()
    buffers = {name: value.clone() for name, value in encoder.named_buffers()}
    got = student(encoder, data, KS)
    if not isinstance(got, tuple) or len(got) != 2:
        raise Wrong("the pair (k, accuracy) is wanted: end with `return k, accuracy`")
    k, top1 = int(number(got[0], "k")), number(got[1], "the accuracy")
    if not encoder.modes:
        raise Wrong("the encoder was never asked: take its features of data.train, data.val and data.test")
    if any(encoder.modes) or any(not torch.equal(value, buffers[name]) for name, value in encoder.named_buffers()):
        raise Wrong("the encoder was in train mode: what it says of a picture then depends on the pictures beside it, "
                    "and measuring changes it. Use `features(encoder, images)`, or encoder.eval() and torch.no_grad()")
    yield "the encoder is frozen"
    encoder = encoder.eval()
    wanted = measure_honestly(encoder, data, KS)
    slips = {
        "the test pictures are in the bank: each is its own nearest neighbour and brings the answer along":
            [(k, _accuracy(encoder, data, k, "test", ("train", "test"))) for k in KS],
        "test chose k: choose it on data.val, then read data.test once": [_best(encoder, data, "test")],
        "this is the accuracy on val, which chose k: report the one on data.test": [_best(encoder, data, "val")],
    }
    if (k, round(top1, 3)) != (wanted[0], round(wanted[1], 3)):
        for sentence, slip in slips.items():
            if any(math.isclose(top1, value, abs_tol=1e-3) and k == number_of for number_of, value in slip):
                raise Wrong(sentence)
        raise Wrong(f"on a small data set of this checker you give k = {k} and {top1:.1f} %, where k = {wanted[0]} and "
                    f"{wanted[1]:.1f} % are right: the bank is data.train, val chooses k, test is read once")
    yield "the bank is data.train alone"
    yield "val chooses k and test is read once"


@checker
def four_times_the_exam(answer: float, small: float, large: float) -> Iterator[str]:
    """Exercise 4, a prediction. answer, large: optimism, in points, with four times as many pictures as for small."""
    yield predicted(answer, large, within=small / 5, unit=" points", mistakes={
        "that is a quarter, but chance does not shrink as fast as the exam grows": small / 4,
        "that is no change, but a longer exam leaves less to chance": small,
    }, why="Chance shrinks with the square root of the number of pictures: four times as many, about half the optimism")


# --- slow references and traps ----------------------------------------------------------------------------------------

def vote_slowly(bank: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], queries: Float[Tensor, "m d"], k: int,
                classes: int) -> Int64[Tensor, " m"]:
    """kNN with votes weighted exp(cosine / 0.07), one picture at a time (Wu et al. 2018, section 3.4)."""
    elected = []
    for query in queries:
        cosines = [float(F.cosine_similarity(query, row, dim=0)) for row in bank]
        votes = [0.0] * classes
        for i in sorted(range(len(bank)), key=lambda i: -cosines[i])[:k]:
            votes[int(labels[i])] += math.exp(cosines[i] / TEMPERATURE)
        elected.append(max(range(classes), key=lambda c: votes[c]))
    return torch.tensor(elected)


def _vote_case(seed: int, k: int, n: int, m: int = 25, classes: int = 4):
    """A crowded bank of vectors of very different lengths, so that every slip changes some answers."""
    g = torch.Generator().manual_seed(seed)
    bank = torch.randn(n, 4, generator=g) * torch.logspace(-1, 1, n)[:, None]
    return bank, torch.randint(classes, (n,), generator=g), torch.randn(m, 4, generator=g), k, classes


def _similar(bank: Tensor, queries: Tensor) -> Float[Tensor, "m n"]:
    return F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T


def _elect(similarity: Tensor, labels: Tensor, k: int, classes: int, temperature: float = TEMPERATURE,
           least: bool = False) -> Int64[Tensor, " m"]:
    best, index = similarity.topk(k, dim=1, largest=not least)
    weights = (best / temperature).softmax(1)[:, :, None]
    return (weights * F.one_hot(labels[index], classes)).sum(1).argmax(1)


class Watched(nn.Module):
    """An encoder that remembers in which mode it was asked. A picture of one colour becomes that colour."""

    dim = 3

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3, affine=False)
        self.modes: list[bool] = []

    def forward(self, x: Tensor) -> Float[Tensor, "n 3"]:
        self.modes.append(self.training)
        x = x.float() / 255 if x.dtype == torch.uint8 else x
        return self.norm(x.mean((2, 3)) - 0.5)


def exam(seed: int = 8) -> Dataset:
    """Pictures of one colour each in three classes that overlap, so that val and test prefer different k."""
    g = torch.Generator().manual_seed(seed)
    parts = {}
    for name, n in {"train": 60, "val": 40, "test": 45}.items():
        y = torch.arange(n) % 3
        color = 128 + 30 * F.one_hot(y, 3) + 35 * torch.randn(n, 3, generator=g)
        x = color.clamp(0, 255).to(torch.uint8)[:, :, None, None].expand(-1, -1, 8, 8).contiguous()
        parts[name] = Images(x, y, ("red", "green", "blue"))
    return Dataset("exam", parts["train"].without_labels(), **parts)


def _accuracy(encoder: nn.Module, data: Dataset, k: int, part: str, banks: tuple[str, ...] = ("train",)) -> float:
    bank = [getattr(data, name) for name in banks]
    z = torch.cat([features(encoder, images) for images in bank])
    images = getattr(data, part)
    return knn(z, torch.cat([images.y for images in bank]), features(encoder, images), images.y, k=k)["top1"]


def _best(encoder: nn.Module, data: Dataset, part: str) -> tuple[int, float]:
    scores = {k: _accuracy(encoder, data, k, part) for k in KS}
    k = max(scores, key=scores.get)
    return k, scores[k]


def measure_honestly(encoder: nn.Module, data: Dataset, ks: tuple[int, ...] = KS) -> tuple[int, float]:
    """What exercise 3 asks for."""
    k = max(ks, key=lambda k: _accuracy(encoder, data, k, "val"))
    return k, _accuracy(encoder, data, k, "test")
