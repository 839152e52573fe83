"""Checkers of notebook 03: how far permutations lie apart, a greedy step, the puzzle's loss, tiles without their light,
what the network says put back, and a set of permutations that is a control."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from course_lib.check.base import (
    Expected,
    Spy,
    Wrong,
    afterwards,
    checker,
    close,
    exercise,
    function,
    prediction,
    tensor,
)
from course_lib.methods.pretext import jigsaw as library

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


def distances(chosen: Int64[Tensor, "k t"], candidates: Int64[Tensor, "m t"], *,
              apart: Callable[[int, int], int] = lambda x, y: x != y) -> list[list[int]]:
    """For each candidate, in how many places it differs from each of the chosen."""
    return [[sum(apart(x, y) for x, y in zip(c, old, strict=True)) for old in chosen.tolist()]
            for c in candidates.tolist()]


def farthest_slowly(chosen: Int64[Tensor, "k t"], candidates: Int64[Tensor, "m t"], *, table: Callable = distances,
                    worth: Callable[[Sequence[int]], object] = lambda d: (min(d), sum(d)), last: bool = False) -> int:
    """`farthest(chosen, candidates)` -> the candidate with the largest smallest distance; of equals, with the largest
    sum; of equals, the first."""
    scores = [worth(d) for d in table(chosen, candidates)]
    best = [i for i, score in enumerate(scores) if score == max(scores)]
    return best[-1 if last else 0]


def searches() -> list[tuple]:
    """Orders of five tiles: few and many of each, so that there are equals, that no number is always the answer, and
    that the largest smallest distance and the largest sum, however weighted, are not always of the same candidate."""
    every = torch.tensor(list(itertools.permutations(range(5))))
    sizes = ((8, 100), (1, 8), (2, 60), (3, 40), (4, 120), (10, 60), (12, 120), (9, 30), (16, 120), (16, 2))
    drawn = [(every[torch.randperm(120)[:k]], every[torch.randperm(120)[:m]]) for k, m in sizes]
    # The tiles in order are three places from each of these, and another order is nearer to one and farther in sum.
    three = every[(every != every[0]).sum(1) == 3]
    apart = (every[:, None] != three).sum(2)
    rival = (apart.amin(1) == 2).int().mul(apart.sum(1)).argmax()
    return [*drawn, (three, every[[int(rival), 0]])]


farthest = exercise(
    "farthest", farthest_slowly, searches,
    slips={"you count the places in which two agree: a distance counts those in which they differ, `!=`":
               {"table": partial(distances, apart=lambda x, y: x == y)},
           "you take how far the tiles' numbers lie apart: numbers are only names, so count the places that differ":
               {"table": partial(distances, apart=lambda x, y: abs(x - y))},
           "you take the smallest over the candidates, and give the number of a chosen one: distances are [m, k], and "
           "the smallest over k is wanted, one for each candidate":
               {"table": lambda chosen, candidates: distances(candidates, chosen)},
           "you count along the chosen: of `candidates[:, None] != chosen`, [m, k, t], add up the places, dimension 2":
               {"table": lambda chosen, candidates: (candidates[:, None] != chosen).sum(1).tolist()},
           "you take the largest sum alone, as the paper's algorithm 1 does. Here the smallest distance comes first":
               {"worth": sum},
           "you add the smallest distance, or a few times it, to the sum, which outweighs it: the sum may decide only "
           "between equals": {"worth": lambda d: min(d) + sum(d)},
           "you take the candidate that is nearest to one of the chosen: its smallest distance should be largest":
               {"worth": lambda d: -min(d)},
           "you look at the farthest of the chosen: the nearest one decides for a candidate": {"worth": max},
           "you look at the permutation that was chosen last: all that were chosen count": {"worth": lambda d: d[-1]},
           "you look at the first permutation alone: all that were chosen count": {"worth": lambda d: d[0]},
           # Told last where there are two mistakes: the others matter more.
           "of equals you take the first: take the one with the largest sum of distances, and only then the first":
               {"worth": min},
           "of equals you take the last, as `>=` does: take the first, as `>` and argmax do": {"last": True}},
    holds="the candidate that comparing one by one finds", otherwise="another candidate than comparing them one by one")


def normalized(tiles: Float[Tensor, "n t c s s"], *, over: tuple[int, ...] = (3, 4), correction: int = 0,
               center: bool = True, divide: Callable = lambda x, variance: x / (variance.sqrt() + EPS)) -> Tensor:
    """`normalize_tiles(tiles)` -> the same shape: each channel of each tile with mean 0 and deviation (nearly) 1."""
    variance, mean = torch.var_mean(tiles, over, correction=correction, keepdim=True)
    return divide(tiles - mean if center else tiles, variance)


def deviation(tiles: Tensor) -> Tensor:
    """The divisor, in one line."""
    return tiles.std((3, 4), correction=0, keepdim=True) + EPS


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
           "mean and deviation are those of all tiles of all pictures together: each tile has its own":
               {"over": (0, 1, 2, 3, 4)},
           "mean and deviation are taken over dimensions 2 and 3, colours and rows: rows and columns are 3 and 4":
               {"over": (2, 3)},
           "mean and deviation are taken over one row of a tile: take both of its last dimensions": {"over": (4,)},
           "mean and deviation are taken over one column of a tile: take both of its last dimensions": {"over": (3,)},
           "only the mean is divided, since `/` binds tighter than `-`: put the difference in brackets":
               lambda tiles: tiles - tiles.mean((3, 4), keepdim=True) / deviation(tiles),
           "these are the library's tiles, mapped back into [0, 1]: here leave mean 0 and deviation 1":
               lambda tiles: library.normalize_tiles(tiles.float()),
           "you divide by the variance: the deviation is its square root":
               {"divide": lambda x, variance: x / (variance + EPS)},
           "the mean is still there: take it off first": {"center": False},
           "your deviation divides by n − 1: here it is the mean square, correction=0": {"correction": 1}},
    holds="equals one tile after another", otherwise="other tiles than one by one")


def puzzles() -> list[tuple]:
    """Three batches. The head is linear and takes fewer and more numbers too, so that a look at them can say what is
    missing. None of the permutations is the reading order."""
    weight = torch.randn(45, 12)
    return [(torch.randn(8, 9, 5), torch.stack([torch.randperm(9) for _ in range(12)]),
             Spy(lambda x: x.flatten(1) @ weight[torch.arange(x.flatten(1).shape[1]) % 45])) for _ in range(3)]


def orders(h: Float[Tensor, "n 9 d"], head: Spy, *, across: bool = False) -> Int64[Tensor, "n 9"]:
    """Which of a picture's vectors the head was given in each of the nine places. across: taken for interleaved."""
    seen = torch.cat(head.inputs).detach()
    seen = seen.unflatten(1, (h.shape[2], h.shape[1])).mT if across else seen.view_as(h)
    return torch.cdist(seen, h.detach()).argmin(2)


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
    if len(seen) == n and each == n * tiles * d:
        return ("each picture comes in the orders of all pictures, since `h[:, order]` takes every row of `order` for "
                "every picture: `gather` along dimension 1 takes one row a picture")
    if list(seen.shape) == [n * tiles, d]:
        return ("the head gets one vector at a time: it must see all nine of a picture at once, flatten(1), or it "
                "cannot know their order")
    if len(seen) == n * len(permutations):
        return ("each picture is asked for in every order of the set: draw one order for each picture, with "
                "torch.randint")
    if list(seen.shape) != [n, tiles * d]:
        return f"what the head is given must have shape {[n, tiles * d]}, and it has {list(seen.shape)}"
    if close(seen.unflatten(1, (d, tiles)).mT, h.gather(1, orders(h, head, across=True)[:, :, None].expand_as(h))):
        return ("the vectors are interleaved, number by number: put them one after another, [N, 9, D] and then "
                "flatten(1)")
    if close(seen, h.flatten(1)):
        return "nothing is shuffled: the head gets the nine vectors in reading order, and the label says another one"
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
    "puzzle_loss", puzzle, puzzles, what="your loss",
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


