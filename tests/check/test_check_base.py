"""A checker answers in one line, whatever the student's code does."""

from __future__ import annotations

import dataclasses
import random
import textwrap

import numpy as np
import pytest
import torch
from torch import nn

from course_lib.check import base
from course_lib.check.base import (
    CHECKERS,
    Expected,
    NotAttempted,
    Spy,
    Wrong,
    afterwards,
    agree,
    checker,
    close,
    exercise,
    function,
    gradient_reaches,
    hard_coded,
    number,
    predicted,
    prediction,
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


def test_tensors_whose_beginnings_are_alike_are_shown_from_where_they_differ():
    right = torch.arange(12.0).view(3, 4)
    wrong = right + torch.tensor([1e-7] * 6 + [1.0] * 6).view(3, 4)  # what float32 rounds is no difference
    with pytest.raises(Wrong, match=r"from entry \[1, 2\] on, \[7, 8, 9, 10, …\] where \[6, 7, 8, 9, …\] is right"):
        agree(lambda x: wrong, [(torch.ones(2),)], lambda x: right)


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


# --- exercises --------------------------------------------------------------------------------------------------------

def _slow_loss(x, scale, *, power=2, offset=0.0, reduce=torch.mean):
    """`loss(x, scale)`: the mean of (x · scale)²."""
    return reduce((x * scale) ** power + offset)


loss = exercise(
    "loss", _slow_loss, lambda: [(torch.randn(4), 2.0), (torch.randn(6), 3.0)],
    slips={"square it": {"power": 1}, "there is a 1 too many": {"offset": 1.0},
           "one value an entry: take the mean": {"reduce": lambda x: x},
           "you divide by nothing": lambda x, scale: x.sum() * torch.inf,
           **afterwards(lambda x, scale: len(x)), **hard_coded(_slow_loss, (2.0,), "scale")},
    limits={"0 at 0": lambda f: (f(torch.zeros(3), 1.0), 0.0, "nothing costs nothing")},
    gradients={"x": "it learns"}, what="your loss", holds="equals a loop")


def right(x, scale):
    return (x * scale).square().mean()


@pytest.mark.parametrize(("answer", "line"), [
    (right, "✓ loss: 3 properties hold: equals a loop; 0 at 0; a gradient to x"),
    (lambda x, s: (x * s).mean(), "✗ loss: square it"),
    (lambda x, s: (x * s).mean() + 1, "✗ loss: 2 mistakes at once; one of them: square it"),
    (lambda x, s: (x * s).sum(), "✗ loss: 2 mistakes at once; one of them: square it"),
    (lambda x, s: (x * s).square(), "✗ loss: one value an entry: take the mean"),
    (lambda x, s: x.sum() / 0, "✗ loss: you divide by nothing"),
    (lambda x, s: x.sum() * torch.nan, "✗ loss: your loss is nan, and must be finite"),
    (lambda x, s: -right(x, s), "✗ loss: the sign is wrong"),
    (lambda x, s: (x * s).square().sum(), "✗ loss: you add up the losses"),
    (lambda x, s: right(x, s) / len(x), "✗ loss: you divide by their number twice"),
    (lambda x, s: right(x, s) / 0.693147, "✗ loss: the logarithm has base 2"),
    (lambda x, s: right(x, s) / 2.302585, "✗ loss: the logarithm has base 10"),
    (lambda x, s: right(x, 2.0), "✗ loss: your scale is always 2.0: use the one that your function is given"),
    (lambda x, s: right(x, s) + 1.0 * (not x.any()), "✗ loss: nothing costs nothing (your loss gives 1 where"),
    (lambda x, s: right(x, s).detach(), "✗ loss: the value is right, but no gradient comes out of it"),
    (lambda x, s: right(x.detach(), s) + 0 * x.sum(), "✗ loss: the value is right, but no gradient reaches x: it"),
    (lambda x, s: right(x, s) + (x - x.detach()).sum(), "✗ loss: the value is right, but the gradient of x is not"),
    (lambda x, s: x.mul_(s).square().mean(), "✓ loss"),
    (lambda x, s: right(x, s).item(), "✗ loss: your loss must be a tensor, and it is a float"),
    (lambda x, s: (right(x, s), 1), "✗ loss: your loss must be a single value, and it is a tuple"),
    (lambda x, s: torch.ones(3), "✗ loss: your loss must be one number, and it has shape [3]"),
    (lambda x, s: 1.0003 * right(x, s), "✗ loss: another value than the slow reference: "),
])
def test_an_exercise_names_what_is_wrong(answer, line):
    assert repr(loss(answer)).startswith(line)


def test_a_slip_that_gives_nan_is_named_too():
    with pytest.raises(Wrong, match="you divide 0 by 0"):
        agree(lambda x: x / x, [(torch.zeros(2),)], lambda x: x, {"you divide 0 by 0": lambda x: x * torch.nan})


def test_two_values_that_differ_are_shown_with_the_digits_that_differ():
    said = loss(lambda x, s: 1.0003 * right(x, s)).text.removeprefix("another value than the slow reference: ")
    got, wanted = said.removesuffix(" is right").split(" where ")
    assert got != wanted


def test_exercises_know_their_slips_and_are_listed():
    assert loss in CHECKERS
    assert loss.__doc__ == "`loss(x, scale)`: the mean of (x · scale)²."
    assert loss(loss.right()).passed
    for sentence, slip in loss.wrong().items():
        assert loss(slip).text == sentence


def test_answers_of_several_values():
    def _both(x, *, swap=False):
        return (-x, 2 * x) if swap else (2 * x, -x)

    both = exercise("both", _both, lambda: [(torch.ones(2),)], slips={"they are swapped": {"swap": True}},
                    returns="double, minus")
    assert both(lambda x: (2 * x, -x)).passed
    assert both(lambda x: (-x, 2 * x)).text == "they are swapped"
    assert both(lambda x: 2 * x).text == "2 values are wanted: end with `return double, minus`"
    assert both(lambda x: (2 * x, ...)).state == "waiting"
    assert "must have shape [2], and it has [1]" in both(lambda x: (2 * x, -x[:1])).text


def test_an_argument_that_must_get_no_gradient():
    def _distance(student, teacher):
        return (student - teacher.detach()).square().sum()

    distance = exercise("distance", _distance, lambda: [(torch.randn(3), torch.randn(3))],
                        gradients={"student": "it learns"}, stopped={"teacher": "it only follows"})
    assert distance(_distance).passed
    assert "a gradient reaches teacher, and none should: it only follows" in distance(
        lambda a, b: (a - b).square().sum()).text


def test_gradient_reaches_can_want_none():
    x, y = torch.ones(2, 1, requires_grad=True)[:, 0].unbind()
    gradient_reaches(2 * x, [x], "x")
    gradient_reaches(2 * x, [y], "y", wanted=False)
    with pytest.raises(Wrong, match="no gradient reaches y"):
        gradient_reaches(2 * x, [y], "y")
    with pytest.raises(Wrong, match="a gradient reaches x, and none should"):
        gradient_reaches(2 * x, [x], "x", wanted=False)


def test_a_prediction_says_what_is_expected_of_what_was_measured():
    @prediction(example=(12.0,))
    def share(measured):
        """A share."""
        return Expected(measured, within=2, unit=" %", why="Because.", slips={"that is half": measured / 2})

    assert share in CHECKERS and share.predicts and share.__doc__ == "A share."
    assert repr(share(11, 12.0)) == "✓ share: you said 11 %, measured is 12 %. Because."
    assert "that is half" in share(6.5, 12.0).text
    assert share(..., 12.0).state == "waiting"


# --- what is recorded -------------------------------------------------------------------------------------------------

def test_a_spy_records_the_students_last_run_alone():
    spy = Spy(nn.Linear(2, 3)).eval()
    spy(torch.ones(1, 2))
    assert not spy.calls

    def student(x, head):
        head(x)
        x += 1  # does not change what was recorded
        with torch.no_grad():
            head.train()
            return head(x)

    for _ in range(2):
        function(student)(torch.ones(4, 2), spy.eval())
    assert [(call.training, call.grad) for call in spy.calls] == [(False, True), (True, False)]
    assert torch.equal(torch.cat(spy.inputs), torch.tensor([1.0, 2.0]).repeat_interleave(4)[:, None].expand(-1, 2))
    assert torch.equal(spy.replay(torch.zeros(9, 2)), torch.cat(spy.outputs))
    spy(torch.ones(1, 2))
    assert len(spy.calls) == 2


def test_a_reference_sees_what_the_students_code_drew_and_draws_itself_where_it_is_the_answer():
    def _step(x, noise):
        return (noise.replay(x) - x).mean()

    step = exercise("step", _step, lambda: [(torch.zeros(5), Spy(lambda x: x + torch.rand_like(x)))],
                    look={"noise is drawn once": lambda out, x, noise: (
                        None if len(noise.calls) == 1 else f"noise is drawn {len(noise.calls)} times")})
    assert step(_step).passed
    assert step(lambda x, noise: noise(x).mean()).text.startswith("2 properties hold: noise is drawn once; equals")
    assert step(lambda x, noise: (noise(x) + noise(x)).mean()).text == "noise is drawn 2 times"


# --- answers that misbehave -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("stop", [exit, quit, lambda: (_ for _ in ()).throw(SystemExit(3))])
def test_an_answer_that_ends_the_program_is_told_so(stop):
    assert repr(double(lambda x: stop())).startswith("✗ double: your code ends the program, by exit() or SystemExit")


def test_an_exception_of_an_unusual_kind_does_not_escape():
    class Odd(BaseException):
        pass

    def odd(x):
        raise Odd("very")

    assert repr(double(odd)).startswith("✗ double: your code stops with Odd: very (line ")


def test_settings_that_an_answer_changes_are_put_back_at_once():
    def careless(x):
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.set_default_device("meta")
        return right(x, 2.0)

    seen = []

    @checker
    def settings(answer):
        function(answer)(torch.ones(2))
        seen.append((torch.get_default_dtype(), torch.get_default_device().type, torch.is_grad_enabled()))
        yield "called"

    try:
        assert settings(careless).passed
        assert seen == [(torch.float32, "cpu", True)]
        assert (torch.get_default_dtype(), torch.get_default_device().type) == (torch.float32, "cpu")
        assert torch.is_grad_enabled()
    finally:  # other tests should not suffer where this one fails
        torch.set_default_dtype(torch.float32)
        torch.set_grad_enabled(True)
        torch.set_default_device(None)


def test_a_checker_works_whatever_the_notebooks_settings_are_and_leaves_them():
    @checker
    def drawn(answer):
        yield str(torch.rand(1).dtype)

    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            assert loss(right).passed
            assert drawn(1).text == "torch.float32"
            assert not torch.is_grad_enabled()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_random_numbers_that_an_answer_seeds_are_put_back():
    def seeds(x):
        torch.manual_seed(3), random.seed(3), np.random.seed(3)
        return 2 * x

    def draw():
        return torch.rand(1).item(), random.random(), np.random.rand()

    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    wanted = draw()
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    assert double(seeds).passed
    assert draw() == wanted


def test_arguments_in_containers_are_copied_too():
    @dataclasses.dataclass
    class Pair:
        a: torch.Tensor
        b: list

    pair, parts = Pair(torch.ones(2), [torch.ones(2)]), {"c": (torch.ones(2),)}

    def spoils(pair, parts):
        pair.a.zero_(), pair.b[0].zero_(), parts["c"][0].zero_()
        pair.b.clear(), parts.clear()
        return 1

    function(spoils)(pair, parts)
    assert all(torch.equal(x, torch.ones(2)) for x in (pair.a, pair.b[0], parts["c"][0]))


GIVEN = """
def triple(x):
    "Three times x."
    add = [k for k in range(2)]  # a friend's idea
    return x + len(add)
"""


def test_code_as_it_was_given_waits_whatever_its_comments_and_any_change_is_looked_at():
    def _triple(x):
        return 3 * x

    triple = exercise("triple", _triple, lambda: [(1.0,), (2.0,)], given=GIVEN)

    def code(source):
        exec(source, space := {})
        return space["triple"]

    for same in (GIVEN, GIVEN.replace("  # a friend's idea", "\n\n    # why?")):
        assert triple(code(same)).text.startswith("not attempted yet: this is the code as it was given")
    for old, new in (("range(2)", "range(3)"), ("x + len", "x * len"), ("[k for", "[2 * k for")):
        assert triple(code(GIVEN.replace(old, new))).state == "wrong"
    assert triple(code(GIVEN.replace("x + len(add)", "3 * x"))).passed


def test_the_examples_of_the_module_work():
    code = "\n".join(line for line in base.__doc__.splitlines() if line.startswith("    ") or not line)
    names = {name: getattr(base, name) for name in base.__all__} | {"torch": torch}
    before = len(CHECKERS)
    exec(textwrap.dedent(code), names)
    for check in CHECKERS[before:]:
        assert check(check.right(), *check.example).passed, check
        for sentence, answer in check.wrong().items():
            assert sentence in check(answer, *check.example).text
    assert [check.name for check in CHECKERS[before:]] == ["error", "best_share"]


def test_what_torch_has_not_implemented_is_a_mistake_and_not_an_empty_answer():
    masks = torch.rand(2, 3)
    with pytest.raises(Wrong, match=r"your code stops with NotImplementedError: .*bitwise_and.* \(line \d+: "):
        function(lambda a, b: a & b)(masks, masks)

    def empty(a):
        raise NotImplementedError("write your answer here")

    with pytest.raises(NotAttempted):
        function(empty)(masks)
