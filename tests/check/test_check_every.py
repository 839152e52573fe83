"""What holds for every checker of every notebook: right answers pass, each slip is named, and no answer crashes it."""

from __future__ import annotations

import importlib
import pkgutil

import pytest
import torch

import course_lib.check
from course_lib.check.base import CHECKERS

for module in pkgutil.iter_modules(course_lib.check.__path__, "course_lib.check."):
    importlib.import_module(module.name)
OURS = [check for check in CHECKERS if check.__module__.startswith("course_lib.check.")]  # other tests make some too
EVERY = {f"{check.__module__.rpartition('.')[2]}.{check.name}": check for check in OURS}
WITH_A_RIGHT_ANSWER = {name: check for name, check in EVERY.items() if check.right}
SLIPS = {f"{name}: {sentence}": (check, sentence) for name, check in WITH_A_RIGHT_ANSWER.items()
         for sentence in check.wrong()}

STRANGE = ["", [], lambda: 1, lambda *a: "x", lambda *a: a, lambda *a: torch.zeros(0), lambda *a, **k: torch.zeros(2),
           lambda *a, **k: (1, 2), lambda *a, **k: [...], lambda *a, **k: float("inf"), lambda *a, **k: exit(),
           object(), {"a": 3}, float("nan"), torch.nn.Identity()]


def test_there_are_checkers_and_each_has_a_name_of_its_own_and_says_what_it_wants():
    assert len(OURS) == len(EVERY) >= 30
    for name, check in EVERY.items():
        assert check.__doc__, name
        assert getattr(importlib.import_module(check.__module__), check.name) is check, name


@pytest.mark.parametrize("check", WITH_A_RIGHT_ANSWER.values(), ids=WITH_A_RIGHT_ANSWER)
def test_the_reference_itself_passes(check):
    verdict = check(check.right(), *check.example)
    assert verdict.passed, verdict


@pytest.mark.parametrize(("check", "sentence"), SLIPS.values(), ids=SLIPS)
def test_each_slip_is_named(check, sentence):
    verdict = check(check.wrong()[sentence], *check.example)
    assert verdict.state == "wrong"
    assert sentence in verdict.text


LOOKS_FIRST = ("follow",)  # the value is not compared where its first row is not the mask that was given


def beside(value):
    """Another value of the same kind."""
    return tuple(map(beside, value)) if isinstance(value, tuple) else 1.37 * value + 0.11


@pytest.mark.parametrize("check", [c for c in EVERY.values() if c.cases], ids=repr)
def test_a_value_that_no_slip_explains_is_shown_beside_the_right_one(check):
    """Every slip and every pair is tried on the way, and none of them stumbles."""
    verdict = check(lambda *case: beside(check.right()(*case)))
    assert verdict.state == "wrong" and (" is right" in verdict.text or check.name in LOOKS_FIRST)


@pytest.mark.parametrize("empty", [..., None])
@pytest.mark.parametrize("check", EVERY.values(), ids=EVERY)
def test_an_empty_answer_waits(check, empty):
    assert check(empty, *check.example).state == "waiting"


@pytest.mark.parametrize("check", EVERY.values(), ids=EVERY)
def test_a_function_that_returns_nothing_yet_waits(check):
    expected = "wrong" if check.predicts else "waiting"  # not a function, but a number was asked for
    assert check(lambda *a, **k: ..., *check.example).state == expected


@pytest.mark.parametrize("check", [c for c in EVERY.values() if c.given], ids=repr)
def test_the_code_as_it_was_given_waits(check):
    cell = {"torch": torch, "nn": torch.nn, "F": torch.nn.functional}
    exec(check.given, cell)
    answer = next(value for value in cell.values() if getattr(value, "__code__", None))
    verdict = check(answer, *check.example)
    assert verdict.state == "waiting" and "as it was given" in verdict.text


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("check", EVERY.values(), ids=EVERY)
def test_a_strange_answer_is_told_so_and_does_not_crash(check, strange):
    verdict = check(strange, *check.example)
    assert not verdict.passed and verdict.text
    assert "\n" not in repr(verdict)
