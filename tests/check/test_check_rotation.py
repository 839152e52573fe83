"""The checkers of notebook 02: right answers pass, each slip is called by its name, and no answer crashes them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from course_lib.check import rotation as check
from course_lib.methods.pretext import rotation
from course_lib.parts import grid_crops
from course_lib.recipes import build_method, recipe

ROOT = Path(__file__).parents[2]


def says(verdict, words):
    assert verdict.state == "wrong" and words in verdict.text, verdict


@pytest.mark.parametrize(("folder", "state"), [("notebooks", "waiting"), ("notebooks/solutions", "passed")])
@pytest.mark.parametrize(("name", "answer"), [
    ("rotate4", "rotate4"), ("half_blind", "my_guess"), ("cut", "cut"), ("training_loss", "training_loss"),
    ("control", "my_control")])
def test_the_cell_of_the_notebook_waits_and_the_solution_passes(folder, state, name, answer):
    cells = json.loads((ROOT / folder / "02_rotation.ipynb").read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names = {"torch": torch, "F": F, "check": check}
    exec(next(source for source in sources if f"check.{name}({answer})" in source), names)
    verdict = getattr(check, name)(names[answer])
    assert verdict.state == state, verdict


# --- exercise 1 -------------------------------------------------------------------------------------------------------

def turned(x, *, clockwise=False, repeat=False, by_picture=False, quarter=None, half=None, labels=None):
    """The notebook's solution, with a place for each mistake."""
    one = quarter or (lambda x: x.transpose(2, 3).flip(3 if clockwise else 2))
    two = half or (lambda x: x.flip(2, 3))
    pictures = torch.cat([x, one(x), two(x), one(x).flip(2, 3)])
    found = torch.arange(4).repeat(len(x)) if repeat or by_picture else torch.arange(4).repeat_interleave(len(x))
    if by_picture:
        pictures = pictures.unflatten(0, (4, -1)).transpose(0, 1).flatten(0, 1)
    return pictures, found if labels is None else labels(found)


def test_right_turns_pass():
    assert check.rotate4(rotation.rotate4).passed
    assert check.rotate4(turned).passed


@pytest.mark.parametrize(("options", "words"), [
    ({"clockwise": True}, "you turn clockwise"),
    ({"repeat": True}, "picture 1 of your answer is turned by 0 degrees, and its label says 90"),
    ({"by_picture": True}, "the order is another"),
    ({"quarter": lambda x: x.transpose(2, 3)}, "picture 3 of your answer is a mirror image"),
    ({"half": lambda x: x.flip(2)}, "picture 6 of your answer is a mirror image"),
    ({"half": lambda x: x.flip(1).flip(2, 3)}, "picture 6 of your answer is none of the pictures"),
    ({"half": lambda x: x}, "each picture is wanted at each rotation once"),
    ({"labels": lambda y: y.float()}, "whole numbers, int64"),
    ({"labels": lambda y: F.one_hot(y, 4)}, "the labels must have shape [12], and it has [12, 4]"),
    ({"labels": lambda y: torch.arange(4).repeat_interleave(3)}, "is one written by hand"),
])
def test_wrong_turns_are_named(options, words):
    says(check.rotate4(lambda x: turned(x, **options)), words)


def test_half_an_answer_waits():
    assert check.rotate4(lambda x: (turned(x)[0], ...)).state == "waiting"


def test_pictures_alone_are_not_enough():
    says(check.rotate4(lambda x: turned(x)[0]), "the pair (pictures, labels) is wanted")


# --- exercise 2 -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("guess", [math.log(2), 0.69, 0.7])
def test_log_2_is_right(guess):
    assert check.half_blind(guess).passed


@pytest.mark.parametrize(("guess", "words"), [
    (math.log(4), "that is log 4"), (0.5, "how often it is right"), (1.0, "to base 2"), (0.0, "would be perfect"),
    (math.log10(2), "to base 10"), (0.8, "too high"), (0.6, "too low"), ("log 2", "must be a number")])
def test_a_wrong_guess_is_told_why(guess, words):
    says(check.half_blind(guess), words)


# --- exercise 3 -------------------------------------------------------------------------------------------------------

def cut(x, patch, gap, *, step=None, by_column=False):
    starts = [k * (patch + gap if step is None else step(patch, gap)) for k in range(3)]
    corners = [(r, c) for r in starts for c in starts]
    corners = [corner[::-1] for corner in corners] if by_column else corners
    return torch.stack([F.pad(x, (0, 30, 0, 30))[:, :, r : r + patch, c : c + patch] for r, c in corners], 1)


def test_right_patches_pass():
    assert check.cut(cut).passed


def test_the_reference_cuts_as_the_library_does():
    x = torch.rand(2, 3, 18, 18)
    torch.testing.assert_close(check.cut_slowly(x[:, :, 1:, 1:], 4, 2), grid_crops(x, 4, cell=6))


@pytest.mark.parametrize(("options", "words"), [
    ({"step": lambda patch, gap: patch}, "the patches touch"),
    ({"step": lambda patch, gap: gap}, "from one patch's beginning to the next one's"),
    ({"step": lambda patch, gap: patch + 2 * gap}, "counted twice"),
    ({"by_column": True}, "down the columns"),
    ({"step": lambda patch, gap: patch + gap + 1}, "other patches than cutting them one by one"),
])
def test_wrong_patches_are_named(options, words):
    says(check.cut(lambda x, patch, gap: cut(x, patch, gap, **options)), words)


