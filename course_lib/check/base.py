"""How a checker works: it tries an answer and says in one line what holds, what is wrong, or that nothing is there yet.

Three ways to make one. All are called with the student's answer, return a `Verdict` whatever the answer does, and are
listed in `CHECKERS`, where a test finds them, feeds every slip back and sees it named.

**A function that has one right value** is an `exercise`: a slow reference, and what is often done instead of it.

    def _error(output, target, *, power=2, reduce=torch.mean):  # options are places for mistakes
        return reduce((output - target).abs() ** power)

    error = exercise(
        "error", _error, lambda: [(torch.randn(5), torch.randn(5)), (torch.randn(7), torch.randn(7))],
        slips={"errors are not squared": {"power": 1},                  # options of the reference, or a function of
               "the target is not used": lambda output, target: _error(output, 0),   # the same arguments
               **afterwards(lambda output, target: len(output), what="squares", logarithm=False)},   # shared ones
        together=2,                                                     # slips with options are also tried in pairs
        limits={"0 where all is right": lambda f: (f(torch.ones(3), torch.ones(3)), 0.0, "nothing is wrong there")},
        gradients={"output": "it is what learns"})                      # gets the right gradient; `stopped`: gets none

Cases are made anew for each answer, with the same random numbers. A limit gives what was got, what is wanted, and what
to say where they differ. The student's code gets copies of the arguments, and the reference gets them in float64.

A training step is given a `Spy` for each head, encoder or view that it may call. The reference is called with the same
arguments after the student's code, so it can take `views.replay(x, x)`, what was drawn, and compute the loss of that;
`look={property: function(out, *arguments) -> sentence or None}` examines what was recorded before values are compared.
`given=` is the source of a debug exercise's starting cell: unchanged, it waits.

**A number written down beforehand** is a `prediction`: a function from what was measured to what is `Expected`.

    @prediction(example=(12.0,))
    def best_share(measured):
        return Expected(measured, within=1, why="Because.", slips={"that is half of it": measured / 2})

**All else** is a generator decorated with `checker`: it yields the name of each property that holds and raises `Wrong`
with a sentence at the first that does not. `function`, `agree`, `number`, `tensor`, `close`, `gradient_reaches` help.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.check.answers import (
    TOLERANCE,
    Call,
    NotAttempted,
    Spy,
    Wrong,
    apart,
    as_number,
    close,
    function,
    in_words,
    is_empty,
    is_unchanged,
    number,
    parts,
    random_numbers_kept,
    settings_kept,
    show,
    tensor,
)

__all__ = ["CHECKERS", "Call", "Checker", "Expected", "NotAttempted", "Spy", "Verdict", "Wrong", "afterwards", "agree",
           "checker", "close", "exercise", "function", "gradient_reaches", "hard_coded", "is_empty", "number",
           "predicted", "prediction", "tensor", "together", "variants"]

MARKS = {"passed": "✓", "wrong": "✗", "waiting": "…"}
CHECKERS: list[Checker] = []  # every checker that was made, in order


@dataclasses.dataclass(frozen=True, repr=False)
class Verdict:
    """What a checker found: one line to read, and `passed` for programs.

    name: the checker's. state: "passed", "wrong" or "waiting". text: the sentence.
    """

    name: str
    state: str
    text: str

    @property
    def passed(self) -> bool:
        return self.state == "passed"

    def __repr__(self) -> str:
        return f"{MARKS[self.state]} {self.name}: {self.text}"


class Checker:
    """Called with an answer (and what was measured, where it is a prediction) it returns a `Verdict` and never raises.

    The random numbers inside are always the same; those outside, the default dtype and device and whether gradients are
    on are left as they were. A single property's name is the whole verdict, so it may be a sentence.

    check: the generator of properties. given: source of the starting cell, which waits while it is unchanged.
    predicts: whether the answer is a number or words that were written down beforehand, and not a function.
    example: arguments after the answer, for a test. right, wrong: make an answer that passes, and answers by the
    sentence that they should get; None where a test has to write them.
    """

    def __init__(self, name: str, check: Callable[..., Iterator[str]], *, module: str, about: str | None,
                 given: str = "", predicts: bool = False, example: tuple = (), right: Callable[[], Any] | None = None,
                 wrong: Callable[[], Mapping[str, Any]] | None = None):
        self.__name__ = self.name = name
        self.__module__, self.__doc__ = module, about
        self.check, self.given, self.predicts, self.example = check, given, predicts, example
        self.right, self.wrong, self.cases = right, wrong, None
        CHECKERS.append(self)

    def __repr__(self) -> str:
        return f"<checker {self.__module__.rpartition('.')[2]}.{self.name}>"

    def __call__(self, answer: Any, *args, **kwargs) -> Verdict:
        try:
            if is_empty(answer):
                raise NotAttempted
            if self.given and is_unchanged(answer, self.given):
                raise NotAttempted("this is the code as it was given. Find a mistake in it and repair it")
            with random_numbers_kept(), settings_kept(), torch.inference_mode(False), torch.enable_grad():
                torch.set_default_dtype(torch.float32)
                torch.manual_seed(0)
                held = list(self.check(answer, *args, **kwargs))
        except NotAttempted as empty:
            return Verdict(self.name, "waiting", ": ".join(["not attempted yet", *filter(None, [str(empty)])]))
        except Wrong as wrong:
            return Verdict(self.name, "wrong", str(wrong))
        except Exception as error:  # an answer so strange that the checker itself stumbled over it
            return Verdict(self.name, "wrong",
                           f"this checker did not expect what your answer gave it ({in_words(error)}): "
                           "compare its type and shape with what the exercise asks for")
        text = held[0] if len(held) == 1 else f"{len(held)} properties hold: {'; '.join(held)}"
        return Verdict(self.name, "passed", text)


def checker(check: Callable[..., Iterator[str]] | None = None, **options: Any) -> Any:
    """Turn a generator of properties into a `Checker`: `@checker`, or `@checker(option=…)` with the options of that.

    Where the answer was written down beforehand, they are `predicts=True` and `example=(what was measured, …)`.
    """
    if check is None:
        return lambda check: checker(check, **options)
    return Checker(check.__name__, check, module=check.__module__, about=check.__doc__, **options)


# --- a function that has one right value ------------------------------------------------------------------------------

def exercise(
    name: str,
    reference: Callable,
    cases: Callable[[], list[tuple]],
    *,
    slips: Mapping[str, Mapping[str, Any] | Callable] | None = None,
    together: int = 2,
    look: Mapping[str, Callable[..., str | None]] | None = None,
    limits: Mapping[str, Callable[[Callable], tuple]] | None = None,
    gradients: Mapping[str, str] | None = None,
    stopped: Mapping[str, str] | None = None,
    given: str = "",
    what: str = "your answer",
    returns: str = "a, b",
    holds: str = "equals a slow reference",
    otherwise: str = "another value than the slow reference",
    tolerance: float = TOLERANCE,
) -> Checker:
    """The checker of a function: it is compared with a slow reference, and then tried in limits and for its gradients.

    reference: the right function, slow and plain; its docstring becomes the checker's. Floating-point tensors reach it
      in float64, unless a module is among the arguments. It may return a number, a tensor, or a tuple of these.
    cases: makes the arguments of each call.
    slips: sentence -> what is often done instead: options of the reference, or a function of the same arguments. The
      option "after" is a function(value, *arguments) of the reference's value. The first that gives what the student's
      code gives on every case is told, also where that is infinite or of another shape.
    together: up to how many slips with options are tried at once.
    look: property -> function(out, *arguments) that returns a sentence where what was done is wrong, else None.
    limits: property -> function(student's function) -> (got, wanted) or (got, wanted, what to say if they differ).
    gradients, stopped: name of an argument of the reference, a tensor or a module -> why it needs a gradient, the same
      as the reference's, or why it must get none.
    what: the answer's name in sentences. returns: the names of its parts, where it is a tuple.
    holds: the property's name where all values agree. otherwise: the sentence where they do not, before both values.
    """
    slips, look, limits = slips or {}, look or {}, limits or {}
    gradients, stopped = gradients or {}, stopped or {}

    def check(answer: Any) -> Iterator[str]:
        student, tries = function(answer), cases()
        got = [student(*case) for case in tries]
        for sentence, wrong_with in look.items():
            for out, case in zip(got, tries, strict=True):
                if wrong := wrong_with(out, *case):
                    raise Wrong(wrong)
            yield sentence
        if (gradients or stopped) and not isinstance(got[0], (Tensor, tuple)):
            raise Wrong(f"{what} must be a tensor, and it is a {type(got[0]).__name__}")
        _compare(got, tries, reference, variants(reference, slips, together), otherwise, tolerance, what,
                 returns)
        yield holds
        for sentence, limit in limits.items():
            found, wanted, *why = limit(student)
            if not close(found, wanted, tolerance):
                said = why[0] if why else f"this should hold, and does not: {sentence}"
                raise Wrong(f"{said} ({what} gives {apart(found, wanted)})")
            yield sentence
        if gradients or stopped:
            yield from _gradients(student, reference, cases()[0], gradients, stopped)

    made = Checker(
        name, check, module=reference.__module__, about=reference.__doc__, given=given,
        right=lambda: reference, wrong=lambda: dict(variants(reference, slips)))
    made.cases = cases  # for tests that compare slips with each other
    return made


def variants(reference: Callable, slips: Mapping[str, Mapping[str, Any] | Callable], most: int = 1
             ) -> Iterator[tuple[str, Callable]]:
    """(sentence, the wrong function): each slip, then those with different options made together, up to `most`."""
    for told, several in together(slips, 1, most):
        chosen = [slips[sentence] for sentence in several]
        if len(chosen) == 1:
            yield told, chosen[0] if callable(chosen[0]) else _with(reference, chosen[0])
        elif not any(map(callable, chosen)):
            options = {name: value for slip in chosen for name, value in slip.items()}
            if len(options) == sum(map(len, chosen)):
                yield told, _with(reference, options)


def _with(reference: Callable, options: Mapping[str, Any]) -> Callable:
    """The reference with these options, "after" among them."""
    after = options.get("after", lambda value, *case: value)
    options = {name: value for name, value in options.items() if name != "after"}
    return lambda *case: after(reference(*case, **options), *case)


def afterwards(count: Callable[..., int] | None = None, *, what: str = "losses", logarithm: bool = True
               ) -> dict[str, dict[str, Callable]]:
    """What is often done with a right loss: slips for `exercise`, whatever the loss.

    count: from the arguments to how many terms the mean is taken of; without it sums are not known from means.
    what: the terms' name. logarithm: whether the loss is one, and so may have another base.
    """
    slips = {"the sign is wrong: a loss should fall as the answer gets better": lambda loss, *case: -loss}
    if count:
        slips[f"you add up the {what}: take their mean, or the learning rate depends on the batch"] = (
            lambda loss, *case: loss * count(*case))
        slips["you divide by their number twice: the mean has done it already"] = (
            lambda loss, *case: loss / count(*case))
    if logarithm:
        base = "the logarithm has base {}: torch.log and cross_entropy use base e".format
        slips[base(2)] = lambda loss, *case: loss / math.log(2)
        slips[base(10)] = lambda loss, *case: loss / math.log(10)
    return {sentence: {"after": change} for sentence, change in slips.items()}


def hard_coded(reference: Callable, values: Iterable[float], what: str = "temperature") -> dict[str, Callable]:
    """Slips for `exercise`: the reference's last argument is not used, and one of these values is in its place."""
    def always(value: float) -> Callable:
        return lambda *case: reference(*case[:-1], value)

    return {f"your {what} is always {value}: use the one that your function is given": always(value)
            for value in values}


def together(slips: Iterable[str], least: int = 1, most: int | None = None) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every set of `least` to `most` (all) of the slips, small sets first, each after the sentence to tell.

    Of several slips only the first is told, so that the others can still be found.
    """
    slips = tuple(slips)
    for count in range(least, (most or len(slips)) + 1):
        before = f"{count} mistakes at once; one of them: " if count > 1 else ""
        for several in itertools.combinations(slips, count):
            yield before + several[0], several


def agree(student: Callable, cases: Sequence[tuple], reference: Callable,
          mistakes: Mapping[str, Callable] | Iterable[tuple[str, Callable]] = (),
          otherwise: str = "another value than the slow reference", tolerance: float = TOLERANCE) -> None:
    """Raise Wrong unless the student's function agrees with the reference on every case; mistakes are named.

    cases: arguments of each call. mistakes: sentence -> a wrong function, or such pairs.
    """
    got = [student(*case) for case in cases]
    pairs = mistakes.items() if isinstance(mistakes, Mapping) else mistakes
    _compare(got, cases, reference, pairs, otherwise, tolerance)


def _compare(got: Sequence, cases: Sequence[tuple], reference: Callable, mistakes: Iterable[tuple[str, Callable]],
             otherwise: str, tolerance: float, what: str = "your answer", returns: str = "a, b") -> None:
    """Raise Wrong unless the values are the reference's: first with the name of a mistake, if one explains them all."""
    cases = [_precise(case) for case in cases]
    wanted = [reference(*case) for case in cases]
    for g, w in zip(got, wanted, strict=True):
        _same_kind(g, w, what, returns)
    if all(close(g, w, tolerance) for g, w in zip(got, wanted, strict=True)):
        return
    for sentence, mistake in mistakes:
        if all(close(g, mistake(*case), tolerance, nan=True) for g, case in zip(got, cases, strict=True)):
            raise Wrong(sentence)
    g, w = next((g, w) for g, w in zip(got, wanted, strict=True) if not close(g, w, tolerance))
    for part, right in zip(parts(g), parts(w), strict=True):
        if isinstance(right, Tensor) and right.ndim:
            part = tensor(part, right.shape, what)
            if part.isfinite().logical_not().any() and right.isfinite().all():
                raise Wrong(f"{what} holds values that are not finite: {show(part)}")
        elif torch.as_tensor(right).isfinite():
            number(part, what)
    raise Wrong(f"{otherwise}: {apart(g, w)}")


def _same_kind(got: Any, wanted: Any, what: str, returns: str) -> None:
    """Raise Wrong where one is a tuple and the other is not, or where a part is no number and no tensor."""
    if isinstance(wanted, tuple) and (not isinstance(got, (tuple, list)) or len(got) != len(wanted)):
        raise Wrong(f"{len(wanted)} values are wanted: end with `return {returns}`")
    if not isinstance(wanted, tuple) and isinstance(got, tuple):
        raise Wrong(f"{what} must be a single value, and it is a tuple")
    for part, right in zip(parts(got) if isinstance(wanted, tuple) else [got], parts(wanted), strict=True):
        if isinstance(right, Tensor) and right.ndim:
            tensor(part, None, what)
        elif not isinstance(part, Tensor):
            as_number(part, what)


def _precise(case: tuple) -> tuple:
    """The arguments with floating-point tensors in float64; as they are where a module, in float32, is among them."""
    if any(isinstance(value, nn.Module) for value in case):
        return case
    return tuple(v.double() if isinstance(v, Tensor) and v.is_floating_point() else v for v in case)


# --- gradients --------------------------------------------------------------------------------------------------------

def gradient_reaches(loss: Tensor, leaves: Sequence[Tensor], whom: str, *, wanted: bool = True, why: str = "") -> None:
    """Raise Wrong unless the loss, whose value is right, has a gradient for every leaf; or for none, if not `wanted`.

    whom: what the leaves are, in words. why: what to say besides.
    """
    got = [g is not None and bool(g.any()) for g in _grad(loss, leaves)]
    if wanted and not all(got):
        why = why or "look for .detach() or torch.no_grad()"
        raise Wrong(f"the value is right, but no gradient reaches {whom}: {why}")
    if not wanted and any(got):
        why = why or ".detach() stops it"
        raise Wrong(f"the value is right, but a gradient reaches {whom}, and none should: {why}")


def _grad(loss: Tensor, leaves: Sequence[Tensor]) -> Sequence[Tensor | None]:
    if not loss.requires_grad:
        return [None] * len(leaves)
    try:
        return torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True)  # others may be asked about next
    except RuntimeError as error:
        raise Wrong("the value is right, but no gradient can be taken of it: is something changed in place, as by "
                    f"`z /= …`? Make a new tensor instead ({in_words(error)})") from error