FRIENDS = '''
def put_back(shuffled, logits, permutations):
    """Nine vectors of each puzzle where the network says they belong. shuffled: [N, 9, D], logits: [N, P]."""
    q = logits.softmax(0)  # "probabilities first"
    order = permutations[q.argmax(1)]
    return torch.stack([vectors[order[0]] for vectors in shuffled])
'''


def back_slowly(shuffled: Float[Tensor, "n 9 d"], logits: Float[Tensor, "n p"], permutations: Int64[Tensor, "p 9"], *,
                over: int = 1, undo: bool = True, own: bool = True, best: Callable = torch.argmax) -> Tensor:
    """`put_back(shuffled, logits, permutations)` -> the vectors in reading order, as far as the network is right."""
    says = best(logits.softmax(over), 1).tolist()
    back = torch.empty_like(shuffled)
    for i, vectors in enumerate(shuffled):
        for place, tile in enumerate(permutations[says[i if own else 0]].tolist()):
            back[i, tile if undo else place] = vectors[place if undo else tile]
    return back


def answered() -> list[tuple]:
    """Batches of puzzles and what a network said, which likes some permutations more than others."""
    return [(torch.randn(6, 9, 4), 2 * torch.randn(6, 12) + 2 * torch.randn(1, 12),
             torch.stack([torch.randperm(9) for _ in range(12)])) for _ in range(6)]


