"""What holds for every checker of every notebook: an empty answer waits, a strange one is told so, and none crashes."""

from __future__ import annotations

import pytest
import torch

from course_lib.check import (
    autoencoders,
    colorization,
    inpainting,
    jigsaw,
    rotation,
    simclr,
    start_here,
    video_colorization,
)

NUMBERS = {  # checkers of a number or of words that were written down beforehand
    "shuffled_pixels": lambda answer: start_here.shuffled_pixels(answer, {"raw pixels": 0.0}),
    "four_times_the_exam": lambda answer: start_here.four_times_the_exam(answer, small=8.0, large=4.1),
    "shift_that_costs_half": lambda answer: autoencoders.shift_that_costs_half(answer, 3),
    "hidden_share": lambda answer: inpainting.hidden_share(answer, 26.0),
    "half_blind": rotation.half_blind,
    "places_apart": jigsaw.places_apart,
    "best_color": colorization.best_color,
    "loss_at_random": simclr.loss_at_random,
}
FUNCTIONS = {f"{topic.__name__.rpartition('.')[2]}.{name}": getattr(topic, name) for topic, names in {
    start_here: ("knn_vote", "honest_knn"),
    autoencoders: ("linear_limit", "mask_pixels", "denoising_loss"),
    rotation: ("rotate4", "cut", "training_loss"),
    jigsaw: ("farthest", "normalize_tiles", "puzzle_loss"),
    inpainting: ("hole_loss", "hole_color", "players"),
    colorization: ("rebalance", "annealed_mean", "training_loss"),
    video_colorization: ("copied_colors",),
    simclr: ("nt_xent", "false_negatives", "training_loss", "nt_xent_apart"),
}.items() for name in names}
STRANGE = ["", [], lambda: 1, lambda *a: "x", lambda *a: a, lambda *a: torch.zeros(0), lambda *a, **k: torch.zeros(2),
           object(), {"a": 3}, float("nan")]


@pytest.mark.parametrize("empty", [..., None])
@pytest.mark.parametrize("check", (NUMBERS | FUNCTIONS).values(), ids=NUMBERS | FUNCTIONS)
def test_an_empty_answer_waits(check, empty):
    assert check(empty).state == "waiting"


@pytest.mark.parametrize("check", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_function_that_returns_nothing_yet_waits(check):
    assert check(lambda *a, **k: ...).state == "waiting"


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("check", (NUMBERS | FUNCTIONS).values(), ids=NUMBERS | FUNCTIONS)
def test_a_strange_answer_is_told_so_and_does_not_crash(check, strange):
    verdict = check(strange)
    assert not verdict.passed and verdict.text
