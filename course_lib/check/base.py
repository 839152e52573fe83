"""How a checker works: it tries an answer and says in one line what holds, what is wrong, or that nothing is there yet.

A checker is a generator, decorated with `checker`. It takes the student's answer, tries one property after another,
yields the name of each that holds, and raises `Wrong` with a sentence for the student at the first that does not:

    @checker
    def double(answer):
        \"\"\"Twice a number.\"\"\"
        student = function(answer)
        agree(student, cases=[(1.0,), (-2.5,)], reference=lambda x: 2 * x,
              mistakes={"you add 2 instead of multiplying by it": lambda x: 2 + x})
        yield "equals a slow reference"
        if student(0.0) != 0:
            raise Wrong("twice zero is zero")
        yield "zero stays zero"

`double(f)` then returns a `Verdict`, whatever f does: here an exception is an answer, not a failure.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import linecache
import math
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

MARKS = {"passed": "✓", "wrong": "✗", "waiting": "…"}
TOLERANCE = 1e-4  # relative and absolute: float32 sums in any order agree within it, mistakes do not


class Wrong(Exception):
    """Raised by a checker where a property fails, with the sentence that the student reads."""


class NotAttempted(Exception):
    """Raised where the answer is still empty; the message, if any, says what is missing."""


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


def checker(check: Callable[..., Iterator[str]]) -> Callable[..., Verdict]:
    """Turn a generator of properties into a function that returns a `Verdict` and never raises.

    The random numbers inside are always the same, and those outside are left as they were. A single property's name is
    the whole verdict, so it may be a sentence.
    """

    @functools.wraps(check)
    def run(answer: Any, *args, **kwargs) -> Verdict:
        verdict = functools.partial(Verdict, check.__name__)
        try:
            if is_empty(answer):
                raise NotAttempted
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                held = list(check(answer, *args, **kwargs))
        except NotAttempted as empty:
            return verdict("waiting", ": ".join(["not attempted yet", *filter(None, [str(empty)])]))
        except Wrong as wrong:
            return verdict("wrong", str(wrong))
        except Exception as error:  # an answer so strange that the checker itself stumbled over it
            return verdict("wrong", f"this checker did not expect what your answer gave it ({in_words(error)}): "
                                    "compare its type and shape with what the exercise asks for")
        return verdict("passed", held[0] if len(held) == 1 else f"{len(held)} properties hold: {'; '.join(held)}")

    return run


def is_empty(answer: Any) -> bool:
    """Whether an answer is still `...` or None."""
    return answer is None or answer is ...


def in_words(error: Exception) -> str:
    """The type of an exception and the first line of its message."""
    message = str(error).strip().splitlines()
    return f"{type(error).__name__}: {message[0]}" if message else type(error).__name__


def function(answer: Any) -> Callable:
    """The student's function, made safe: it may raise, return nothing or change its arguments.

    What it raises becomes `Wrong`, with the line; NotImplementedError, None, `...` and code that stumbles over a `...`
    become `NotAttempted`. Tensors are copied before each call; gradients flow through the copy.
    """
    if not callable(answer):
        raise Wrong(f"a function is wanted here, and this is a {type(answer).__name__}: "
                    "give its name, without calling it")

    def student(*args, **kwargs):
        try:
            out = answer(*map(_copy, args), **{name: _copy(value) for name, value in kwargs.items()})
        except NotImplementedError as error:
            raise NotAttempted from error
        except Exception as error:
            where = _line(error)
            if "ellipsis" in str(error).lower():
                raise NotAttempted(f"there is still a `...` to fill in{where}") from error
            raise Wrong(f"your code stops with {in_words(error)}{where}") from error
        if out is ...:
            raise NotAttempted("it still returns `...`")
        if out is None:
            raise NotAttempted("it returns None, so if you have written something, end it with `return`")
        return out

    return student


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _line(error: Exception) -> str:
    """Where in the student's own code it happened: the innermost line in the file of the function that was called."""
    frames = traceback.extract_tb(error.__traceback__)[1:]  # the first frame is the call in `student`
    own = [frame for frame in frames if frame.filename == frames[0].filename]
    if not own:  # it was never entered: the arguments did not fit
        return ""
    code = (own[-1].line or linecache.getline(own[-1].filename, own[-1].lineno)).strip()
    return f" (line {own[-1].lineno}: `{code}`)"