def solved(put_back: Callable) -> tuple:
    """What comes out where the network is sure and right, and the vectors as they were before they were shuffled."""
    h, permutations = torch.randn(6, 9, 4), torch.stack([torch.randperm(9) for _ in range(12)])
    truth = torch.randperm(12)[:6]
    shuffled = h.gather(1, permutations[truth][:, :, None].expand_as(h))
    return put_back(shuffled, 50 * F.one_hot(truth, 12).float(), permutations), h


put_back = exercise(
    "put_back", back_slowly, answered, given=FRIENDS, together=3,
    slips={"the softmax runs over the pictures, dimension 0: each picture's own scores are compared, dimension 1":
               {"over": 0},
           "you shuffle once more: place t of a puzzle shows tile order[t], so tile j lies in place order.argsort()[j]":
               {"undo": False},
           "all puzzles are put back in the order that is said of the first: each has its own": {"own": False},
           "you take the least likely permutation: the likeliest is wanted": {"best": torch.argmin},
           "the vectors are still as they were shuffled": lambda shuffled, *_: shuffled},
    limits={"a right answer gives the picture back": solved},
    holds="each vector where the network says", otherwise="other vectors than moving them one by one")


ALIKE = 2  # places in which two different permutations differ at least
OFTEN = 0.4  # a tile that stands in one place in more of the puzzles than this is hardly shuffled


@checker
def near_set(answer: Callable[[int], Tensor]) -> Iterator[str]:
    """`near_set(n)` -> int64 [n, 9]: as many answers, each with another one as near as can be, and all tiles moving."""
    student = function(answer)
    for n in (64, 128):
        chosen = tensor(student(n), (n, 9), "your set")
        if chosen.dtype != torch.int64:
            raise Wrong(f"your set must be of int64, so that it can index, and it is {chosen.dtype}")
        for i, row in enumerate(chosen.tolist()):
            if sorted(row) != list(range(9)):
                raise Wrong(f"row {i} is no permutation of nine tiles: {row}")
        distance = (chosen[:, None] != chosen).sum(2).fill_diagonal_(9)
        if not distance.all():
            raise Wrong(f"{int((distance == 0).any(1).sum())} of your {n} occur more than once: two answers that are "
                        "the same puzzle cannot be told apart, so there are fewer than before")
        share = torch.stack([(chosen == tile).double().mean(0) for tile in range(9)])  # of each tile in each place
        if share.max() > OFTEN:
            tile, place = divmod(int(share.argmax()), 9)
            raise Wrong(f"tile {tile} stands in place {place} in {100 * share.max():.0f} % of the puzzles, so fewer "
                        "tiles are really shuffled, and that is a second thing that you changed: start from "
                        "permutations that move all nine")
        if not (distance.amin(1) == ALIKE).all():
            near = int((distance.amin(1) == ALIKE).sum())
            raise Wrong(f"only {near} of your {n} have another one two places away, and each should: take half as many "
                        "that lie far apart, and give each of them a twin with two tiles exchanged")
    yield "n different permutations of nine tiles"
    yield "each has another two places away"
    yield "every tile still moves about"
