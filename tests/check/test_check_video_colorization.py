"""The checkers of notebook 06 agree with right answers, however they are written, and name each typical mistake."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from course_lib.check import video_colorization as check
from course_lib.evaluate import region_similarity
from course_lib.parts.propagation import similarity

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("folder", "state"), [("notebooks", "waiting"), ("notebooks/solutions", "passed")])
@pytest.mark.parametrize("name", ["copied_colors", "iou", "follow"])
def test_the_cell_of_the_notebook_waits_and_the_solution_passes(folder, state, name):
    cells = json.loads((ROOT / folder / "06_video_colorization.ipynb").read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names = {"torch": torch, "F": F, "check": check}
    exec(next(source for source in sources if f"check.{name}({name})" in source), names)
    verdict = getattr(check, name)(names[name])
    assert verdict.state == state, verdict


def copied_colors(target, references, colors, temperature, *, axis=2, normalize=1, times=False):
    """The notebook's solution, with a place for each mistake."""
    if normalize is not None:
        target, references = F.normalize(target, dim=normalize), F.normalize(references, dim=normalize)
    cosine = target.mT @ references
    logits = cosine * temperature if times else cosine / temperature
    return colors @ logits.softmax(axis).mT


def with_exp(target, references, colors, temperature, share=True):
    weights = (F.normalize(target, dim=1).mT @ F.normalize(references, dim=1) / temperature).exp()
    return colors @ (weights / weights.sum(2, keepdim=True) if share else weights).mT


def hard(target, references, colors, temperature):
    best = similarity(target, references, temperature).argmax(2)
    return colors.gather(2, best[:, None].expand(-1, colors.shape[1], -1))


def test_right_copies_pass():
    assert "✓ copied_colors: 4 properties hold" in repr(check.copied_colors(copied_colors))


@pytest.mark.parametrize(("options", "words"), [
    ({"axis": 1}, "over the places of the target"),
    ({"axis": 0}, "over the clips of the batch"),
    ({"normalize": None}, "the embeddings are not normalised"),
    ({"normalize": 2}, "you normalised over places"),
    ({"times": True}, "you multiply by the temperature"),
])
def test_slips_of_the_copy_are_named(options, words):
    said = repr(check.copied_colors(lambda *args: copied_colors(*args, **options)))
    assert said.startswith("✗")
    assert words in said


@pytest.mark.parametrize(("answer", "words"), [
    (with_exp, "exp(200) is too large"),
    (lambda *args: with_exp(*args, share=False), "not divided by their sum"),
    (lambda f, g, c, t: c @ similarity(f, g, t).mT, "there is no softmax"),
    (lambda f, g, c, t: copied_colors(f, g, c, 1.0), "the temperature is not used"),
    (hard, "from the best place alone"),
    (lambda f, g, c, t: copied_colors(f.detach(), g, c, t), "no gradient reaches target"),
    (lambda f, g, c, t: copied_colors(f, g.detach(), c, t), "no gradient reaches references"),
    (lambda f, g, c, t: copied_colors(f, g, c, t).detach(), "no gradient comes out of it"),
    (lambda f, g, c, t: copied_colors(f, g, c, t).mT, "must have shape [2, 3, 5], and it has [2, 5, 3]"),
    (lambda f, g, c, t: copied_colors(f, g, c, t) + 0.1, "not those of a loop over the places"),
    (lambda f, g, c, t: copied_colors(f, g, c, t, axis=1, times=True), "2 mistakes at once; one of them: your softmax"),
])
def test_other_mistakes_of_the_copy_are_named(answer, words):
    assert words in repr(check.copied_colors(answer))


@pytest.mark.parametrize(("guess", "start", "words"), [
    (0.377, "✓", "measured is 0.3768"),
    (math.log(2), "✗", "equally frequent"),
    (math.log(256), "✗", "the number of places does not matter"),
    (math.log(8), "✗", "what a red place pays"),
    (math.log(8 / 7), "✗", "what a green place pays"),
    (0.5436, "✗", "base 2"),
    (0, "✗", "sure and right"),
    (1.2, "✗", "too high"),
    (..., "…", "not attempted yet"),
])
def test_the_loss_of_a_blind_pointer_is_predicted(guess, start, words):
    said = repr(check.blind_loss(guess))
    assert said.startswith(start)
    assert words in said


