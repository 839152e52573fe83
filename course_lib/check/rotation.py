"""Checkers of notebook 02: exact rotations, a network that is half blind, patches with a gap, and a training step."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_lib.check.base import (
    NotAttempted,
    Wrong,
    agree,
    checker,
    close,
    function,
    gradient_reaches,
    predicted,
    tensor,
    together,
)


def what_are(rows: Float[Tensor, "m c s s"], pictures: Float[Tensor, "n c s s"]) -> list[tuple[int, int, bool] | None]:
    """Of each row: which picture it is, by how many quarters it is turned, and whether it was mirrored left to right
    before. None where it is no picture at a multiple of 90 degrees."""
    kinds = list(itertools.product(range(len(pictures)), range(4), (False, True)))
    every = [torch.rot90(pictures[i].flip(2) if mirrored else pictures[i], k, (1, 2)) for i, k, mirrored in kinds]
    far = (rows[:, None] - torch.stack(every)).abs().flatten(2).amax(2)
    return [kinds[j] if off < 1e-6 else None for off, j in zip(*far.min(1), strict=True)]


@checker
def rotate4(answer: Callable) -> Iterator[str]:
    """`rotate4(x)` -> (pictures `[4N, C, S, S]`, labels int64 `[4N]`): all upright, then all turned by 90, 180, 270."""
    student = function(answer)
    x = torch.rand(3, 2, 4, 4)
    got = student(x)
    if not isinstance(got, tuple) or len(got) != 2:
        raise Wrong("the pair (pictures, labels) is wanted: end with `return pictures, labels`")
    if any(part is ... for part in got):
        raise NotAttempted("fill in both, pictures and labels")
    pictures, labels = tensor(got[0], (12, 2, 4, 4), "the pictures"), tensor(got[1], (12,), "the labels")
    if labels.dtype != torch.int64:
        raise Wrong(f"labels are whole numbers, int64, for F.cross_entropy, and yours are {labels.dtype}")
    yield "four pictures of each, with a label each"

    found = what_are(pictures, x)
    for j, seen in enumerate(found):
        if seen is None:
            raise Wrong(f"picture {j} of your answer is none of the pictures turned by a multiple of 90 degrees. "
                        "Are only the last two dimensions changed, and the pixels moved but not altered?")
        if seen[2]:
            raise Wrong(f"picture {j} of your answer is a mirror image: a transpose alone mirrors a picture, and so "
                        "does one flip. A turn is two of them, one after the other")
    quarters = [seen[1] for seen in found]
    if sorted(seen[:2] for seen in found) != list(itertools.product(range(3), range(4))):
        raise Wrong(f"each picture is wanted at each rotation once; yours are turned by {[90 * q for q in quarters]}")
    yield "every picture at all four rotations, no pixel altered"

    if quarters != labels.tolist():
        if all(q == -label % 4 for q, label in zip(quarters, labels.tolist(), strict=True)):
            raise Wrong("you turn clockwise, and label 1 means 90 degrees counter-clockwise: flip the other dimension")
        j = next(j for j in range(12) if quarters[j] != labels[j])
        raise Wrong(f"picture {j} of your answer is turned by {90 * quarters[j]} degrees, and its label says "
                    f"{90 * int(labels[j])}. `repeat` gives 0, 1, 2, 3, 0, …, `repeat_interleave` 0, 0, …, 1, 1, …")
    yield "labels that fit"
    if found != [(i, k, False) for k in range(4) for i in range(3)]:
        raise Wrong("labels and pictures fit, but the order is another: first all pictures upright, then all by 90 …")
    yield "in the order that was asked for"
    if not close(student(torch.rand(2, 3, 5, 5))[1], torch.arange(4).repeat_interleave(2)):
        raise Wrong("with another number of pictures your labels no longer fit: is one written by hand?")
    yield "for any number of pictures"


@checker
def half_blind(guess: float) -> Iterator[str]:
    """The predicted loss of a network that sees whether a thing stands or lies, and not which end is up."""
    rotation = torch.arange(4).repeat(32)
    logits = torch.full((len(rotation), 4), -100.0)
    for possible in (rotation, (rotation + 2) % 4):
        logits.scatter_(1, possible[:, None], 0.0)
    yield predicted(
        guess, F.cross_entropy(logits, rotation).item(), within=0.05,
        why="It gives the right answer and the opposite one a probability of 1/2 each, and −log(1/2) = log 2 = 0.693",
        mistakes={"that is log 4, of a network that knows nothing; this one leaves only two answers open": 1.386,
                  "that is how often it is right; the loss is minus the logarithm of a probability": 0.5,
                  "that is the logarithm to base 2, and losses use base e": 1.0,
                  "that would be perfect, and this network has to guess between two answers": 0.0,
                  "that is the logarithm to base 10, and losses use base e": 0.301})


def cut_slowly(x: Tensor, patch: int, gap: int, *, step: Callable = lambda patch, gap: patch + gap,
               by_column: bool = False) -> Float[Tensor, "n 9 c p p"]:
    """Nine patches of each picture in reading order, one after another. The options are places for mistakes."""
    start = step(patch, gap)
    out = torch.zeros(len(x), 9, x.shape[1], patch, patch)
    for k in range(9):
        row, column = divmod(k, 3)[::-1] if by_column else divmod(k, 3)
        piece = x[:, :, row * start : row * start + patch, column * start : column * start + patch]
        out[:, k, :, : piece.shape[2], : piece.shape[3]] = piece
    return out


@checker
def cut(answer: Callable) -> Iterator[str]:
    """`cut(x, patch, gap)` -> `[N, 9, C, patch, patch]`: a 3×3 grid, the first from the upper left corner."""
    student = function(answer)
    cases = [(torch.rand(2, 3, 20, 20), 4, 2), (torch.rand(3, 3, 24, 24), 5, 1), (torch.rand(2, 3, 30, 30), 3, 4)]
    agree(student, cases, cut_slowly, {
        "the patches touch: the next one begins patch + gap pixels further on":
            lambda x, patch, gap: cut_slowly(x, patch, gap, step=lambda patch, gap: patch),
        "there are gap pixels from one patch's beginning to the next one's; they should lie between them":
            lambda x, patch, gap: cut_slowly(x, patch, gap, step=lambda patch, gap: gap),
        "the gap is counted twice: there is one between two patches":
            lambda x, patch, gap: cut_slowly(x, patch, gap, step=lambda patch, gap: patch + 2 * gap),
        "you go down the columns: reading order is along the rows. In x[:, :, rows, columns] rows come first":
            lambda x, patch, gap: cut_slowly(x, patch, gap, by_column=True),
    }, "other patches than cutting them one by one")
    yield "equals cutting them one by one"
    x = torch.rand(2, 3, 12, 12)
    if not close(student(x, 4, 0), cut_slowly(x, 4, 0)):
        raise Wrong("without a gap the nine patches must tile the picture, and yours do not")
    yield "tiles the picture where there is no gap"


class _Watched(nn.Sequential):
    """A small encoder that remembers the pictures it was shown."""

    def __init__(self, numbers: int):
        super().__init__(nn.Flatten(), nn.Linear(numbers, 6), nn.Tanh())
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach())
        return super().forward(x)


# What is often done instead of rotation's loss. They are applied to the labels, or to the scores.
UPSIDE_DOWN = ("a picture is flipped upside down and keeps the label of one that is not: after flip(2) up is down. "
               "Flip left and right with flip(3), or not at all")
REPEATED = ("the labels do not fit the pictures: torch.cat puts all pictures at one rotation next to each other, so "
            "the labels are 0, 0, …, 1, 1, …; `repeat` gives 0, 1, 2, 3, 0, …")
SOFTMAX = "F.cross_entropy takes a softmax itself: give it the classifier's scores as they are"


def step_loss(logits: Float[Tensor, "m 4"], quarters: Int64[Tensor, " m"], mirrored: Tensor,
              slips: tuple[str, ...] = ()) -> Float[Tensor, ""]:
    """Rotation's loss, or what it is with some of the slips above."""
    if UPSIDE_DOWN in slips:
        quarters = torch.where(mirrored, (quarters + 2) % 4, quarters)
    if REPEATED in slips:
        quarters = torch.arange(4).repeat(len(quarters) // 4)
    return F.cross_entropy(logits.softmax(1) if SOFTMAX in slips else logits, quarters)


@checker
def training_loss(answer: Callable) -> Iterator[str]:
    """`training_loss(x, encoder, classifier)`: all that rotation does with a batch of pictures."""
    student = function(answer)
    for _ in range(8):  # a flip may be drawn at random
        x, encoder, classifier = torch.rand(5, 3, 4, 4), _Watched(48), nn.Linear(6, 4)
        loss = tensor(student(x, encoder, classifier), (), "your loss")
        if not encoder.seen:
            raise Wrong("the encoder was never asked: give it the turned pictures")
        rows = torch.cat(encoder.seen)
        found = what_are(rows, x)
        if None in found or sorted(seen[:2] for seen in found) != list(itertools.product(range(5), range(4))):
            raise Wrong("the encoder should see each picture of the batch at 0, 90, 180 and 270 degrees, once each, "
                        f"and it saw {len(rows)} pictures of {len(x)}, not all of them so")
        _, quarters, mirrored = map(torch.tensor, zip(*found, strict=True))
        logits = classifier(encoder(rows))
        wanted = step_loss(logits, quarters, mirrored)
        if not close(loss, wanted):
            raise Wrong(_diagnose(loss, logits, quarters, mirrored))
    yield "every picture at all four rotations, with the labels that fit"
    yield "their cross-entropy, mean over pictures and rotations"
    gradient_reaches(loss, [*encoder.parameters(), *classifier.parameters()], "the encoder")
    yield "a gradient to encoder and classifier"


def _diagnose(loss: Tensor, *args: Tensor) -> str:
    """Which slips, one or several together, give this loss; how many there are is not told."""
    for _, slips in together((SOFTMAX, REPEATED, UPSIDE_DOWN)):
        if close(loss, step_loss(*args, slips)):
            return slips[0] if len(slips) == 1 else f"more than one mistake; one of them: {slips[0]}"
    wanted = step_loss(*args)
    if close(loss, wanted * len(args[0])):
        return "you add up the losses: take their mean, or the learning rate depends on the batch"
    return f"your loss is {loss.item():.4g} where {wanted.item():.4g} is right: the cross-entropy of the four rotations"