def test_patches_that_lie_in_another_shape():
    says(check.cut(lambda x, patch, gap: cut(x, patch, gap).transpose(0, 1)), "must have shape [2, 9, 3, 4, 4]")


# --- exercise 4 -------------------------------------------------------------------------------------------------------

def step(x, encoder, classifier, *, flip=3, repeat=False, softmax=False, quarters=4, reduction="mean", turn=1,
         loss=F.cross_entropy):
    """The notebook's solution; with flip=2, repeat and softmax it is the friend's."""
    if torch.rand(()) < 0.5:
        x = x.flip(flip)
    pictures = torch.cat([torch.rot90(x, turn * k, (2, 3)) for k in range(quarters)])
    label = torch.arange(4).repeat(len(x)) if repeat else torch.arange(quarters).repeat_interleave(len(x))
    scores = classifier(encoder(pictures))
    return loss(scores.softmax(1) if softmax else scores, label, reduction=reduction)


def one_rotation_after_the_other(x, encoder, classifier):
    return torch.stack([F.cross_entropy(classifier(encoder(torch.rot90(x, k, (2, 3)))), torch.full((len(x),), k))
                        for k in range(4)]).mean()


@pytest.mark.parametrize("answer", [step, one_rotation_after_the_other])
def test_a_right_step_passes(answer):
    assert check.training_loss(answer).passed


@pytest.mark.parametrize(("options", "words"), [
    ({"flip": 2}, "flipped upside down"),
    ({"repeat": True}, "the labels do not fit the pictures"),
    ({"softmax": True}, "takes a softmax itself"),
    ({"softmax": True, "repeat": True}, "2 mistakes at once; one of them: F.cross_entropy takes a softmax itself"),
    ({"quarters": 3}, "at 0, 90, 180 and 270 degrees"),
    ({"turn": -1}, "you turn clockwise"),
    ({"turn": -1, "flip": 2}, "2 mistakes at once; one of them: you turn clockwise"),
    ({"softmax": True, "loss": F.nll_loss}, "there is no logarithm"),
    ({"reduction": "sum"}, "you add up the losses"),
])
def test_mistakes_in_the_step_are_named(options, words):
    says(check.training_loss(lambda x, encoder, classifier: step(x, encoder, classifier, **options)), words)


def test_the_friends_step_is_wrong_until_all_three_are_mended():
    for options in ({"flip": 2, "repeat": True, "softmax": True}, {"flip": 2, "repeat": True}, {"flip": 2}):
        assert check.training_loss(lambda *a, options=options: step(*a, **options)).state == "wrong"


def test_a_step_without_a_gradient():
    says(check.training_loss(lambda *a: step(*a).detach()), "no gradient comes out of it")
    says(check.training_loss(lambda x, encoder, classifier: step(x, lambda v: encoder(v).detach(), classifier)),
         "no gradient reaches encoder")
    says(check.training_loss(lambda x, encoder, classifier: step(x, encoder, lambda h: F.linear(
        h, classifier.weight.detach(), classifier.bias.detach()))), "no gradient reaches classifier")


def test_another_loss_shows_both_values():
    says(check.training_loss(lambda *a: step(*a) + 1), "cross-entropy of the four rotations: 2.4")


def test_an_encoder_that_is_not_asked_or_gets_other_pictures():
    says(check.training_loss(lambda x, encoder, classifier: x.sum()), "the encoder was never asked")
    says(check.training_loss(lambda x, encoder, classifier: classifier(encoder(x.flatten(1))).mean()),
         "it saw 5 pictures of 5, not all of them so")


# --- exercise 5 -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("options", [{"jitter": 0}, {"jitter": 0, "gap": True, "patch": 8},
                                     {"jitter": 0, "drop_color": False}])
def test_jitter_alone_is_a_control(options):
    assert check.control(options).passed


@pytest.mark.parametrize(("options", "words"), [
    ({}, "nothing is changed"), ({"gap": True}, "nothing is changed"),
    ({"gap": False}, "this is relative_patch_touching: it has"),
    ({"gap": False, "jitter": 2}, "this is relative_patch_touching: it has"),
    ({"gap": False, "jitter": 0}, "patches that touch cannot move"),
    ({"gap": False, "patch": 12}, "this is relative_patch_touching_wide: it has"),
    ({"patch": 12, "jitter": 0}, "fill their cells"), ({"jitter": 2}, "there is more of it"),
    ({"patch": 10}, "the jitter, which you want to know about, is as before"),
    ({"jitter": 0, "drop_color": True}, "one thing at a time"),
    ({"jitter": 0, "patch": 6}, "this changes the patch and the space between patches and the jitter"),
    ({"jitter": 3}, "do not fit a cell of 12"), ({"jitter": -1}, "do not fit"),
    ({"jiter": 0}, "it knows patch, jitter"), ({"jitter": "none"}, "cannot be built"),
    ("jitter=0", "a dict is wanted"), (0, "a dict is wanted")])
def test_another_control_is_told_why(options, words):
    says(check.control(options), words)


def test_half_a_control_waits():
    assert check.control({"jitter": ...}).state == "waiting"


@pytest.mark.parametrize(("name", "options"), [
    ("relative_patch", {}), ("relative_patch_touching", {"gap": False}),
    ("relative_patch_touching_wide", {"gap": False, "patch": 12})])
def test_the_layout_is_that_of_the_recipes(name, options):
    settings = recipe(name)
    assert check.layout(settings.options) == check.layout(options)
    x = torch.rand(1, 3, 36, 36)
    patches = build_method(settings).patches(x)
    assert patches.shape[-1] == check.layout(options)["the patch"]
