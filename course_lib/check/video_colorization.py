"""Checkers of notebook 06: a pointer that copies colours, a mask that is followed, and how well it was."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.check.base import (
    NotAttempted,
    Wrong,
    agree,
    checker,
    close,
    function,
    is_empty,
    number,
    predicted,
    tensor,
    together,
)
from course_lib.methods.pretext.video_color import copy_loss

NEAR = 0.1  # how far off a predicted J may be


@checker
def blind_loss(guess: float, part: int = 8, places: int = 256) -> Iterator[str]:
    """The predicted loss of a pointer that points everywhere alike, where one place in `part` is red, others green."""
    colors = (torch.arange(places) % part == 0).long()[None]
    measured = copy_loss(torch.zeros(1, places, places), colors, colors).item()
    share = 1 / part
    yield predicted(
        guess, measured, within=0.04,
        why=f"A red place finds red with probability 1/{part} and pays log {part}, a green one pays "
            f"log {part}/{part - 1}, and the mean over all places is their entropy",
        mistakes={"two colours that are equally frequent would cost that": math.log(2),
                  "all places of one colour count together, so the number of places does not matter": math.log(places),
                  "that is what a red place pays, and most places are green": math.log(part),
                  "that is what a green place pays, and some places are red": -math.log(1 - share),
                  "that is the logarithm to base 2, and losses use base e": measured / math.log(2),
                  "nothing is paid only by a pointer that is sure and right": 0.0})


def slow_copy(target: Tensor, references: Tensor, colors: Tensor, temperature: float, *,
              normalize: Callable = F.normalize, scale: Callable = lambda s, t: s / t,
              attend: Callable = lambda logits: logits.softmax(2)) -> Tensor:
    """The copied colours `[N, C, P]`, place by place, in float64. Each option is a place for one mistake."""
    target, references = (normalize(z.double()) for z in (target, references))
    n, _, p = target.shape
    logits = torch.stack([torch.stack([target[i, :, j] @ references[i] for j in range(p)]) for i in range(n)])
    weights = attend(scale(logits, temperature))
    return torch.stack([torch.stack([(weights[i, j] * colors[i]).sum(1) for j in range(p)], 1) for i in range(n)])


# What is often done instead, each with the option of `slow_copy` that does it too.
COPY_SLIPS: dict[str, dict[str, Any]] = {
    "your softmax runs over the places of the target: each target place shares itself out among the references, so the "
    "weights of a row must add up to 1 over the references": {"attend": lambda logits: logits.softmax(1)},
    "your softmax runs over the clips of the batch: it must run over the references":
        {"attend": lambda logits: logits.softmax(0)},
    "there is no softmax: the weights of a place must be positive and add up to 1": {"attend": lambda logits: logits},
    "the exponentials are not divided by their sum, so the weights of a place do not add up to 1":
        {"attend": torch.exp},
    "you copy from the best place alone: copy the mean under the attention, or no gradient tells where to point":
        {"attend": lambda logits: F.one_hot(logits.argmax(2), logits.shape[2]).to(logits.dtype)},
    "the embeddings are not normalised: divide each place's vector by its length first": {"normalize": lambda z: z},
    "you normalised over places: F.normalize(z, dim=1) makes each place's vector of length 1":
        {"normalize": functools.partial(F.normalize, dim=2)},
    "you multiply by the temperature: divide by it, so that a small one points sharper": {"scale": lambda s, t: s * t},
    "the temperature is not used": {"scale": lambda s, t: s},
}


@checker
def copied_colors(answer: Callable) -> Iterator[str]:
    """`copied_colors(target, references, colors, temperature)` -> `[N, C, P]`, equations 1 and 2."""
    student = function(answer)

    def case(n: int, d: int, p: int, r: int, temperature: float) -> tuple:
        return torch.randn(n, d, p), torch.randn(n, d, r), torch.rand(n, 3, r), temperature

    cases = [case(2, 4, 5, 7, 0.3), case(3, 6, 4, 9, 1.5)]
    tensor(student(*cases[0]), (2, 3, 5), "what is copied")
    yield "one colour for each place of the target"
    agree(student, cases, slow_copy, {sentence: functools.partial(slow_copy, **slip)
                                      for sentence, slip in COPY_SLIPS.items()},
          "your colours are not those of a loop over the places")
    yield "equals a loop over the places"
    z = torch.eye(5)[None]
    colors = torch.rand(1, 3, 5)
    sure = student(z, z, colors, 0.005)
    if not close(sure, colors):
        raise Wrong("at a temperature of 0.005 every place should copy exactly from its twin, and yours does not: "
                    "exp(200) is too large for float32, and softmax subtracts the largest logit first")
    yield "a sure pointer copies exactly"
    if not close(student(torch.ones(1, 4, 2), torch.ones(1, 4, 5), colors, 0.1)[0, :, 0], colors[0].mean(1)):
        raise Wrong("where all embeddings are alike, the mean of all colours must be copied")
    yield "a blind one copies the mean"
    target, references, colors, temperature = cases[0]
    out = student(target.requires_grad_(), references.requires_grad_(), colors, temperature)
    if not out.requires_grad or not all(g is not None and g.any() for g in torch.autograd.grad(
            out.square().sum(), (target, references), allow_unused=True)):
        raise Wrong("the value is right, but no gradient comes back to both embeddings: nothing would be learned. "
                    "Look for .detach(), torch.no_grad() or argmax")
    yield "a gradient to both frames"


@checker
def copying(answer: Mapping[int, float], measured: Mapping[int, float]) -> Iterator[str]:
    """A prediction. answer and measured: how many frames after the first -> mean J of the first mask held still."""
    if not isinstance(answer, Mapping):
        raise Wrong(f"a dict from a number of frames to J is wanted, and this is a {type(answer).__name__}")
    for frames, truth in measured.items():
        if is_empty(answer.get(frames)):
            raise NotAttempted(f"write a number for a distance of {frames}")
        guess = number(answer[frames], f"J at a distance of {frames}")
        if not 0 <= guess <= 1:
            raise Wrong(f"J lies between 0 and 1, and you said {guess:.3g} for a distance of {frames}")
        if abs(guess - truth) > NEAR:
            raise Wrong(f"at a distance of {frames} you said {guess:.2f}, measured is {truth:.2f}. A thing that has "
                        "moved by a third of its width shares two thirds of it with its old place, and the union is "
                        "four thirds: J falls faster than the part that is shared")
        yield f"at a distance of {frames} you said {guess:.2f}, measured is {truth:.2f}"


def slow_iou(masks: Tensor, truth: Tensor, score: Callable = lambda both, mine, true, size: both / (mine + true - both)
             ) -> Tensor:
    """J of each mask, pixel by pixel; 1 where both are empty. score: from the four counts, a place for a mistake."""
    scores = []
    for mask, right in zip(masks.flatten(0, -3), truth.flatten(0, -3), strict=True):
        pixels = [(m >= 0.5, t >= 0.5) for m, t in zip(mask.flatten().tolist(), right.flatten().tolist(), strict=True)]
        both, mine, true = (sum(which) for which in zip(*((m and t, m, t) for m, t in pixels), strict=True))
        scores.append(score(both, mine, true, len(pixels)) if mine or true else 1.0)
    return torch.tensor(scores).view(masks.shape[:-2])


IOU_SLIPS: dict[str, Callable] = {
    "you divide by the sum of both areas, which counts what they share twice: take it off once":
        lambda both, mine, true, size: both / (mine + true),
    "that is 2 · intersection / (sum of both areas), the Dice score or F1: J divides by the union":
        lambda both, mine, true, size: 2 * both / (mine + true),
    "you divide by the area of your own mask: that is precision, and a single right pixel would score 1":
        lambda both, mine, true, size: both / mine,
    "you divide by the area of the true mask: that is recall, and a mask that covers everything would score 1":
        lambda both, mine, true, size: both / true,
    "you count all pixels that agree, background too: on a small thing an empty mask would score nearly 1":
        lambda both, mine, true, size: (size - mine - true + 2 * both) / size,
    "you divide by the number of pixels: divide by those of the union":
        lambda both, mine, true, size: both / size,
}


def soft_iou(masks: Tensor, truth: Tensor) -> Tensor:
    """J of masks that were not cut at one half."""
    both = (masks * truth).sum((-2, -1))
    return both / (masks.sum((-2, -1)) + truth.sum((-2, -1)) - both)


@checker
def iou(answer: Callable) -> Iterator[str]:
    """`iou(masks, truth)`: J of each of the masks `[..., H, W]`, soft ones cut at one half."""
    student = function(answer)
    masks, truth = torch.rand(2, 3, 6, 5), torch.rand(2, 3, 6, 5).gt(0.4).float()
    tensor(student(masks, truth), (2, 3), "J of masks [2, 3, H, W]")
    yield "one number for each mask"
    cases = [(masks, truth), (torch.rand(4, 8, 8), torch.rand(4, 8, 8).gt(0.7).float())]
    slips = {sentence: functools.partial(slow_iou, score=score) for sentence, score in IOU_SLIPS.items()}
    agree(student, cases, slow_iou, {"soft masks are not cut: a pixel is in from one half on": soft_iou, **slips},
          "your J is not that of counting pixels")
    yield "equals counting pixels"
    empty = torch.zeros(1, 4, 4)
    if not close(student(empty, empty), [1.0]):
        raise Wrong(f"where both masks are empty they agree, so J is 1, and yours is {student(empty, empty)[0]:.3g}")
    yield "1 where both are empty"


def slow_follow(z: Tensor, mask: Tensor, k_frames: int = 3, temperature: float = 0.07, *, own: bool = False,
                first: bool = True, axis: int = 1, times: bool = False) -> Tensor:
    """Masks `[T, P]` from embeddings `[T, D, P]` and the first mask `[P]`, place by place, in float64.

    Each option is a place for one mistake. own: whether a frame is among its own references, with the first mask for
    what is not known yet. first: whether the first frame always is. axis: of the softmax.
    """
    z, values = F.normalize(z.double(), dim=1), [mask.double()] * len(z)
    for t in range(1, len(z)):
        memory = sorted({*([0] if first else []), *range(max(0, t - k_frames), t + own)})
        cosines = torch.stack([torch.stack([z[t, :, p] @ z[m, :, r] for m in memory for r in range(z.shape[2])])
                               for p in range(z.shape[2])])
        weights = (cosines * temperature if times else cosines / temperature).softmax(axis)
        values[t] = weights @ torch.cat([values[m] for m in memory])
    return torch.stack(values)


FOLLOW_SLIPS: dict[str, dict[str, Any]] = {
    "each frame is among its own references: a place is most like itself, and copies what nobody knows yet. The last "
    "reference is frame t − 1": {"own": True},
    "your softmax runs over the places of the target: it must run over the references, so that the weights of a row "
    "add up to 1": {"axis": 0},
    "you multiply by the temperature: divide by it, so that a small one points sharper": {"times": True},
    "the first frame is forgotten once it is more than k_frames back, though its mask alone is certain: keep frame 0 "
    "among the references": {"first": False},
}


def follow_slips() -> Iterator[tuple[str, Callable]]:
    """(sentence, `follow` with that mistake): single mistakes, then several, of which only the first is told."""
    for told, several in together(FOLLOW_SLIPS):
        options = {name: value for sentence in several for name, value in FOLLOW_SLIPS[sentence].items()}
        yield told, functools.partial(slow_follow, **options)


@checker
def follow(answer: Callable) -> Iterator[str]:
    """`follow(z, mask, k_frames, temperature)` -> `[T, P]`: a mask carried along a film from embeddings."""
    student = function(answer)
    cases = [(torch.randn(t, 3, p), torch.rand(p).gt(0.5).float(), k, temperature)
             for t, p, k, temperature in ((6, 7, 2, 0.3), (5, 9, 1, 0.6))]
    z, mask, *_ = cases[0]
    masks = tensor(student(*cases[0]), (len(z), len(mask)), "the masks")
    if not close(masks[0], mask):
        raise Wrong("the first mask was given, so the first row must be that mask")
    yield "the first mask stays"
    if close(masks, masks.round()):
        raise Wrong("masks are cut to 0 and 1 at every step, and what was lost at an edge is lost for all later "
                    "frames: carry soft masks, and cut them only to measure")
    yield "masks stay soft on their way"
    agree(student, cases, slow_follow, follow_slips(), "your masks are not those of a loop over the places")
    yield "equals a loop over the places"