@pytest.mark.parametrize(("guess", "start", "words"), [
    ({1: 0.5, 7: 0.1}, "✓", "at a distance of 7 you said 0.10, measured is 0.05"),
    ({1: 0.9, 7: 0.1}, "✗", "at a distance of 1 you said 0.90, measured is 0.55: too high."),
    ({1: 0.5, 7: 0.4}, "✗", "J falls faster"),
    ({1: 0.5, 7: 0.4}, "✗", "at a distance of 7 you said 0.40, measured is 0.05: too high."),
    ({1: 50, 7: 10}, "✗", "J lies between 0 and 1"),
    ({1: 10, 7: 50}, "✗", "J lies between 0 and 1"),
    ({1: 0.05, 7: 0.55}, "✗", "have you swapped the two?"),
    ({1: 0.5, 7: 0.6}, "✗", "after 7 frames than after 1: have you swapped the two?"),
    ({1: 0.3, 7: 0.3}, "✗", "at a distance of 1 you said 0.30, measured is 0.55: too low."),
    ({1: 0.5}, "…", "write a number for a distance of 7"),
    ({1: ..., 7: ...}, "…", "write a number for a distance of 1"),
    (0.5, "✗", "a dict from a number of frames to J is wanted"),
    ({1: "half", 7: 0.1}, "✗", "must be a number"),
])
def test_copying_is_predicted(guess, start, words):
    said = repr(check.copying(guess, {1: 0.55, 7: 0.05}))
    assert said.startswith(start)
    assert words in said


def iou(masks, truth, *, below=lambda both, mine, true: mine + true - both, twice=1, inside=lambda m: m >= 0.5):
    masks, truth = inside(masks), inside(truth)
    counts = [m.sum((-2, -1)) for m in (masks & truth, masks, truth)]
    return twice * counts[0] / below(*counts)


def guarded(masks, truth):
    return torch.nan_to_num(iou(masks, truth), nan=1.0)


@pytest.mark.parametrize("answer", [guarded, region_similarity])
def test_right_overlaps_pass(answer):
    assert "✓ iou: 2 properties hold" in repr(check.iou(answer))


@pytest.mark.parametrize(("answer", "words"), [
    (iou, "where both masks are empty they agree, so J is 1 (your J gives [nan]"),
    (lambda m, t: torch.where(torch.isnan(iou(m, t)), 0.0, iou(m, t)), "so J is 1 (your J gives [0]"),
    (lambda m, t: iou(m, t, below=lambda both, mine, true: mine + true), "counts what they share twice"),
    (lambda m, t: iou(m, t, below=lambda both, mine, true: mine + true, twice=2), "Dice"),
    (lambda m, t: iou(m, t, below=lambda both, mine, true: mine), "precision"),
    (lambda m, t: iou(m, t, below=lambda both, mine, true: true), "recall"),
    (lambda m, t: ((m >= 0.5) == (t >= 0.5)).float().mean((-2, -1)), "background too"),
    (lambda m, t: ((m >= 0.5) & (t >= 0.5)).float().mean((-2, -1)), "you divide by the number of pixels"),
    (check.soft_iou, "soft masks are not cut"),
    (lambda m, t: iou(m, t, inside=lambda m: m > 0.5), "✗ iou: a pixel at exactly one half is in, and yours is out"),
    (lambda m, t: iou(m, t, inside=lambda m: m.round().bool()), "✗ iou: a pixel at exactly one half is in"),
    (lambda m, t: iou(m > 0.5, t, inside=lambda m: m >= 0.5), "✗ iou: a pixel at exactly one half is in"),
    (lambda m, t: iou(m, t, below=lambda both, mine, true: mine + true, twice=2, inside=lambda m: m > 0.5),
     "2 mistakes at once; one of them: a pixel at exactly one half"),
    (lambda m, t: iou(m, t).mean(), "must have shape [2, 3], and it has []"),
    (lambda m, t: 1 - iou(m, t), "not that of counting pixels"),
])
def test_mistakes_of_the_overlap_are_named(answer, words):
    said = repr(check.iou(answer))
    assert words in said


