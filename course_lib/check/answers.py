"""A student's answer, made safe to call, and its values, compared with what is right.

Here an exception is an answer, not a failure: `function` turns whatever a student's code does into `Wrong`, with a
sentence, or into `NotAttempted`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import linecache
import math
import random
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

TOLERANCE = 1e-4  # relative and absolute: float32 sums in any order agree within it, mistakes do not


class Wrong(Exception):
    """Raised by a checker where a property fails, with the sentence that the student reads."""


class NotAttempted(Exception):
    """Raised where the answer is still empty; the message, if any, says what is missing."""


# --- what a student's code gives to others ----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a `Spy`: input and output, whether it was in train mode, and whether gradients were on."""

    input: Tensor
    output: Tensor
    training: bool
    grad: bool


class Spy(nn.Module):
    """A head, an encoder or views, and a record of how the student's code called them.

    inner: the module or function of one tensor that does the work. `calls` holds the calls of the last time that the
    student's function ran, and of nobody else: a reference may call a spy as it likes. `maps` is recorded like a call.
    """

    def __init__(self, inner: Callable[[Tensor], Tensor]):
        super().__init__()
        self.inner = inner
        self.calls: list[Call] = []
        self.recording = False

    def forward(self, x: Tensor) -> Tensor:
        training, grad, before = self.training, torch.is_grad_enabled(), x.clone() if isinstance(x, Tensor) else x
        output = self.inner(x)
        if self.recording:
            self.calls.append(Call(before, output.clone(), training, grad))
        return output

    def maps(self, x: Tensor) -> Tensor:
        return self(x)

    @property
    def inputs(self) -> list[Tensor]:
        return [call.input for call in self.calls]

    @property
    def outputs(self) -> list[Tensor]:
        return [call.output for call in self.calls]

    def replay(self, *inputs: Tensor) -> Tensor:
        """All that the student's code got from it, in one tensor; of these inputs where it did not call."""
        return torch.cat(self.outputs or [self(x) for x in inputs])


# --- the student's function -------------------------------------------------------------------------------------------

def is_empty(answer: Any) -> bool:
    """Whether an answer is still `...` or None."""
    return answer is None or answer is ...


def is_unchanged(answer: Any, given: str) -> bool:
    """Whether a function is still the one in the source `given`, whatever its comments and blank lines."""
    code = getattr(answer, "__code__", None)
    if not isinstance(code, types.CodeType):
        return False
    module = compile(inspect.cleandoc(given), "<given>", "exec", dont_inherit=True)
    return any(isinstance(part, types.CodeType) and _same_code(part, code) for part in module.co_consts)


def _same_code(a: types.CodeType, b: types.CodeType) -> bool:
    a_has, b_has = ((code.co_code, code.co_names, code.co_varnames, len(code.co_consts)) for code in (a, b))
    return a_has == b_has and all(
        _same_code(x, y) if isinstance(x, types.CodeType) and isinstance(y, types.CodeType) else x == y
        for x, y in zip(a.co_consts, b.co_consts, strict=True))


def function(answer: Any) -> Callable:
    """The student's function, made safe: it may raise, exit, return nothing, or change its arguments or settings.

    What it raises becomes `Wrong`, with the line; NotImplementedError, None, `...` and code that stumbles over a `...`
    become `NotAttempted`. Tensors are copied before each call, also inside containers; gradients flow through the copy.
    A `Spy` among the arguments records this call.
    """
    if not callable(answer):
        raise Wrong(f"a function is wanted here, and this is a {type(answer).__name__}: "
                    "give its name, without calling it")

    def student(*args, **kwargs):
        spies = [value for value in (*args, *kwargs.values()) if isinstance(value, Spy)]
        for spy in spies:
            spy.calls, spy.recording = [], True
        try:
            with settings_kept():
                out = answer(*map(_copy, args), **{name: _copy(value) for name, value in kwargs.items()})
        except KeyboardInterrupt:  # Ctrl-C means the checker too
            raise
        except NotImplementedError as error:
            if "not implemented for" in str(error):  # torch's own, as for `&` between floats: the answer is there
                raise Wrong(f"your code stops with {in_words(error)}{_line(error)}") from error
            raise NotAttempted from error
        except SystemExit as error:
            raise Wrong(f"your code ends the program, by exit() or SystemExit{_line(error)}: return instead") from error
        except BaseException as error:
            where = _line(error)
            if "ellipsis" in str(error).lower():
                raise NotAttempted(f"there is still a `...` to fill in{where}") from error
            raise Wrong(f"your code stops with {in_words(error)}{where}") from error
        finally:
            for spy in spies:
                spy.recording = False
        if out is ... or (isinstance(out, (tuple, list)) and any(part is ... for part in out)):
            raise NotAttempted("it still returns `...`")
        if out is None:
            raise NotAttempted("it returns None, so if you have written something, end it with `return`")
        return out

    return student