def _gradients(student: Callable, reference: Callable, case: tuple, gradients: Mapping[str, str],
               stopped: Mapping[str, str]) -> Iterator[str]:
    """The properties that arguments named in `gradients` get the reference's gradient, and those in `stopped` none."""
    names = list(inspect.signature(reference).parameters)[: len(case)]
    watched = {*gradients, *stopped}
    case = tuple(value.clone().requires_grad_() if name in watched and isinstance(value, Tensor) else value
                 for name, value in zip(names, case, strict=True))
    arguments = dict(zip(names, case, strict=True))
    leaves = {name: list(arguments[name].parameters()) if isinstance(arguments[name], nn.Module) else [arguments[name]]
              for name in watched}
    loss, right = (sum(part.double().square().sum() if part.ndim else part for part in parts(out))
                   for out in (student(*case), reference(*_precise(case))))
    if gradients and not loss.requires_grad:
        raise Wrong("the value is right, but no gradient comes out of it: nothing would be learned. "
                    "Look for .detach(), .item() or torch.no_grad()")
    for name, why in gradients.items():
        for g, w in zip(_grad(loss, leaves[name]), _grad(right, leaves[name]), strict=True):
            if w is None or not w.any():
                continue
            if g is None or not g.any():
                raise Wrong(f"the value is right, but no gradient reaches {name}: {why}")
            if (g - w).abs().max() > 1e-3 * w.abs().max() + 1e-6:
                raise Wrong(f"the value is right, but the gradient of {name} is not: {why}")
    for name, why in stopped.items():
        gradient_reaches(loss, leaves[name], name, wanted=False, why=why)
    if gradients:
        yield f"a gradient to {' and '.join(gradients)}"
    if stopped:
        yield f"no gradient to {' and '.join(stopped)}"


