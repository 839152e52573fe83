"""Checkers of notebook 02: exact rotations, a network that is half blind, patches with a gap, a training step, and the
patches of a control."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from course_lib import nets
from course_lib.check.answers import in_words
from course_lib.check.base import (
    Expected,
    NotAttempted,
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
from course_lib.methods import RelativePatch


def what_are(rows: Float[Tensor, "m c s s"], pictures: Float[Tensor, "n c s s"]) -> list[tuple[int, int, bool] | None]:
    """Of each row: which picture it is, by how many quarters it is turned, and whether it was mirrored left to right
    before. None where it is no picture at a multiple of 90 degrees."""
    kinds = list(itertools.product(range(len(pictures)), range(4), (False, True)))
    every = [torch.rot90(pictures[i].flip(2) if mirrored else pictures[i], k, (1, 2)) for i, k, mirrored in kinds]
    far = (rows[:, None] - torch.stack(every)).abs().flatten(2).amax(2)
    return [kinds[j] if off < 1e-6 else None for off, j in zip(*far.min(1), strict=True)]


def each_at_all_rotations(found: list[tuple[int, int, bool] | None], n: int) -> bool:
    """Whether each of n pictures is there at each of the four rotations, once, mirrored or not."""
    return None not in found and sorted(seen[:2] for seen in found) == list(itertools.product(range(n), range(4)))


@checker
def rotate4(answer: Callable) -> Iterator[str]:
    """`rotate4(x)` -> (pictures `[4N, C, S, S]`, labels int64 `[4N]`): all upright, then all turned by 90, 180, 270."""
    student = function(answer)
    x = torch.rand(3, 2, 4, 4)
    got = student(x)
    if not isinstance(got, tuple) or len(got) != 2:
        raise Wrong("the pair (pictures, labels) is wanted: end with `return pictures, labels`")
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
    quarters = torch.tensor([seen[1] for seen in found])
    if not each_at_all_rotations(found, 3):
        raise Wrong(f"each picture is wanted at each rotation once; yours are turned by {(90 * quarters).tolist()}")
    yield "every picture at all four rotations, no pixel altered"

    if (quarters != labels).any():
        if torch.equal(quarters, -labels % 4):
            raise Wrong("you turn clockwise, and label 1 means 90 degrees counter-clockwise: flip the other dimension")
        j = int((quarters != labels).nonzero()[0])
        raise Wrong(f"picture {j} of your answer is turned by {90 * quarters[j]} degrees, and its label says "
                    f"{90 * labels[j]}. `repeat` gives 0, 1, 2, 3, 0, …, `repeat_interleave` 0, 0, …, 1, 1, …")
    yield "labels that fit"
    if found != [(i, k, False) for k in range(4) for i in range(3)]:
        raise Wrong("labels and pictures fit, but the order is another: first all pictures upright, then all by 90 …")
    yield "in the order that was asked for"
    if not close(student(torch.rand(2, 3, 5, 5))[1], torch.arange(4).repeat_interleave(2)):
        raise Wrong("with another number of pictures your labels no longer fit: is one written by hand?")
    yield "for any number of pictures"


@prediction()
def half_blind() -> Expected:
    """The predicted loss of a network that sees whether a thing stands or lies, and not which end is up."""
    stands = torch.tensor([[0.0, -100.0, 0.0, -100.0]])
    return Expected(
        F.cross_entropy(stands, torch.tensor([0])).item(), within=0.05,
        why="It gives the right answer and the opposite one a probability of 1/2 each, and −log(1/2) = log 2 = 0.693",
        slips={"that is log 4, of a network that knows nothing; this one leaves only two answers open": math.log(4),
               "that is how often it is right; the loss is minus the logarithm of a probability": 0.5,
               "that is the logarithm to base 2, and losses use base e": 1.0,
               "that would be perfect, and this network has to guess between two answers": 0.0,
               "that is the logarithm to base 10, and losses use base e": math.log10(2)})


def cut_slowly(x: Tensor, patch: int, gap: int, *, step: Callable = lambda patch, gap: patch + gap,
               by_column: bool = False) -> Float[Tensor, "n 9 c p p"]:
    """`cut(x, patch, gap)` -> `[N, 9, C, patch, patch]`: a 3×3 grid, the first from the upper left corner."""
    start = step(patch, gap)
    out = torch.zeros(len(x), 9, x.shape[1], patch, patch)
    for k in range(9):
        row, column = divmod(k, 3)[::-1] if by_column else divmod(k, 3)
        piece = x[:, :, row * start : row * start + patch, column * start : column * start + patch]
        out[:, k, :, : piece.shape[2], : piece.shape[3]] = piece  # smaller where a wrong step leaves the picture
    return out


def tiles(cut: Callable) -> tuple:
    """Without a gap the patches lie side by side."""
    x = torch.rand(2, 3, 12, 12)
    return cut(x, 4, 0), cut_slowly(x, 4, 0), "without a gap the nine patches must tile the picture, and yours do not"


cut = exercise(
    "cut", cut_slowly,
    lambda: [(torch.rand(2, 3, 20, 20), 4, 2), (torch.rand(3, 3, 24, 24), 5, 1), (torch.rand(2, 3, 30, 30), 3, 4)],
    slips={"the patches touch: the next one begins patch + gap pixels further on": {"step": lambda patch, gap: patch},
           "there are gap pixels from one patch's beginning to the next one's; they should lie between them":
               {"step": lambda patch, gap: gap},
           "the gap is counted twice: there is one between two patches": {"step": lambda patch, gap: patch + 2 * gap},
           "you go down the columns: reading order is along the rows. In x[:, :, rows, columns] rows come first":
               {"by_column": True}},
    limits={"tiles the picture where there is no gap": tiles},
    holds="equals cutting them one by one", otherwise="other patches than cutting them one by one")


FRIENDS = '''
def training_loss(x, encoder, classifier):
    """Rotation's loss of a batch of pictures x: [N, 3, S, S]."""
    if torch.rand(()) < 0.5:
        x = x.flip(2)  # "more variety"
    turned = torch.cat([torch.rot90(x, k, (2, 3)) for k in range(4)])
    label = torch.arange(4).repeat(len(x))
    p = classifier(encoder(turned)).softmax(1)  # "probabilities"
    return F.cross_entropy(p, label)
