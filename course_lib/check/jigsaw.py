"""Checkers of notebook 03: how far permutations lie apart, a greedy step, tiles without their light, and the puzzle."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from course_lib.check.base import Expected, Spy, Wrong, afterwards, close, exercise, prediction

EPS = 0.01  # added to a tile's deviation, as in the library


@prediction()
def places_apart() -> Expected:
    """The predicted number of places in which two random orders of nine tiles differ."""
    orders = torch.rand(2, 20_000, 9).argsort(2)
    return Expected(
        (orders[0] != orders[1]).sum(1).double().mean().item(), within=0.15,
        why="In each of the nine places the two agree with a chance of 1/9, so 9 × 1/9 = 1 place agrees on average",
        slips={"that is the most there can be, and a few places agree by chance": 9,
               "that is in how many they agree": 1,
               "that would need each place to agree half of the time, and there are nine tiles to choose from": 4.5})


def distances(chosen: Int64[Tensor, "k t"], candidates: Int64[Tensor, "m t"]) -> list[list[int]]:
    """For each candidate, in how many places it differs from each of the chosen."""
    return [[sum(x != y for x, y in zip(c, old, strict=True)) for old in chosen.tolist()] for c in candidates.tolist()]


def farthest_slowly(chosen: Int64[Tensor, "k t"], candidates: Int64[Tensor, "m t"], *, table: Callable = distances,
                    worth: Callable[[Sequence[int]], object] = lambda d: (min(d), sum(d)), last: bool = False) -> int:
    """`farthest(chosen, candidates)` -> the candidate with the largest smallest distance; of equals, with the largest
    sum; of equals, the first."""
    scores = [worth(d) for d in table(chosen, candidates)]
    best = [i for i, score in enumerate(scores) if score == max(scores)]
    return best[-1 if last else 0]


def searches() -> list[tuple]:
    """Orders of five tiles: few and many of each, so that there are equals, and that no number is always the answer."""
    every = torch.tensor(list(itertools.permutations(range(5))))
    sizes = ((8, 100), (1, 8), (2, 60), (3, 40), (4, 120), (10, 60), (12, 120), (9, 30), (16, 120), (16, 2))
    return [(every[torch.randperm(120)[:k]], every[torch.randperm(120)[:m]]) for k, m in sizes]


farthest = exercise(
    "farthest", farthest_slowly, searches,
    slips={"of equals you take the first: take the one with the largest sum of distances, and only then the first":
               {"worth": min},
           "of equals you take the last, as `>=` does: take the first, as `>` and argmax do": {"last": True},
           "you take the smallest over the candidates, and give the number of a chosen one: distances are [m, k], and "
           "the smallest over k is wanted, one for each candidate":
               {"table": lambda chosen, candidates: distances(candidates, chosen)},
           "you count along the chosen: of `candidates[:, None] != chosen`, [m, k, t], add up the places, dimension 2":
               {"table": lambda chosen, candidates: (candidates[:, None] != chosen).sum(1).tolist()},
           "you take the largest sum alone, as the paper's algorithm 1 does. Here the smallest distance comes first":
               {"worth": sum},
           "you take the candidate that is nearest to one of the chosen: its smallest distance should be largest":
               {"worth": lambda d: -min(d)},
           "you look at the farthest of the chosen: the nearest one decides for a candidate": {"worth": max},
           "you look at the permutation that was chosen last: all that were chosen count": {"worth": lambda d: d[-1]},
           "you look at the first permutation alone: all that were chosen count": {"worth": lambda d: d[0]}},
    holds="the candidate that comparing one by one finds", otherwise="another candidate than comparing them one by one")


def normalized(tiles: Float[Tensor, "n t c s s"], *, over: tuple[int, ...] = (3, 4), correction: int = 0,
               center: bool = True, divide: Callable = lambda x, variance: x / (variance.sqrt() + EPS)) -> Tensor:
    """`normalize_tiles(tiles)` -> the same shape: each channel of each tile with mean 0 and deviation (nearly) 1."""
    variance, mean = torch.var_mean(tiles, over, correction=correction, keepdim=True)
    return divide(tiles - mean if center else tiles, variance)


def lit_tiles() -> list[tuple]:
    """Tiles of their own brightness and contrast, and then with one among them that is of one color."""
    light, contrast = torch.rand(2, 2, 9, 3, 1, 1)
    tiles = light + (0.1 + contrast) * torch.rand(2, 9, 3, 4, 4)
    flat = tiles.clone()
    flat[0, 4] = 0.25
    return [(tiles,), (flat,)]


normalize_tiles = exercise(
    "normalize_tiles", normalized, lit_tiles,
    slips={"mean and deviation are those of the whole picture: then all its tiles keep their differences":
               {"over": (1, 3, 4)},
           "mean and deviation are taken over the colours too: each channel has its own": {"over": (2, 3, 4)},
           "mean and deviation are taken over the batch: each tile of each picture has its own": {"over": (0, 3, 4)},
           "the 0.01 is missing: a flat tile has a deviation of 0, and then you divide by it":
               {"divide": lambda x, variance: x / variance.sqrt()},
           "the 0.01 is added to the quotient, where it moves all pixels: put the deviation and 0.01 in brackets":
               {"divide": lambda x, variance: x / variance.sqrt() + EPS},
           "the 0.01 is added under the root, to the variance: add it to the deviation":
               {"divide": lambda x, variance: x / (variance + EPS).sqrt()},
           "the mean is gone, and the deviation is as it was: divide by it": {"divide": lambda x, variance: x},
           "you divide by the variance: the deviation is its square root":
               {"divide": lambda x, variance: x / (variance + EPS)},
           "the mean is still there: take it off first": {"center": False},
           "your deviation divides by n − 1: here it is the mean square, correction=0": {"correction": 1}},
    holds="equals one tile after another", otherwise="other tiles than one by one")


FRIENDS = '''
def puzzle_loss(h, permutations, head):
    """One puzzle of each picture. h: [N, 9, D], tiles in reading order; permutations: [P, 9]."""
    answer = torch.randint(len(permutations), (len(h),))
    shuffled = h[:, permutations[answer[0]]]
    scores = head(shuffled.mean(1))  # "one vector a picture"
    return F.cross_entropy(scores, permutations[answer, 0])
'''


def puzzles() -> list[tuple]:
    """Three batches. The head is linear and takes fewer numbers too, so that a look at them can say what is missing."""
    weight = torch.randn(45, 12)
    return [(torch.randn(8, 9, 5), torch.stack([torch.randperm(9) for _ in range(12)]),
             Spy(lambda x: x.flatten(1) @ weight[: x.flatten(1).shape[1]])) for _ in range(3)]


def orders(h: Float[Tensor, "n 9 d"], head: Spy) -> Int64[Tensor, "n 9"]:
    """Which of a picture's vectors the head was given in each of the nine places."""
    return torch.cdist(torch.cat(head.inputs).view_as(h), h.detach()).argmin(2)


