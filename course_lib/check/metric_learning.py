"""Checkers of notebook 07: what pairs and triplets cost, SupCon, a bound that saturates, words, and shuffled labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from course_lib.check.base import Expected, Wrong, afterwards, checker, exercise, function, hard_coded, prediction
from course_lib.check.base import tensor as tensor_of
from course_lib.methods.metric.siamese import contrastive_pair_loss

INF = math.inf
TEMPERATURES = (0.05, 0.07, 0.1, 0.2, 0.5)  # that are often written into the code


@prediction()
def collapse_cost() -> Expected:
    """The predicted mean of the pair loss where 100 embeddings, ten of each of ten classes, lie in one place."""
    y = torch.arange(100) % 10
    first, second = torch.triu_indices(100, 100, 1)
    z = torch.zeros(len(first), 2)
    measured = contrastive_pair_loss(z, z, y[first] == y[second]).item()
    return Expected(
        measured, within=0.03,
        why="At distance 0 a like pair costs nothing and an unlike one margin² = 1; 4,500 of 4,950 pairs are unlike",
        slips={"that holds where like and unlike pairs weigh the same: here nine pairs in ten are unlike": 0.5,
               "like pairs cost nothing at distance 0, so not every pair pays": 1.0,
               "that is the share of like pairs, and they cost nothing at distance 0": 1 - measured,
               "unlike pairs at distance 0 are as near as can be, and pay the whole margin": 0.0})


# --- SupCon -----------------------------------------------------------------------------------------------------------

def _supcon(z: Float[Tensor, "n d"], y: Int64[Tensor, " n"], temperature: float, *, normalize: Callable = F.normalize,
            scale: Callable = lambda s, t: s / t, itself: bool = False, own: bool = False, only: str = "",
            inside: bool = False, over: Callable = torch.mean, reduce: Callable = torch.mean) -> Float[Tensor, ""]:
    """`sup_con(z, y, temperature)`: L_out of SupCon (equation 2), one anchor and one positive after another.

    Each option is a place for one mistake. itself: whether an anchor is among its candidates. own: whether it is among
    its positives. only: "negatives" where positives are left out of the denominator. inside: the mean stands inside the
    logarithm. over: how the terms of the positives are put together.
    """
    z, losses = normalize(z), []
    for i in range(len(z)):
        logits = scale(z @ z[i], temperature)
        positives = [k for k in range(len(z)) if y[k] == y[i] and (k != i or own)]
        candidates = [k for k in range(len(z)) if (k != i or itself) and (only != "negatives" or y[k] != y[i])]
        log_shares = logits[positives] - logits[candidates].logsumexp(0)
        losses.append(-(log_shares.logsumexp(0) - math.log(len(positives)) if inside else over(log_shares)))
    return reduce(torch.stack(losses))


def _labelled(n: int, d: int, classes: int, temperature: float) -> tuple:
    """Embeddings of different lengths that resemble their class, every class at least twice."""
    y = torch.arange(n) % classes
    z = torch.randn(classes, d)[y] + torch.randn(n, d)
    return z * torch.rand(n, 1).add(0.5), y, temperature


def _pairs_alone(f: Callable) -> tuple:
    """Every label twice: NT-Xent, whose positive is one."""
    z = F.normalize(torch.randn(8, 5), dim=1)
    logits = (z.double() @ z.double().T / 0.5).fill_diagonal_(-INF)
    wanted = F.cross_entropy(logits, torch.arange(8).roll(4))
    return (f(z, torch.arange(8) % 4, 0.5), wanted,
            "where each label occurs twice, every anchor has one positive, and the loss is NT-Xent")


sup_con = exercise(
    "sup_con", _supcon, lambda: [_labelled(8, 6, 3, 0.5), _labelled(9, 4, 2, 0.3), _labelled(10, 5, 4, 1.7)],
    what="your loss", holds="equals a loop over anchors and positives",
    otherwise="your loss is not that of a loop over anchors and positives",
    slips={
        "the mean over positives stands inside the logarithm: that is L_in. Take the logarithm of each share first":
            {"inside": True},
        "an anchor is among its own candidates: take the diagonal out before the softmax, with -inf": {"itself": True},
        "an anchor is among its own positives and its own candidates: it is neither": {"own": True, "itself": True},
        "an anchor is among its own positives: y[:, None] == y is true on the diagonal too": {"own": True},
        "the positives are missing from the denominator: all others are candidates, those of the own class too":
            {"only": "negatives"},
        "you add up the terms of an anchor's positives: divide by how many it has, or large classes pull harder":
            {"over": torch.sum},
        "only one positive of each anchor counts: take the mean over all of them": {"over": lambda terms: terms[0]},
        "the embeddings are not normalised: divide each row by its length first": {"normalize": lambda z: z},
        "you normalised each column over the batch: F.normalize(z, dim=1) makes each row of length 1":
            {"normalize": lambda z: F.normalize(z, dim=0)},
        "you multiply by the temperature: divide by it, so that a small one makes differences larger":
            {"scale": lambda s, t: s * t},
        "the temperature is not used": {"scale": lambda s, t: s},
        "that is one loss an anchor: take their mean": {"reduce": lambda losses: losses},
        **afterwards(lambda z, *case: len(z), what="anchors' losses"),
        **hard_coded(_supcon, TEMPERATURES)},
    limits={"log(N − 1) where all embeddings are the same": lambda f: (
                f(torch.ones(6, 4), torch.arange(6) % 3, 0.5), math.log(5),
                "embeddings that are all the same must give log(N − 1), whatever the labels"),
            "NT-Xent where every label occurs twice": _pairs_alone},
    gradients={"z": "SupCon learns from anchors, positives and negatives, so nothing is detached"})


# --- InfoNCE as a bound -----------------------------------------------------------------------------------------------

@prediction(example=(4.7,))
def saturation(measured: float) -> Expected:
    """The predicted reading of log K − loss for a perfect critic, K = 128 and 8 nats. measured: what was read."""
    return Expected(
        measured, within=0.25, unit=" nats",
        why="No loss is below 0, so log K − loss never exceeds log 128 = 4.85, however much there is to know",
        slips={"that is what x and y share, and the estimate cannot show it: a cross-entropy is never below 0": 8.0,
               "that is log 128 to base 2: nats use base e": 7.0,
               "that is what the bound leaves out: the estimate is log K less the loss": 8 - math.log(128),
               "that is how a blind critic reads, whose loss is log K": 0.0})


# --- words ------------------------------------------------------------------------------------------------------------

def _pmi(counts: Float[Tensor, "v w"], *, logarithm: Callable = torch.log, total: bool = True, word: bool = True,
         context: bool = True, sides: tuple[int, int] = (0, 1)) -> Float[Tensor, "v w"]:
    """`pmi(counts)`: of each word with each context the logarithm of p(w, c) / (p(w) p(c)), entry by entry.

    total: whether the number of all pairs is used. word, context: whether each one's own frequency is divided by.
    sides: which sums are taken for words and for contexts.
    """
    rows, columns = counts.sum(1).tolist(), counts.sum(0).tolist()
    sums, everything = (rows, columns), sum(rows)
    out = torch.zeros_like(counts)
    for i in range(counts.shape[0]):
        for j in range(counts.shape[1]):
            below = (sums[sides[0]][i] if word else 1.0) * (sums[sides[1]][j] if context else 1.0)
            power = 1 + (not word) * -1 + (not context) * -1  # what divides counts to make them probabilities
            out[i, j] = counts[i, j] / below * (everything**power if total else 1.0)
    return logarithm(out)


def _counts(words: int, zeros: float = 0.3) -> tuple:
    """How often words stand beside contexts, some never; as many of both, and not symmetric."""
    counts = torch.randint(1, 40, (words, words)).float()
    return (counts.masked_fill(torch.rand(words, words) < zeros, 0.0).fill_diagonal_(5.0),)


pmi = exercise(
    "pmi", _pmi, lambda: [_counts(5), _counts(7)], what="your PMI", holds="equals the formula, pair by pair",
    otherwise="your PMI is not that of the formula",
    slips={
        "the number of all pairs is missing: counts must become probabilities, p(w, c) = #(w, c) / D": {"total": False},
        "that is log p(w, c): divide by p(w) and by p(c), or frequent words are near everything":
            {"word": False, "context": False},
        "that is log p(c | w): divide by p(c) too": {"context": False},
        "that is log p(w | c): divide by p(w) too": {"word": False},
        "rows and columns have changed places: #(w) is the sum over a word's row, counts.sum(1)": {"sides": (1, 0)},
        "both frequencies are sums of rows: #(c) is the sum over a context's column, counts.sum(0)": {"sides": (0, 0)},
        "both frequencies are sums of columns: #(w) is the sum over a word's row, counts.sum(1)": {"sides": (1, 1)},
        "that is the ratio itself: take its logarithm": {"logarithm": lambda ratio: ratio},
        "you cut at 0, which gives positive PMI: pairs that avoid each other are below 0":
            {"logarithm": lambda ratio: ratio.log().clamp(min=0)},
        "the logarithm has base 2: torch.log has base e": {"logarithm": torch.log2}},
    limits={"0 where words and contexts are independent": lambda f: (
        f(torch.outer(torch.tensor([1.0, 2, 3]), torch.tensor([4.0, 1, 5]))), torch.zeros(3, 3),
        "where every count is the product of its row's and its column's share, a pair says nothing: PMI is 0")})


# --- triplets ---------------------------------------------------------------------------------------------------------

FRIENDS = '''
def triplet_cost(z, y, margin=0.2):
    """The mean cost of a batch's semi-hard triplets. z: [N, D], y: [N]."""
    z = F.normalize(z, dim=1)
    d = (z[:, None] - z).square().sum(2).add(1e-12).sqrt()
    costs = []
    for a in range(len(z)):
        for p in range(len(z)):
            if y[a] == y[p]:
                further = (d[a] > d[a, p]).nonzero().flatten()
                if len(further):  # the nearest that is further than the positive
                    n = further[d[a, further].argmin()]
                    costs.append(d[a, p] - d[a, n] + margin)
    return torch.stack(costs).mean()