# --- numbers that were written down beforehand ------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Expected:
    """What a guess is compared with.

    within: how far off still counts as right, in the same unit. why: what decides the number.
    slips: sentence -> the number that this slip of thought leads to; a guess nearer than half of `within` is told so.
    """

    measured: float
    within: float
    why: str
    unit: str = ""
    slips: Mapping[str, float] = dataclasses.field(default_factory=dict)


def prediction(*, example: tuple = ()) -> Callable[[Callable[..., Expected]], Checker]:
    """Make a checker of a predicted number from a function that says what is `Expected`.

    The checker is called with the guess and then with the function's arguments. example: such arguments, for a test.
    """
    def decorate(expect: Callable[..., Expected]) -> Checker:
        def check(guess: Any, *args, **kwargs) -> Iterator[str]:
            expected = dataclasses.asdict(expect(*args, **kwargs))
            yield predicted(guess, expected.pop("measured"), mistakes=expected.pop("slips"), **expected)

        return Checker(expect.__name__, check, module=expect.__module__, about=expect.__doc__, predicts=True,
                       example=example, right=lambda: expect(*example).measured, wrong=lambda: expect(*example).slips)

    return decorate


def predicted(guess: Any, measured: float, *, within: float, why: str, unit: str = "",
              mistakes: Mapping[str, float] | None = None) -> str:
    """Compare a number that was written down beforehand with what was measured; the sentence to yield, or Wrong.

    The arguments are those of `Expected`. Of several mistakes the nearest is told.
    """
    guess = number(guess, "a prediction")
    said = f"you said {guess:.4g}{unit}, measured is {measured:.4g}{unit}"
    if abs(guess - measured) <= within:
        return f"{said}. {why}"
    off = {sentence: abs(guess - slip) for sentence, slip in (mistakes or {}).items()}
    nearest = min(off, key=off.get, default=None)
    if nearest is not None and off[nearest] < within / 2:
        raise Wrong(f"{said}: {nearest}. {why}")
    raise Wrong(f"{said}: {'too low' if guess < measured else 'too high'}. {why}")
