"""Checkers of notebook 06: a pointer that copies colours, a mask that is followed, and how well it was."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from course_lib.check.base import Expected, NotAttempted, Wrong, checker, exercise, is_empty, number, prediction, tensor
from course_lib.methods.pretext.video_color import copy_loss

NEAR = 0.1  # how far off a predicted J may be


@prediction()
def blind_loss() -> Expected:
    """The predicted loss of a pointer that points everywhere alike, where one place in eight is red, others green."""
    colors = (torch.arange(256) % 8 == 0).long()[None]
    measured = copy_loss(torch.zeros(1, 256, 256), colors, colors).item()
    return Expected(
        measured, within=0.04,
        why="A red place finds red with probability 1/8 and pays log 8, a green one pays log 8/7, and the mean over "
            "all places is their entropy",
        slips={"two colours that are equally frequent would cost that": math.log(2),
               "all places of one colour count together, so the number of places does not matter": math.log(256),
               "that is what a red place pays, and most places are green": math.log(8),
               "that is what a green place pays, and some places are red": math.log(8 / 7),
               "that is the logarithm to base 2, and losses use base e": measured / math.log(2),
               "nothing is paid only by a pointer that is sure and right": 0.0})


def slow_copy(target: Float[Tensor, "n d p"], references: Float[Tensor, "n d r"], colors: Float[Tensor, "n c r"],
              temperature: float, *, normalize: Callable = F.normalize, scale: Callable = lambda s, t: s / t,
              attend: Callable = lambda logits: logits.softmax(2)) -> Float[Tensor, "n c p"]:
    """`copied_colors(target, references, colors, temperature)` -> `[N, C, P]`, equations 1 and 2."""
    target, references = normalize(target), normalize(references)
    n, _, p = target.shape
    logits = torch.stack([torch.stack([target[i, :, j] @ references[i] for j in range(p)]) for i in range(n)])
    weights = attend(scale(logits, temperature))
    return torch.stack([torch.stack([(weights[i, j] * colors[i]).sum(1) for j in range(p)], 1) for i in range(n)])


def frames(n: int, d: int, p: int, r: int, temperature: float) -> tuple:
    """Arguments of `copied_colors`."""
    return torch.randn(n, d, p), torch.randn(n, d, r), torch.rand(n, 3, r), temperature


def sure(copied_colors: Callable) -> tuple:
    """Every place has a twin, and a small temperature."""
    z, colors = torch.eye(5)[None], torch.rand(1, 3, 5)
    return (copied_colors(z, z, colors, 0.005), colors,
            "at a temperature of 0.005 every place should copy exactly from its twin, and yours does not: exp(200) is "
            "too large for float32, and softmax subtracts the largest logit first")


def blind(copied_colors: Callable) -> tuple:
    """All places are alike."""
    colors = torch.rand(1, 3, 5)
    return (copied_colors(torch.ones(1, 4, 2), torch.ones(1, 4, 5), colors, 0.1),
            colors.mean(2, keepdim=True).expand(1, 3, 2),
            "where all embeddings are alike, the mean of all colours must be copied")


copied_colors = exercise(
    "copied_colors", slow_copy, lambda: [frames(2, 4, 5, 7, 0.3), frames(3, 6, 4, 9, 1.5)], what="what is copied",
    slips={"your softmax runs over the places of the target: each target place shares itself out among the references, "
           "so the weights of a row must add up to 1 over the references": {"attend": lambda logits: logits.softmax(1)},
           "your softmax runs over the clips of the batch: it must run over the references":
               {"attend": lambda logits: logits.softmax(0)},
           "there is no softmax: the weights of a place must be positive and add up to 1":
               {"attend": lambda logits: logits},
           "the exponentials are not divided by their sum, so the weights of a place do not add up to 1":
               {"attend": torch.exp},
           "you copy from the best place alone: copy the mean under the attention, or no gradient tells where to point":
               {"attend": lambda logits: F.one_hot(logits.argmax(2), logits.shape[2]).to(logits.dtype)},
           "the embeddings are not normalised: divide each place's vector by its length first":
               {"normalize": lambda z: z},
           "you normalised over places: F.normalize(z, dim=1) makes each place's vector of length 1":
               {"normalize": functools.partial(F.normalize, dim=2)},
           "you multiply by the temperature: divide by it, so that a small one points sharper":
               {"scale": lambda s, t: s * t},
           "the temperature is not used": {"scale": lambda s, t: s}},
    limits={"a sure pointer copies exactly": sure, "a blind one copies the mean": blind},
    gradients={"target": "look for .detach(), torch.no_grad() or argmax", "references": "both frames are embedded"},
    holds="equals a loop over the places", otherwise="your colours are not those of a loop over the places")


@checker(predicts=True, example=({1: 0.55, 7: 0.05},))
def copying(answer: Mapping[int, float], measured: Mapping[int, float]) -> Iterator[str]:
    """A prediction. answer and measured: how many frames after the first -> mean J of the first mask held still."""
    if not isinstance(answer, Mapping):
        raise Wrong(f"a dict from a number of frames to J is wanted, and this is a {type(answer).__name__}")
    for distance in measured:
        if is_empty(answer.get(distance)):
            raise NotAttempted(f"write a number for a distance of {distance}")
    guesses = {distance: number(answer[distance], f"J at a distance of {distance}") for distance in measured}
    for distance, guess in guesses.items():
        if not 0 <= guess <= 1:
            raise Wrong(f"J lies between 0 and 1, and you said {guess:.3g} for a distance of {distance}")
    soon, late = min(measured), max(measured)
    if guesses[soon] < guesses[late] and measured[soon] > measured[late]:
        raise Wrong(f"you say that J is higher after {late} frames than after {soon}: have you swapped the two? The "
                    "farther a thing has moved, the less of it is still inside the mask that is held still, so J falls")
    for distance, truth in measured.items():
        guess = guesses[distance]
        said = f"at a distance of {distance} you said {guess:.2f}, measured is {truth:.2f}"
        if abs(guess - truth) > NEAR:
            raise Wrong(f"{said}: {'too low' if guess < truth else 'too high'}. A thing that has moved by a third of "
                        "its width shares two thirds of it with its old place, and the union is four thirds: J falls "
                        "faster than the part that is shared")
        yield said


def slow_iou(masks: Float[Tensor, "*n h w"], truth: Float[Tensor, "*n h w"], *, score: Callable =
             lambda both, mine, true, size: both / (mine + true - both), inside: Callable = lambda m: m >= 0.5
             ) -> Float[Tensor, "*n"]:
    """`iou(masks, truth)`: J of each of the masks `[..., H, W]`, soft ones cut at one half; 1 where both are empty."""
    scores = []
    for mask, right in zip(masks.flatten(0, -3), truth.flatten(0, -3), strict=True):
        pairs = zip(mask.flatten().tolist(), right.flatten().tolist(), strict=True)
        pixels = [(inside(m), inside(t)) for m, t in pairs]
        both, mine, true = (sum(which) for which in zip(*((m and t, m, t) for m, t in pixels), strict=True))
        scores.append(score(both, mine, true, len(pixels)) if mine or true else 1.0)
    return torch.tensor(scores).view(masks.shape[:-2])


def soft_iou(masks: Tensor, truth: Tensor) -> Tensor:
    """J of masks that were not cut at one half."""
    both = (masks * truth).sum((-2, -1))
    return both / (masks.sum((-2, -1)) + truth.sum((-2, -1)) - both)


def halves(masks: Tensor) -> Tensor:
    """Soft masks in eighths, so that some pixels are at exactly one half."""
    return (8 * masks).round() / 8


iou = exercise(
    "iou", slow_iou, what="your J",
    cases=lambda: [(halves(torch.rand(2, 3, 6, 5)), torch.rand(2, 3, 6, 5).gt(0.4).float()),
                   (halves(torch.rand(4, 8, 8)), torch.rand(4, 8, 8).gt(0.7).float())],
    slips={"a pixel at exactly one half is in, and yours is out: `>` and `.round()` leave it out, `>= 0.5` takes it in":
               {"inside": lambda m: m > 0.5},
           "soft masks are not cut: a pixel is in from one half on": soft_iou,
           "you divide by the sum of both areas, which counts what they share twice: take it off once":
               {"score": lambda both, mine, true, size: both / (mine + true)},
           "that is 2 · intersection / (sum of both areas), the Dice score or F1: J divides by the union":
               {"score": lambda both, mine, true, size: 2 * both / (mine + true)},
           "you divide by the area of your own mask: that is precision, and a single right pixel would score 1":
               {"score": lambda both, mine, true, size: both / mine},
           "you divide by the area of the true mask: that is recall, and a mask that covers everything would score 1":
               {"score": lambda both, mine, true, size: both / true},
           "you count all pixels that agree, background too: on a small thing an empty mask would score nearly 1":
               {"score": lambda both, mine, true, size: (size - mine - true + 2 * both) / size},
           "you divide by the number of pixels: divide by those of the union":
               {"score": lambda both, mine, true, size: both / size}},
    limits={"1 where both are empty": lambda iou: (
        iou(*torch.zeros(2, 1, 4, 4)), torch.ones(1), "where both masks are empty they agree, so J is 1")},
    holds="equals counting pixels", otherwise="your J is not that of counting pixels")


FRIENDS = '''
def follow(z, mask, k_frames=3, temperature=0.07):
    """z: [T, D, P], a vector for each place of each frame; mask: [P], of the first frame. Returns [T, P]."""
    z = F.normalize(z, dim=1)
    carried = mask.float().repeat(len(z), 1)
    for t in range(1, len(z)):
        memory = list(range(max(0, t - k_frames), t + 1))  # "frame 0, and the last few"
        logits = torch.einsum("dp,mdr->pmr", z[t], z[memory]).flatten(1) * temperature  # [P, places of all of them]
        weights = logits.softmax(0)
        carried[t] = (weights @ carried[memory].flatten() > 0.5).float()
    return carried
'''


def slow_follow(z: Float[Tensor, "t d p"], mask: Float[Tensor, " p"], k_frames: int = 3, temperature: float = 0.07, *,
                own: bool = False, zero: int = 1, axis: int = 1, times: bool = False, cut: str = "never",
                more: int = 0) -> Float[Tensor, "t p"]:
    """`follow(z, mask, k_frames, temperature)` -> `[T, P]`: a mask carried along a film from embeddings."""
    z, values = F.normalize(z, dim=1), [mask] * len(z)  # a frame that is not known yet has the first mask
    for t in range(1, len(z)):
        last = list(range(max(0, t - k_frames - more), t + own))
        memory = {0: last, 1: sorted({0, *last}), 2: [0, *last]}[zero] or [0]  # how often frame 0 is there for sure
        cosines = torch.cat([z[t].mT @ z[m] for m in memory], 1)
        weights = (cosines * temperature if times else cosines / temperature).softmax(axis)
        values[t] = weights @ torch.cat([values[m] for m in memory])
        if cut == "always":
            values[t] = (values[t] > 0.5).to(mask)
    return torch.stack(values) if cut != "at the end" else (torch.stack(values) > 0.5).to(mask)


def first_mask(masks: Tensor, z: Tensor, mask: Tensor, *_) -> str | None:
    """Whether the mask that was given is still there."""
    kept = torch.allclose(tensor(masks, (len(z), len(mask)), "the masks")[0].to(mask), mask, atol=1e-4)
    return None if kept else "the first mask was given, so the first row must be that mask"


def films() -> list[tuple]:
    """Arguments of `follow`: temperatures far below 1 and above it, so that to multiply by one shows in each."""
    return [(torch.randn(t, 3, p), torch.rand(p).gt(share).float(), k, temperature)
            for t, p, k, temperature, share in ((7, 16, 2, 0.15, 0.5), (6, 12, 1, 0.3, 0.6), (7, 16, 2, 4.0, 0.4),
                                                (6, 12, 3, 2.5, 0.5))]


follow = exercise(
    "follow", slow_follow, given=FRIENDS, what="the masks", together=5, cases=films,
    look={"the first mask stays": first_mask},
    slips={"each frame is among its own references: a place is most like itself, and copies what nobody knows yet. The "
           "last reference is frame t − 1": {"own": True},
           "your softmax runs over the places of the target: it must run over the references, so that the weights of a "
           "row add up to 1": {"axis": 0},
           "you multiply by the temperature: divide by it, so that a small one points sharper": {"times": True},
           "the first frame is forgotten once it is more than k_frames back, though its mask alone is certain: keep "
           "frame 0 among the references": {"zero": 0},
           "frame 0 is there twice while it is also one of the last k_frames, so its places get twice their share: "
           "each frame is among the references once": {"zero": 2},
           "masks are cut to 0 and 1 at every step, and what was lost at an edge is lost for all later frames: carry "
           "soft masks, and cut them only to measure": {"cut": "always"},
           "masks are soft on their way, and cut to 0 and 1 when they are returned: return the soft ones, and leave "
           "the cut to whoever measures": {"cut": "at the end"},
           "you look back into one frame too many: the last k_frames are frames t − k_frames to t − 1": {"more": 1},
           "you look back into one frame too few: the last k_frames are frames t − k_frames to t − 1": {"more": -1}},
    holds="equals a loop over the frames, and masks stay soft",
    otherwise="your masks are not those of a loop over the frames")
