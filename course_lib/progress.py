"""Progress bars: one look for training, measuring and drawing, and one switch that turns all of them off."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator

from tqdm.auto import tqdm


def bar(items: Iterable | None = None, *, total: int | None = None, desc: str = "", unit: str = "step",
        quiet: bool = False, initial: int = 0, delay: float = 0.0) -> tqdm | Patient:
    """A tqdm bar over `items`, or one of `total` steps that is moved by hand with `update()`.

    quiet: show nothing, as on every process but the first. delay: seconds before it shows at all, so that what is over
    in a moment leaves no trace. `TQDM_DISABLE=1` silences every bar: tqdm itself does not ask for it in notebooks.
    """
    quiet = quiet or os.environ.get("TQDM_DISABLE", "").lower() not in ("", "0", "false", "no")
    make = functools.partial(tqdm, desc=desc, unit=unit, disable=quiet, mininterval=0.5)
    if not delay:
        return make(items, total=total, initial=initial)
    if total is None and hasattr(items, "__len__"):
        total = len(items)
    return Patient(items, functools.partial(make, total=total), desc=desc, total=total, initial=initial, delay=delay)


class Patient:
    """A bar that is made when its delay is over. tqdm's own delay makes it at once and hides it, and in a notebook that
    sends a dozen messages for each of a thousand bars that nobody sees.

    n: how far it is. total: how far it goes, None where that is not known.
    """

    def __init__(self, items: Iterable | None, make: Callable[..., tqdm], *, desc: str, total: int | None,
                 initial: int, delay: float):
        self.items, self.make, self.desc, self.total, self.n = items, make, desc, total, initial
        self.due, self.shown = time.monotonic() + delay, None

    def update(self, n: int = 1) -> None:
        """Go on by n."""
        self.n += n
        if self.shown is not None:
            self.shown.update(n)
        elif time.monotonic() >= self.due:
            self.shown = self.make(initial=self.n)

    def __iter__(self) -> Iterator:
        with self:
            for item in self.items:
                yield item
                self.update()

    def close(self) -> None:
        """Leave the bar as it is."""
        if self.shown is not None:
            self.shown.close()

    def __enter__(self) -> Patient:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def say(sentence: str) -> None:
    """Print a sentence to the error stream, above any bar."""
    tqdm.write(sentence, file=sys.stderr)
