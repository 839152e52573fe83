"""A checker answers in one line, whatever the student's code does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from course_lib.check.base import (
    NotAttempted,
    Wrong,
    agree,
    checker,
    close,
    function,
    number,
    predicted,
    tensor,
    together,
)


@checker
def double(answer):
    """Twice a number."""
    student = function(answer)
    agree(student, [(1.0,), (-2.5,)], lambda x: 2 * x, {"you add 2 instead of multiplying by it": lambda x: 2 + x})
    yield "equals a slow reference"
    if student(0.0) != 0:
        raise Wrong("twice zero is zero")
    yield "zero stays zero"


def stumbles(x):
    y = x + 1
    return y + undefined_name


def half_done(x):
    y = ...
    return x + y


def not_yet(x):
    raise NotImplementedError


@pytest.mark.parametrize(("answer", "line"), [
    (lambda x: 2 * x, "✓ double: 2 properties hold: equals a slow reference; zero stays zero"),
    (lambda x: 2 + x, "✗ double: you add 2 instead of multiplying by it"),
    (lambda x: 3 * x, "✗ double: another value than the slow reference: 3 where 2 is right"),
    (lambda x: 2 * x if x else 1, "✗ double: twice zero is zero"),
    (lambda x: "two", "✗ double: your answer must be a number, and it is a str"),
    (lambda x: torch.ones(3), "✗ double: your answer must be one number, and it has shape [3]"),
    (lambda x: float("nan"), "✗ double: your answer is nan, and must be finite"),
    (lambda: 0, "✗ double: your code stops with TypeError: "),
    (3, "✗ double: a function is wanted here, and this is a int: give its name, without calling it"),
    (..., "… double: not attempted yet"),
    (None, "… double: not attempted yet"),
    (not_yet, "… double: not attempted yet"),
    (lambda x: ..., "… double: not attempted yet: it still returns `...`"),
    (lambda x: None, "… double: not attempted yet: it returns None, so if you have written something, end it with"),
])
def test_every_answer_gets_one_line(answer, line):
    said = repr(double(answer))
    assert said.startswith(line)
    assert "\n" not in said


def test_passed_is_for_programs():
    assert double(lambda x: 2 * x).passed
    assert not double(lambda x: x).passed
    assert not double(...).passed


def test_an_exception_is_told_with_its_line():
    said = repr(double(stumbles))
    assert said.startswith("✗ double: your code stops with NameError: name 'undefined_name' is not defined (line ")
    assert "`return y + undefined_name" in said


def test_the_line_is_the_students_also_when_the_exception_comes_from_a_library():
    said = repr(double(lambda x: torch.ones(2) @ torch.ones(3)))
    assert "torch.ones(2) @ torch.ones(3)" in said


def test_code_that_stumbles_over_a_placeholder_is_not_attempted():
    said = repr(double(half_done))
    assert said.startswith("… double: not attempted yet: there is still a `...` to fill in (line ")
    assert "`return x + y`" in said


def test_a_checker_that_stumbles_says_so_and_does_not_raise():
    @checker
    def strange(answer):
        yield str(function(answer)() + torch.ones(2))

    assert repr(strange(lambda: "text")).startswith("✗ strange: this checker did not expect what your answer gave it "
                                                    "(TypeError: ")


def test_a_checker_may_still_be_interrupted():
    def interrupted(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        double(interrupted)


def test_a_single_property_is_the_whole_sentence():
    @checker
    def one(answer):
        yield f"{answer} is what you said"

    assert repr(one(7)) == "✓ one: 7 is what you said"


def test_random_numbers_inside_are_always_the_same_and_outside_untouched():
    drawn = []

    @checker
    def draws(answer):
        drawn.append(torch.rand(1).item())
        yield "drawn"

    torch.manual_seed(5)
    expected = torch.rand(1).item()
    torch.manual_seed(5)
    draws(1)
    assert torch.rand(1).item() == expected
    draws(1)
    assert drawn[0] == drawn[1]


def test_a_student_cannot_change_the_checkers_tensors():
    x = torch.ones(3)
    function(lambda t, u: t.mul_(2) + u.zero_())(x, u=x)
    assert torch.equal(x, torch.ones(3))


def test_gradients_flow_to_the_checkers_tensors():
    x = torch.ones(3, requires_grad=True)
    function(lambda t: (2 * t).sum())(x).backward()
    assert torch.equal(x.grad, torch.full((3,), 2.0))


def test_an_empty_function_is_told_from_a_wrong_one():
    with pytest.raises(NotAttempted):
        function(lambda: None)()
    with pytest.raises(Wrong, match="ZeroDivisionError"):
        function(lambda: 1 / 0)()


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), torch.tensor(2), torch.tensor(2.0, requires_grad=True)])
def test_number_takes_what_is_one(value):
    assert number(value) == 2.0


@pytest.mark.parametrize(("value", "words"), [
    (torch.ones(1), r"has shape \[1\]"), ([2], "is a list"), (float("inf"), "is inf"), ("two", "is a str")])
def test_number_says_what_is_wrong(value, words):
    with pytest.raises(Wrong, match=words):
        number(value)


def test_tensor_says_what_is_wrong():
    assert tensor(torch.ones(2, 3), (2, 3)).shape == (2, 3)
    with pytest.raises(Wrong, match=r"must have shape \[\], and it has \[2\]"):
        tensor(torch.ones(2), ())
    with pytest.raises(Wrong, match="must be a tensor, and it is a float"):
        tensor(1.0, ())


def test_close_wants_the_same_shape_and_no_nan():
    assert close(1.0, torch.tensor(1.00001))
    assert not close(1.0, 1.01)
    assert not close(torch.ones(2), torch.ones(1))
    assert not close(float("nan"), float("nan"))


def test_a_slip_is_named_only_where_it_explains_every_case():
    def student(x):
        return x + 2 if x == 1.0 else 9.0

    with pytest.raises(Wrong, match="another value than the slow reference: 3 where 2 is right"):
        agree(student, [(1.0,), (3.0,)], lambda x: 2 * x, {"you add": lambda x: x + 2})


def test_agree_compares_tensors_and_takes_pairs_of_sentence_and_slip():
    with pytest.raises(Wrong, match="you forgot the minus"):
        agree(lambda x: x, [(torch.ones(2),)], lambda x: -x, [("something else", lambda x: 2 * x),
                                                              ("you forgot the minus", lambda x: x)])
    with pytest.raises(Wrong, match=r"\[1, 1, 1, 1, …\] where \[-1, -1, -1, -1, …\] is right"):
        agree(lambda x: x, [(torch.ones(6),)], lambda x: -x)
    with pytest.raises(Wrong, match=r"must have shape \[2\], and it has \[1\]"):
        agree(lambda x: x[:1], [(torch.ones(2),)], lambda x: -x)


def test_a_prediction_is_compared_and_explained():
    slips = {"you forgot to double": 5.0}
    assert predicted(10.2, 10.0, within=0.5, why="Because.", mistakes=slips) == (
        "you said 10.2, measured is 10. Because.")
    for guess, words in ((5.1, "you forgot to double"), (9.0, "too low"), (12, "too high")):
        with pytest.raises(Wrong, match=f"measured is 10 %: {words}. Because."):
            predicted(guess, 10.0, within=0.5, why="Because.", unit=" %", mistakes=slips)
    with pytest.raises(Wrong, match="a prediction must be a number, and it is a str"):
        predicted("much", 10.0, within=0.5, why="")


def test_slips_alone_then_several_together():
    assert list(together(["a", "b", "c"], most=2)) == [
        ("a", ("a",)), ("b", ("b",)), ("c", ("c",)), ("2 mistakes at once; one of them: a", ("a", "b")),
        ("2 mistakes at once; one of them: a", ("a", "c")), ("2 mistakes at once; one of them: b", ("b", "c"))]
    assert [several for _, several in together("abc", least=2)] == [
        ("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c")]