def numbers(h: Tensor, permutations: Int64[Tensor, "p 9"], head: Spy) -> Int64[Tensor, " n"]:
    """By which permutation of the set each picture was shuffled."""
    return (orders(h, head)[:, None] == permutations).all(2).int().argmax(1)


def puzzle(h: Float[Tensor, "n 9 d"], permutations: Int64[Tensor, "p 9"], head: Spy, *,
           label: Callable = lambda answer, permutations: answer, loss: Callable = F.cross_entropy) -> Tensor:
    """`puzzle_loss(h, permutations, head)`: shuffle nine vectors of each picture, and ask the head for the order."""
    answer = numbers(h, permutations, head) if head.calls else torch.randint(len(permutations), (len(h),))
    shuffled = torch.stack([picture[order] for picture, order in zip(h, permutations[answer], strict=True)])
    return loss(head(shuffled.flatten(1)), label(answer, permutations))


def shown(loss: Tensor, h: Tensor, permutations: Tensor, head: Spy) -> str | None:
    """What is wrong with what the head was given."""
    n, tiles, d = h.shape
    if not head.calls:
        return "the head was never asked: give it the nine shuffled vectors of each picture, [N, 9·D]"
    seen = torch.cat(head.inputs)
    each = seen.numel() // n
    if len(seen) == n and each == tiles:
        return ("the head gets nine numbers a picture, one of each vector: `gather` takes as many as its index has, so "
                "expand that to all D, order[:, :, None].expand_as(h)")
    if len(seen) == n and each < tiles * d:
        return (f"the head gets one vector of {each} numbers a picture, and nine of {d} are wanted, side by side: a "
                "mean or a sum is the same in every order")
    if list(seen.shape) != [n, tiles * d]:
        return f"what the head is given must have shape {[n, tiles * d]}, and it has {list(seen.shape)}"
    for i, order in enumerate(orders(h, head)):
        if (order.argsort() == permutations).all(1).any() and not (order == permutations).all(1).any():
            return ("you undo the permutation instead of applying it: place t of the puzzle shows tile permutation[t], "
                    "which is what `gather` with it gives")
        if not (order == permutations).all(1).any():
            return f"the order in which picture {i} was shown, {order.tolist()}, is none of the permutations"
    if len(numbers(h, permutations, head).unique()) > 1:
        return None
    if close(loss, puzzle(h, permutations, head)):
        return "all pictures of a batch are shuffled by one permutation: draw one for each of them"
    return ("all pictures are shuffled by one permutation, and the labels say that each has its own: take "
            "permutations[answer], one row a picture, and `gather` with it")


def from_the_whole_set(puzzle_loss: Callable) -> tuple:
    """How many of the twelve permutations are drawn in 40 batches of eight; one is left out with a chance of 1e-11."""
    case, batches = puzzles()[0], []
    for _ in range(40):
        puzzle_loss(*case)
        batches.append(numbers(*case).tolist())
    if all(batch == batches[0] for batch in batches):
        raise Wrong("every batch is shuffled by the same permutations: draw them anew each time")
    count = len(set(itertools.chain(*batches)))
    if count < 12:
        raise Wrong(f"only {count} of the 12 permutations are ever drawn: torch.randint(len(permutations), (len(h),)) "
                    "draws from all of them")
    return count, 12


puzzle_loss = exercise(
    "puzzle_loss", puzzle, puzzles, given=FRIENDS, what="your loss",
    look={"nine vectors side by side, in another order of the set for each picture": shown},
    slips={"the label is a tile's number: the answer is which permutation of the set it was, from 0 to P − 1":
               {"label": lambda answer, permutations: permutations[answer, 0]},
           "F.cross_entropy takes a softmax itself: give it the head's scores as they are":
               {"loss": lambda scores, label: F.cross_entropy(scores.softmax(1), label)},
           **afterwards(count=lambda h, *_: len(h))},
    limits={"orders drawn anew each time, from the whole set": from_the_whole_set},
    holds="the cross-entropy of which one it was",
    otherwise="another loss than the cross-entropy of which permutation of the set each picture was shown in",
    gradients={"h": "the encoder learns through it"})
