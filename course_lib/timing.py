"""How long recipes train, measured in one go on one machine, so that their minutes can be compared.

What a run says of its own seconds depends on what else the machine did meanwhile. `python -m course_lib time` trains
every recipe for some steps, one after another, and leaves `assets/results/times-<profile>.json`; tables read it.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from course_lib import methods
from course_lib.data.types import Dataset
from course_lib.devices import autocast_dtype, pick_device
from course_lib.files import write_text
from course_lib.recipes import build_method, recipe
from course_lib.runs import ASSETS, as_json, read_result, versions
from course_lib.train import fit

STEPS, ROUNDS = 4, 5  # a round's steps, and how many rounds are timed after one that is not


def path(profile: str, assets: Path = ASSETS) -> Path:
    """Where the times of a profile are."""
    return assets / "results" / f"times-{profile}.json"


def seconds(name: str, data: Dataset, profile: str) -> float:
    """Seconds that a recipe takes for each picture, or each clip, that it trains on: the median of some rounds.

    Raises ValueError for an encoder that is measured as it is, or where the data set has less than a round's pictures.
    """
    settings = recipe(name, profile)
    if not settings.trained:
        raise ValueError(f"{name} is measured as it is, so there is no training to time: leave it out")
    images, size = data.seen_by(getattr(methods, settings.method).needs), settings.fit["batch_size"]
    if len(images) < STEPS * size:
        raise ValueError(f"a round takes {STEPS * size} pictures, got {len(images)}: give a larger data set")
    method, ends = build_method(settings, images), []
    fit(method, images[: STEPS * size], **{**settings.fit, "epochs": 1 + ROUNDS},
        callbacks=[lambda _, history: ends.append(history.seconds)])
    rounds = [after - before for before, after in itertools.pairwise(ends)]
    return statistics.median(rounds) / (STEPS * size)


def measure(names: Iterable[str], data: Dataset, profile: str, *, assets: Path = ASSETS) -> dict[str, Any]:
    """Time recipes, write the file, and return what it says: seconds a picture for each, and on what machine.

    All in one go: a file of other names is replaced whole, so that no two times in it are of different conditions.
    """
    device = pick_device()
    found = {"profile": profile, "data": data.name, "versions": versions(),
             "precision": str(autocast_dtype("auto", device)).removeprefix("torch."),
             "seconds": {name: float(f"{seconds(name, data, profile):.3g}") for name in names}}
    write_text(path(profile, assets), as_json(found))
    return found


def read(profile: str, assets: Path = ASSETS) -> dict[str, Any]:
    """What was measured; without a file, no times."""
    return read_result(path(profile, assets)) if path(profile, assets).exists() else {"seconds": {}}


def minutes(result: Mapping[str, Any], times: Mapping[str, Any]) -> str:
    """How long the training of a result takes by itself, as a table's cell; empty where it was not timed."""
    each = times["seconds"].get(result["name"])
    return "" if each is None else f"{each * result['pictures_seen'] / 60:.1f}"


def note(times: Mapping[str, Any]) -> str:
    """On what the minutes were taken, as a sentence; empty where there are none."""
    if not times["seconds"]:
        return ""
    threads = times["versions"]["threads"]
    return (f"Minutes of training alone, timed in one go with {threads} thread{'s' * (threads != '1')} "
            f"({times['versions']['machine']}, products in {times['precision']}).")