def number(value: Any, what: str = "your answer") -> float:
    """A finite number: int, float, or a tensor or array of one element and no dimensions. Raises Wrong otherwise."""
    shape = list(getattr(value, "shape", ()))
    if shape:
        raise Wrong(f"{what} must be one number, and it has shape {shape}")
    try:
        value = float(value.detach() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError):
        raise Wrong(f"{what} must be a number, and it is a {type(value).__name__}") from None
    if not math.isfinite(value):
        raise Wrong(f"{what} is {value}, and must be finite")
    return value


def tensor(value: Any, shape: Sequence[int], what: str = "your answer") -> Tensor:
    """A tensor of this shape. Raises Wrong otherwise."""
    if not isinstance(value, Tensor):
        raise Wrong(f"{what} must be a tensor, and it is a {type(value).__name__}")
    if list(value.shape) != list(shape):
        raise Wrong(f"{what} must have shape {list(shape)}, and it has {list(value.shape)}")
    return value


def close(a: Any, b: Any, tolerance: float = TOLERANCE) -> bool:
    """Whether two numbers, or two tensors of one shape, agree; a NaN agrees with nothing."""
    a, b = (torch.as_tensor(v).detach().double() for v in (a, b))
    return a.shape == b.shape and torch.allclose(a, b, rtol=tolerance, atol=tolerance)


def gradient_reaches(loss: Tensor, leaves: Sequence[Tensor], whom: str) -> None:
    """Raise Wrong unless the loss, whose value is right, has a gradient for every leaf.

    whom: what the leaves are, in words.
    """
    got = [None]
    if loss.requires_grad:
        got = torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True)  # others may be asked about next
    if any(g is None for g in got):
        raise Wrong(f"the value is right, but no gradient reaches {whom}: look for .detach() or torch.no_grad()")


def agree(student: Callable, cases: Sequence[tuple], reference: Callable,
          mistakes: Mapping[str, Callable] | Iterable[tuple[str, Callable]] = (),
          otherwise: str = "another value than the slow reference", tolerance: float = TOLERANCE) -> None:
    """The student's function must agree with a slow reference on every case; typical mistakes are called by their name.

    cases: arguments of each call. mistakes: sentence -> a wrong function, or such pairs: the first that gives what the
    student's gives on every case is the diagnosis. otherwise: the sentence where none does, before both values.
    Raises Wrong.
    """
    got = [student(*case) for case in cases]
    wanted = [reference(*case) for case in cases]
    for g, w in zip(got, wanted, strict=True):
        tensor(g, w.shape) if isinstance(w, Tensor) and w.ndim else number(g)
    if all(close(g, w, tolerance) for g, w in zip(got, wanted, strict=True)):
        return
    for sentence, mistake in mistakes.items() if isinstance(mistakes, Mapping) else mistakes:
        if all(close(g, mistake(*case), tolerance) for g, case in zip(got, cases, strict=True)):
            raise Wrong(sentence)
    g, w = next((g, w) for g, w in zip(got, wanted, strict=True) if not close(g, w, tolerance))
    raise Wrong(f"{otherwise}: {_show(g)} where {_show(w)} is right")


def together(slips: Iterable[str], least: int = 1, most: int | None = None) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every set of `least` to `most` (all) of the slips, small sets first, each after the sentence to tell.

    Of several slips only the first is told, so that the others can still be found.
    """
    slips = tuple(slips)
    for count in range(least, (most or len(slips)) + 1):
        before = f"{count} mistakes at once; one of them: " if count > 1 else ""
        for several in itertools.combinations(slips, count):
            yield before + several[0], several


def _show(value: Any) -> str:
    """A number, or the first few of a tensor's."""
    flat = torch.as_tensor(value).detach().flatten().double().tolist()
    shown = ", ".join(f"{v:.4g}" for v in flat[:4])
    return shown if len(flat) == 1 else f"[{shown}{', …' if len(flat) > 4 else ''}]"


def predicted(guess: Any, measured: float, *, within: float, why: str, unit: str = "",
              mistakes: Mapping[str, float] | None = None) -> str:
    """Compare a number that was written down beforehand with what was measured; the sentence to yield, or Wrong.

    within: how far off still counts as right, in the same unit. why: what decides the number.
    mistakes: sentence -> the number that this slip of thought leads to; it must lie nearer than half of `within`.
    """
    guess = number(guess, "a prediction")
    said = f"you said {guess:.4g}{unit}, measured is {measured:.4g}{unit}"
    if abs(guess - measured) <= within:
        return f"{said}. {why}"
    for sentence, slip in (mistakes or {}).items():
        if abs(guess - slip) < within / 2:
            raise Wrong(f"{said}: {sentence}. {why}")
    raise Wrong(f"{said}: {'too low' if guess < measured else 'too high'}. {why}")