def follow(z, mask, k_frames=3, temperature=0.07, *, own=False, first=True, axis=1, times=False, cut=False,
           twice=False, cut_at_return=False, more=0):
    """The notebook's solution and, with the first five options, the friend's."""
    z = F.normalize(z, dim=1)
    carried = mask.float().repeat(len(z), 1)
    for t in range(1, len(z)):
        memory = list(range(max(0, t - k_frames - more), t + own))
        if first:
            memory = [0, *memory] if twice else sorted({0, *memory})
        cosine = torch.einsum("dp,mdr->pmr", z[t], z[memory]).flatten(1)
        weights = (cosine * temperature if times else cosine / temperature).softmax(axis)
        carried[t] = weights @ carried[memory].flatten()
        if cut:
            carried[t] = (carried[t] > 0.5).float()
    return (carried >= 0.5).float() if cut_at_return else carried


def test_right_followers_pass():
    assert "✓ follow: 2 properties hold" in repr(check.follow(follow))


WORDS = {"own": "among its own references", "axis": "over the places of the target", "times": "you multiply",
         "first": "the first frame is forgotten", "twice": "frame 0 is there twice",
         "cut": "cut to 0 and 1 at every step", "cut_at_return": "when they are returned"}
BROKEN = {"own": True, "axis": 0, "times": True, "first": False, "twice": True, "cut": True, "cut_at_return": True}
AS_GIVEN = ("own", "axis", "times", "first", "cut")


def together(most):
    """Every set of mistakes that can be made at once."""
    return [several for n in range(1, most + 1) for several in itertools.combinations(WORDS, n)
            if not {"first", "twice"} <= set(several) and not {"cut", "cut_at_return"} <= set(several)]


@pytest.mark.parametrize("broken", together(5))
def test_of_any_mistakes_in_following_one_is_named_that_is_there(broken):
    said = repr(check.follow(lambda *args: follow(*args, **{name: BROKEN[name] for name in broken})))
    assert said.startswith("✗")
    named = [name for name, words in WORDS.items() if words in said]
    assert len(named) == 1 and named[0] in broken
    assert ("mistakes at once" in said) == (len(broken) > 1)


def test_each_repair_of_the_friends_code_changes_what_is_said():
    said = []
    for broken in (AS_GIVEN, *(AS_GIVEN[n:] for n in range(1, 5))):
        said.append(repr(check.follow(lambda *args, b=broken: follow(*args, **{name: BROKEN[name] for name in b}))))
    assert len(set(said)) == 5
    assert "mistakes at once; one of them: each frame is among its own references" in said[0]
    assert "cut to 0 and 1 at every step" in said[-1] and "at once" not in said[-1]


def test_where_masks_differ_only_after_the_first_both_are_shown_from_there_on():
    said = repr(check.follow(lambda z, mask, k, t: follow(z, mask, k + 2, t)))
    got, wanted = re.search(r"from entry \[\d, \d+\] on, \[(.*)\] where \[(.*)\] is right", said).groups()
    assert got.split(", ")[0] != wanted.split(", ")[0]


@pytest.mark.parametrize(("answer", "words"), [
    (lambda z, mask, k, t: follow(z, mask, k, t)[1:], "must have shape [7, 16], and it has [6, 16]"),
    (lambda z, mask, k, t: follow(z, mask, k, t) * 0.5, "the first mask was given"),
    (lambda z, mask, k, t: follow(z, mask, k + 1, t), "you look back into one frame too many"),
    (lambda z, mask, k, t: follow(z, mask, k - 1, t), "you look back into one frame too few"),
    (lambda z, mask, k, t: follow(z, mask, k + 2, t), "not those of a loop over the frames"),
    (lambda z, mask, k, t: mask.bool().repeat(len(z), 1), "not those of a loop over the frames"),
])
def test_other_mistakes_in_following(answer, words):
    assert words in repr(check.follow(answer))
