"""Checkers of notebook 03: how far permutations lie apart, a greedy step, tiles without their light, and the puzzle."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_lib.check.base import Wrong, agree, checker, close, function, gradient_reaches, predicted, tensor

EPS = 0.01  # added to a tile's deviation, as in the library


@checker
def places_apart(guess: float) -> Iterator[str]:
    """The predicted number of places in which two random orders of nine tiles differ."""
    orders = torch.rand(2, 20_000, 9).argsort(2)
    yield predicted(
        guess, (orders[0] != orders[1]).sum(1).double().mean().item(), within=0.15,
        why="In each of the nine places the two agree with a chance of 1/9, so 9 × 1/9 = 1 place agrees on average",
        mistakes={"that is the most there can be, and a few places agree by chance": 9,
                  "that is in how many they agree": 1,
                  "that would need each place to agree half of the time, and there are nine tiles to choose from": 4.5})


def hamming(a: Sequence[int], b: Sequence[int]) -> int:
    """In how many places two orders differ."""
    return sum(x != y for x, y in zip(a, b, strict=True))


def farthest_slowly(chosen: Int64[Tensor, "k t"], candidates: Int64[Tensor, "m t"], *,
                    worth: Callable = lambda distances: (min(distances), sum(distances))) -> int:
    """The candidate with the largest smallest distance; of equals, with the largest sum; of equals, the first.

    worth: from a candidate's distances to what is to be largest: a place for mistakes.
    """
    scores = [worth([hamming(c, old) for old in chosen.tolist()]) for c in candidates.tolist()]
    return scores.index(max(scores))


@checker
def farthest(answer: Callable) -> Iterator[str]:
    """`farthest(chosen, candidates)` -> which candidate is most unlike the permutations chosen so far."""
    student = function(answer)
    every = torch.tensor(list(itertools.permutations(range(5))))
    cases = [(every[torch.randperm(120)[:k]], every[torch.randperm(120)[:m]])
             for k, m in ((1, 8), (2, 60), (3, 40), (4, 120), (8, 100), (10, 60), (12, 120), (9, 30), (16, 120))]

    def instead(worth: Callable) -> Callable:
        return lambda chosen, candidates: farthest_slowly(chosen, candidates, worth=worth)

    agree(student, cases, farthest_slowly, {
        "of equals you take the first: take the one with the largest sum of distances, and only then the first":
            instead(min),
        "you take the largest sum alone, as the paper's algorithm 1 does. Here the smallest distance comes first":
            instead(sum),
        "you take the candidate that is nearest to one of the chosen: its smallest distance should be largest":
            instead(lambda distances: -min(distances)),
        "you look at the distance to the farthest of the chosen: it is the nearest one that a candidate is taken for":
            instead(max),
        "you look at the permutation that was chosen last: all that were chosen count": instead(lambda d: d[-1]),
        "you look at the first permutation alone: all that were chosen count": instead(lambda d: d[0]),
    }, "another candidate than comparing them one by one")
    yield "the candidate that comparing one by one finds"
    chosen, candidates = cases[4]
    if student(chosen, candidates) != student(chosen.flip(0), candidates):
        raise Wrong("the answer changes with the order of the chosen permutations, and it must not")
    yield "the order of the chosen does not matter"


def normalized(tiles: Float[Tensor, "n t c s s"], *, over: tuple[int, ...] = (3, 4), power: int = 1,
               correction: int = 0, center: bool = True, eps: float = EPS) -> Tensor:
    """Each channel of each tile to mean 0 and deviation 1. The options are places for mistakes."""
    mean = tiles.mean(over, keepdim=True)
    size = torch.tensor([tiles.shape[d] for d in over]).prod()
    variance = (tiles - mean).square().sum(over, keepdim=True) / (size - correction)
    return (tiles - center * mean) / (variance.sqrt() + eps) ** power


@checker
def normalize_tiles(answer: Callable) -> Iterator[str]:
    """`normalize_tiles(tiles)` -> the same shape: each channel of each tile with mean 0 and deviation (nearly) 1."""
    student = function(answer)
    light, contrast = torch.rand(2, 2, 9, 3, 1, 1)
    tiles = light + (0.1 + contrast) * torch.rand(2, 9, 3, 4, 4)

    def instead(**options) -> Callable:
        return lambda tiles: normalized(tiles, **options)

    flat = tiles.clone()
    flat[0, 4] = 0.25  # a tile of one colour
    without = "the 0.01 is missing: a flat tile has a deviation of 0, and then you divide by it"
    if isinstance(out := student(flat), Tensor) and not out.isfinite().all():
        raise Wrong(without)
    agree(student, [(tiles,), (flat,)], normalized, {
        "mean and deviation are those of the whole picture: then all its tiles keep their differences":
            instead(over=(1, 3, 4)),
        "mean and deviation are taken over the colours too: each channel has its own": instead(over=(2, 3, 4)),
        "mean and deviation are taken over the batch: each tile of each picture has its own": instead(over=(0, 3, 4)),
        "you divide by the variance: the deviation is its square root": instead(power=2),
        "the mean is still there: take it off first": instead(center=False),
        "your deviation divides by n − 1: here it is the mean square, correction=0": instead(correction=1),
        without: instead(eps=0),
    }, "other tiles than one by one")
    yield "equals one tile after another"
    if not close(student(tiles).mean((3, 4)), torch.zeros(2, 9, 3)):
        raise Wrong("the mean of each channel of a tile should be 0 now, and is not")
    yield "no tile has a brightness or a colour of its own"


class _Head(nn.Linear):
    """A linear head that remembers what it was given."""

    def forward(self, h: Tensor) -> Tensor:
        self.seen = h
        return super().forward(h)


ONE_ORDER = ("all pictures are shuffled by one permutation, and the labels say that each has its own: take "
             "permutations[answer], one row a picture, and `gather` with it")
FIRST_TILE = "the label is a tile's number: the answer is which permutation of the set it was, from 0 to P − 1"
POOLED = ("the head gets one vector of {got} numbers a picture, and nine of {each} are wanted, side by side: a mean or "
          "a sum is the same in every order")


@checker
def puzzle_loss(answer: Callable) -> Iterator[str]:
    """`puzzle_loss(h, permutations, head)`: shuffle nine vectors of each picture, and ask the head for the order."""
    student = function(answer)
    permutations = torch.stack([torch.randperm(9) for _ in range(12)])
    drawn = []
    for _ in range(4):
        h, head = torch.randn(8, 9, 5, requires_grad=True), _Head(45, 12)
        _not_pooled(student, h.detach(), permutations)
        loss = tensor(student(h, permutations, head), (), "your loss")
        if not hasattr(head, "seen"):
            raise Wrong("the head was never asked: give it the nine shuffled vectors of each picture, [N, 9·D]")
        seen = tensor(head.seen, (8, 45), "what the head is given").detach().view(8, 9, 5)
        order = torch.tensor([_order(row, picture) for row, picture in zip(seen, h.detach(), strict=True)])
        which = (order[:, None] == permutations).all(2)
        if not which.any(1).all():
            i = int((~which.any(1)).nonzero()[0])
            if (order[i].argsort() == permutations).all(1).any():
                raise Wrong("you undo the permutation instead of applying it: place t of the puzzle shows tile "
                            "permutation[t], which is what `gather` with it gives")
            raise Wrong(f"the order in which picture {i} was shown, {order[i].tolist()}, is none of the permutations")
        number = which.int().argmax(1)
        logits = head(head.seen.detach())
        wanted = F.cross_entropy(logits, number)
        if not close(loss, wanted):
            raise Wrong(_why(loss, logits, number, permutations))
        drawn.append(number)
    yield "nine vectors side by side, in the order of a permutation"
    yield "the cross-entropy of which one it was"
    if all(len(number.unique()) == 1 for number in drawn):
        raise Wrong("all pictures of a batch are shuffled by one permutation: draw one for each of them")
    if all(torch.equal(number, drawn[0]) for number in drawn):
        raise Wrong("every batch is shuffled by the same permutations: draw them anew each time")
    yield "another permutation for each picture, drawn anew each time"
    gradient_reaches(loss, [h], "the vectors")
    yield "a gradient to the encoder"


def _order(row: Float[Tensor, "9 d"], picture: Float[Tensor, "9 d"]) -> list[int]:
    """Which of a picture's vectors stands in each of nine places."""
    return torch.cdist(row, picture).argmin(1).tolist()


def _not_pooled(student: Callable, h: Tensor, permutations: Tensor) -> None:
    """Raises Wrong where the head is given fewer numbers a picture than there are, with a head that takes anything."""
    given = []

    def head(x: Tensor) -> Tensor:
        given.append(x.numel() // len(h))
        return torch.zeros(len(h), len(permutations))

    student(h, permutations, head)
    if given and given[0] < h[0].numel():
        raise Wrong(POOLED.format(got=given[0], each=h.shape[2]))


def _why(loss: Tensor, logits: Tensor, number: Tensor, permutations: Tensor) -> str:
    """What the labels were instead, as far as the loss tells."""
    for place in range(permutations.shape[1]):
        if close(loss, F.cross_entropy(logits, permutations[number][:, place])):
            return FIRST_TILE
    if len(number.unique()) == 1 and len(number) > 1:
        return ONE_ORDER
    if close(loss, F.cross_entropy(logits, number, reduction="sum")):
        return "you add up the losses: take their mean, or the learning rate depends on the batch"
    return (f"your loss is {loss.item():.4g} where {F.cross_entropy(logits, number).item():.4g} is right: the "
            "cross-entropy of which permutation of the set each picture was shown in")