'''


def _triplet_cost(z: Float[Tensor, "n d"], y: Int64[Tensor, " n"], margin: float = 0.2, *, squared: bool = True,
                  itself: bool = False, anyone: bool = False, floor: bool = True) -> Float[Tensor, ""]:
    """`triplet_cost(z, y, margin)`: the mean cost of the semi-hard triplets of a batch, one after another."""
    z, costs = F.normalize(z), []
    for a in range(len(z)):
        d = (z - z[a]).square().sum(1)
        for p in range(len(z)):
            others = [n for n in range(len(z)) if (anyone or y[n] != y[a]) and d[n] > d[p]]
            if y[p] == y[a] and (p != a or itself) and others:
                near, far = d[p], d[min(others, key=lambda n: d[n].item())]
                gap = near - far if squared else (near + 1e-12).sqrt() - (far + 1e-12).sqrt()
                costs.append((gap + margin).clamp(min=0) if floor else gap + margin)
    return torch.stack(costs).mean()


def _batch(n: int, d: int, classes: int, margin: float) -> tuple:
    """Embeddings in which some triplets cost nothing."""
    y = torch.arange(n) % classes
    return 1.5 * torch.randn(classes, d)[y] + torch.randn(n, d), y, margin


triplet_cost = exercise(
    "triplet_cost", _triplet_cost, lambda: [_batch(9, 4, 3, 0.2), _batch(8, 3, 2, 0.5)], given=FRIENDS, together=4,
    what="the mean cost", holds="equals a loop over the triplets", otherwise="the cost is not that of the triplets",
    slips={
        "the negative can be of the anchor's own class: take the nearest among those of other labels": {"anyone": True},
        "an anchor is its own positive: at distance 0 it teaches nothing, and every such triplet dilutes the mean":
            {"itself": True},
        "a triplet that is far enough apart is rewarded, so the loss falls on without end: clamp it at 0":
            {"floor": False},
        "the distances are not squared: the paper's triplet loss compares d², section 3.1": {"squared": False}},
    limits={"0 where all is far enough apart": lambda f: (
        f(torch.eye(2).repeat_interleave(2, 0) + 1e-3 * torch.eye(4, 2), torch.tensor([0, 0, 1, 1]), 0.2), 0.0,
        "classes at right angles are 2 apart in d², so a margin of 0.2 must cost nothing")},
    gradients={"z": "all three of a triplet move"})


# --- a control --------------------------------------------------------------------------------------------------------

def _still_together(before: Int64[Tensor, " n"], after: Int64[Tensor, " n"]) -> float:
    """Of the pairs that shared a label, the share that shares one still."""
    first, second = torch.triu_indices(len(before), len(before), 1)
    same = before[first] == before[second]
    return (after[first] == after[second])[same].float().mean().item()


@checker
def labels_without_meaning(answer: Any) -> Iterator[str]:
    """`without_meaning(y)`: labels that keep everything but what they say of the pictures."""
    student = function(answer)
    cases = [torch.arange(400) % 8, torch.arange(400) // 50, (torch.arange(400) % 8)[torch.randperm(400)],
             torch.randint(0, 5, (300,)).square() % 7]
    kept = [_still_together(y, _labels(student(y), y)) for y in cases]
    for y in cases:
        new = _labels(student(y), y)
        if torch.equal(new, y):
            raise Wrong("these are the labels as they were: they still say which pictures belong together")
        wanted, got = (labels.bincount(minlength=20).tolist() for labels in (y, new))
        if sorted(wanted) != sorted(got):
            raise Wrong("the classes have other sizes than before, so two things differ and not one: a random draw for "
                        "each picture does that, and so does one class for all. Give the same labels out again")
    if min(kept) == 1:
        raise Wrong("you gave the classes other names, and every pair that shared a label shares one still: the loss "
                    "sees pairs alone, and learns exactly what it learned before")
    yield "classes are as large as they were"
    chance = [y.bincount().square().sum().item() / len(y) ** 2 for y in cases]
    if any(share > expected + 0.1 for share, expected in zip(kept, chance, strict=True)):
        raise Wrong(f"of the pairs that shared a label {100 * max(kept):.0f} % share one still, where chance would "
                    f"leave {100 * chance[kept.index(max(kept))]:.0f} %: is your order always the same, or near "
                    "the old one? Draw it at random")
    yield "which pairs share a label is left to chance"


def _labels(value: Any, y: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """Whole numbers, one a picture."""
    new = tensor_of(value, y.shape, "the new labels")
    if new.is_floating_point() or new.is_complex():
        raise Wrong("labels are whole numbers, and these are not: take those that there are")
    if (new < 0).any() or (new >= 20).any():
        raise Wrong("there are labels that no class had: give out the old ones again")
    return new.long()