def _copy(value: Any) -> Any:
    """The value with all its tensors cloned, in containers and data classes too; a module stays the one it is."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {name: _copy(part) for name, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_copy, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(value, **{f.name: _copy(getattr(value, f.name))
                                             for f in dataclasses.fields(value) if f.init})
    return value


@contextlib.contextmanager
def settings_kept() -> Iterator[None]:
    """Whatever is done inside, the default dtype and device and the grad mode are afterwards what they were."""
    dtype, device, grad = torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        if torch.get_default_device() != device:
            torch.set_default_device(None if device.type == "cpu" else device)


@contextlib.contextmanager
def random_numbers_kept() -> Iterator[None]:
    """Whatever is drawn or seeded inside, the random numbers of torch, NumPy and Python go on as if it had not been."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def in_words(error: BaseException) -> str:
    """The type of an exception and the first line of its message."""
    message = str(error).strip().splitlines()
    return f"{type(error).__name__}: {message[0]}" if message else type(error).__name__


def _line(error: BaseException) -> str:
    """Where in the student's own code it happened: the innermost line in the file of the function that was called."""
    frames = traceback.extract_tb(error.__traceback__)[1:]  # the first frame is the call in `student`
    own = [frame for frame in frames if frame.filename == frames[0].filename]
    if not own:  # it was never entered: the arguments did not fit
        return ""
    code = (own[-1].line or linecache.getline(own[-1].filename, own[-1].lineno)).strip()
    return f" (line {own[-1].lineno}: `{code}`)"


def parts(value: Any) -> Sequence:
    """The values of an answer of several, or the one there is."""
    return value if isinstance(value, (tuple, list)) else [value]


# --- values -----------------------------------------------------------------------------------------------------------

def number(value: Any, what: str = "your answer") -> float:
    """A finite number: int, float, or a tensor or array of one element and no dimensions. Raises Wrong otherwise."""
    shape = list(getattr(value, "shape", ()))
    if shape:
        raise Wrong(f"{what} must be one number, and it has shape {shape}")
    value = as_number(value, what)
    if not math.isfinite(value):
        raise Wrong(f"{what} is {value}, and must be finite")
    return value


def as_number(value: Any, what: str) -> float:
    """A number, finite or not. Raises Wrong for what is none."""
    try:
        return float(value.detach() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError):
        raise Wrong(f"{what} must be a number, and it is a {type(value).__name__}") from None


def tensor(value: Any, shape: Sequence[int] | None, what: str = "your answer") -> Tensor:
    """A tensor of this shape, or of any if None. Raises Wrong otherwise."""
    if not isinstance(value, Tensor):
        raise Wrong(f"{what} must be a tensor, and it is a {type(value).__name__}")
    if shape is not None and list(value.shape) != list(shape):
        raise Wrong(f"{what} must have shape {list(shape)}, and it has {list(value.shape)}")
    return value


def close(a: Any, b: Any, tolerance: float = TOLERANCE, *, nan: bool = False) -> bool:
    """Whether two numbers, two tensors of one shape, or two tuples of these agree; NaN agrees with NaN if `nan`."""
    if isinstance(a, tuple) or isinstance(b, tuple):
        a, b = parts(a), parts(b)
        return len(a) == len(b) and all(close(x, y, tolerance, nan=nan) for x, y in zip(a, b, strict=True))
    a, b = (torch.as_tensor(v).detach().cpu().double() for v in (a, b))
    return a.shape == b.shape and torch.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=nan)


def apart(got: Any, wanted: Any) -> str:
    """Both values in words, with as many digits as it takes to see that they differ; of two tensors, the part where
    they first do.
    """
    start = first_apart(got, wanted)
    if start:
        flat = [torch.as_tensor(value).detach().flatten()[start:] for value in (got, wanted)]
        at = [int(i) for i in torch.unravel_index(torch.tensor(start), torch.as_tensor(wanted).shape)]
        return f"from entry {at} on, {apart(*flat)}"
    for digits in (4, 6, 9):
        if (shown := show(got, digits)) != (right := show(wanted, digits)):
            break
    return f"{shown} where {right} is right"


def first_apart(got: Any, wanted: Any) -> int:
    """How many entries of two tensors of one shape, row after row, agree before one does not; 0 for all else."""
    if isinstance(got, tuple) or isinstance(wanted, tuple):
        return 0
    a, b = (torch.as_tensor(value).detach().cpu().double() for value in (got, wanted))
    off = ~torch.isclose(a, b, rtol=TOLERANCE, atol=TOLERANCE).flatten() if a.shape == b.shape else torch.ones(1)
    return int(off.int().argmax())


def show(value: Any, digits: int = 4) -> str:
    """A number, the first few of a tensor's, or the parts of a tuple."""
    if isinstance(value, tuple):
        return f"({', '.join(show(part, digits) for part in value)})"
    value = torch.as_tensor(value)
    flat = value.detach().flatten().double().tolist()
    shown = ", ".join(f"{v:.{digits}g}" for v in flat[:4])
    return f"[{shown}{', …' if len(flat) > 4 else ''}]" if value.ndim else shown