'''


def step(x: Tensor, encoder: Spy, classifier: nn.Module, *, upside_down: bool = False, repeated: bool = False,
         clockwise: bool = False, loss: Callable = F.cross_entropy) -> Float[Tensor, ""]:
    """`training_loss(x, encoder, classifier)`: all that rotation does with a batch of pictures."""
    start = x.flip(2) if upside_down else x
    turned = torch.cat(encoder.inputs or [torch.rot90(start, k, (2, 3)) for k in range(4)])
    _, label, mirrored = map(torch.tensor, zip(*what_are(turned, x), strict=True))
    if upside_down:  # to be mirrored and turned by a half
        label = torch.where(mirrored, (label + 2) % 4, label)
    if clockwise:
        label = -label % 4
    if repeated:
        label = torch.arange(4).repeat(len(x))
    return loss(classifier(encoder(turned)), label)


def shown(loss: Tensor, x: Tensor, encoder: Spy, classifier: nn.Module) -> str | None:
    """What is wrong with the pictures that the encoder was shown."""
    if not encoder.calls:
        return "the encoder was never asked: give it the turned pictures"
    if any(seen.shape[1:] != x.shape[1:] for seen in encoder.inputs) or not each_at_all_rotations(
            what_are(torch.cat(encoder.inputs), x), len(x)):
        return ("the encoder should see each picture of the batch at 0, 90, 180 and 270 degrees, once each, and it saw "
                f"{sum(map(len, encoder.inputs))} pictures of {len(x)}, not all of them so")
    return None


def steps() -> list[tuple]:
    """Eight batches, since a flip may be drawn at random."""
    return [(torch.rand(5, 3, 4, 4), Spy(nn.Sequential(nn.Flatten(), nn.Linear(48, 6), nn.Tanh())), nn.Linear(6, 4))
            for _ in range(8)]


training_loss = exercise(
    "training_loss", step, steps, given=FRIENDS, together=3, what="your loss",
    look={"every picture at all four rotations": shown},
    slips={"F.cross_entropy takes a softmax itself: give it the classifier's scores as they are":
               {"loss": lambda scores, label: F.cross_entropy(scores.softmax(1), label)},
           "there is no logarithm: F.nll_loss wants log-probabilities, F.cross_entropy takes the scores":
               {"loss": lambda scores, label: F.nll_loss(scores.softmax(1), label)},
           "the labels do not fit the pictures: torch.cat puts all pictures at one rotation next to each other, so the "
           "labels are 0, 0, …, 1, 1, …; `repeat` gives 0, 1, 2, 3, 0, …": {"repeated": True},
           "you turn clockwise, and label 1 means 90 degrees counter-clockwise: torch.rot90 wants k = 1 there, not −1":
               {"clockwise": True},
           "a picture is flipped upside down and keeps the label of one that is not: after flip(2) up is down. Flip "
           "left and right with flip(3), or not at all": {"upside_down": True},
           **afterwards(count=lambda x, *_: 4 * len(x))},
    holds="the cross-entropy of the four rotations, mean over pictures and rotations",
    otherwise="another loss than the cross-entropy of the four rotations",
    gradients={"encoder": "look for .detach() or torch.no_grad()", "classifier": "it is trained too"})


# --- the patches of a control -----------------------------------------------------------------------------------------

def layout(options: Mapping[str, Any]) -> dict[str, int]:
    """Where patches lie, in pixels of a view, and whether they have colours: of `RelativePatch` with these options, and
    with its recipe's where there is none."""
    method = RelativePatch(nets.convnet((4,), 4), **{"drop_color": False, **options})
    cell = method.views.size // 3 if method.gap else method.patch
    moves = method.jitter if method.gap else 0
    if moves < 0 or method.patch < 1 or method.patch + 2 * moves > cell:
        raise Wrong(f"patches of {method.patch} pixels that move by {moves} either way do not fit a cell of {cell}")
    return {"the patch": method.patch, "the space between patches": cell - method.patch, "the jitter": moves,
            "the field": 3 * cell, "the colours": not method.drop_color}


CONTROLS = {  # options -> what to say
    "nothing is changed: this is relative_patch, with which the new run will be compared": {},
    "this is relative_patch_touching: it has neither gap nor jitter, and a smaller field": {"gap": False},
    "this is relative_patch_touching_wide: it has neither gap nor jitter, and larger patches":
        {"gap": False, "patch": 12},
    "with jitter 0, patches of 12 pixels fill their cells and touch: this is relative_patch_touching_wide once more":
        {"jitter": 0, "patch": 12},
    "patches that touch cannot move, so `jitter` changes nothing there: this is relative_patch_touching":
        {"gap": False, "jitter": 0},
    "the jitter alone is changed, but there is more of it. Those that touch have none, and it is none that you want to "
    "know about": {"jitter": 2},
    "this changes the patch and the space between patches; the jitter, which you want to know about, is as before":
        {"patch": 10},
    "this changes the colours as well: one thing at a time": {"jitter": 0, "drop_color": True},
}


def differs(options: Mapping[str, Any]) -> list[str]:
    """In what patches of these options differ from those of relative_patch."""
    base, new = layout({}), layout(options)
    return [what for what in base if base[what] != new[what]]


@checker(predicts=True, right=lambda: {"jitter": 0}, wrong=lambda: CONTROLS)
def control(options: Mapping[str, Any]) -> Iterator[str]:
    """The options of `RelativePatch` of a run that differs from relative_patch in its jitter alone, and has none."""
    if not isinstance(options, Mapping):
        raise Wrong("a dict is wanted, from names of options of RelativePatch to their values, such as {'gap': False}")
    if any(value is ... for value in options.values()):
        raise NotAttempted("there is still a `...` to fill in")
    try:
        changed = differs(options)
    except (TypeError, ValueError) as error:
        raise Wrong(f"RelativePatch cannot be built with these options ({in_words(error)}); "
                    "it knows patch, jitter, gap and drop_color") from error
    if changed == ["the jitter"] and layout(options)["the jitter"] == 0:
        yield ("only the jitter differs from relative_patch. If this encoder is as good, the gap alone closes the "
               "shortcut; if it is worse, jitter has its share")
        return
    for sentence, slip in CONTROLS.items():
        if dict(options) == slip:
            raise Wrong(sentence)
    for sentence, slip in CONTROLS.items():  # the same patches, written in another way
        if layout(options) == layout(slip):
            raise Wrong(sentence)
    raise Wrong(f"a control changes one thing, and this changes {' and '.join(changed)}")
