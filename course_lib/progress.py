"""Progress bars: one look for training, measuring and drawing, and one switch that turns all of them off."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from tqdm.auto import tqdm


def bar(items: Iterable | None = None, *, total: int | None = None, desc: str = "", unit: str = "step",
        quiet: bool = False, initial: int = 0, delay: float = 0.0) -> tqdm:
    """A tqdm bar over `items`, or one of `total` steps that is moved by hand with `update()`.

    quiet: show nothing, as on every process but the first. delay: seconds before it shows at all, so that what is over
    in a moment leaves no trace. `TQDM_DISABLE=1` silences every bar: tqdm itself does not ask for it in notebooks.
    """
    quiet = quiet or os.environ.get("TQDM_DISABLE", "").lower() not in ("", "0", "false", "no")
    return tqdm(items, total=total, desc=desc, unit=unit, initial=initial, disable=quiet, mininterval=0.5, delay=delay)


def say(sentence: str) -> None:
    """Print a sentence to the error stream, above any bar."""
    tqdm.write(sentence, file=sys.stderr)
