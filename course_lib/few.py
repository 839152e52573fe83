"""Few labels, for runs on disk: how accuracy grows with the labels, of frozen features and of training from scratch.

It leaves `assets/results/<data>-<profile>/few/<name>-seed<seed>.json`, with who was right on val for each number of
labels a class and each draw of labelled pictures. `supervised` was trained with all labels, so nothing that it learned
is used: it is trained anew on the labelled pictures of each draw and on no others, with its own augmentation.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from course_lib import methods
from course_lib.data.types import Dataset
from course_lib.devices import pick_device
from course_lib.evaluate import FewLabels, draw_labels, features, few_label, is_right
from course_lib.evaluate.checks import check_dataset
from course_lib.evaluate.few_label import PER_CLASS
from course_lib.files import claim, write_text
from course_lib.recipes import TITLES, Settings, build_encoder, build_method, recipe
from course_lib.runs import ASSETS, Run, as_json, packed, read_result, train_or_load, unpacked
from course_lib.train import fit

DRAWS = 5
EPOCHS = 200  # of training from scratch, at most
STEPS = {"smoke": 10, "laptop": 1000, "gpu": 1000}  # and at most so many


def curve(names: Iterable[str], data: Dataset | str, profile: str, *, assets: Path = ASSETS) -> dict[str, FewLabels]:
    """title -> how well the classes of val are told apart with few labels, for each recipe: what `viz.ranges` draws.

    It reads what `python -m course_lib few NAME` has left; in the smoke profile it is made now, with two draws.

    data: the pictures, or the name of a data set, of which it is always read.

    Raises FileNotFoundError where there is nothing, with the command that makes it, and as `check`.
    """
    found = {}
    for name in names:
        run = Run(name, data if isinstance(data, str) else data.name, profile, assets=assets)
        check(name, profile)
        if profile != "smoke" or isinstance(data, str):
            found[title(name, profile)] = read(run)
            continue
        settings, encoder = recipe(name, profile), None
        if settings.trained and not from_scratch(settings):
            encoder = train_or_load(name, data, profile)[0].encoder
        found[title(name, profile)] = told_apart(settings, encoder, data, range(2))
    return found


def title(name: str, profile: str) -> str:
    """What a curve is called."""
    return "supervised, from scratch" if from_scratch(recipe(name, profile)) else TITLES[name]


def from_scratch(settings: Settings) -> bool:
    """Whether a recipe is trained anew on the labelled pictures, in place of being frozen."""
    return settings.trained and issubclass(getattr(methods, settings.method), methods.Supervised)


def check(name: str, profile: str) -> None:
    """Raises ValueError for a name that is not known, or a recipe that was trained with every label and has no
    classifier to be trained anew with few."""
    settings = recipe(name, profile)
    if settings.trained and not from_scratch(settings) and "labels" in getattr(methods, settings.method).needs:
        raise ValueError(f"{name} was trained with every label, so few labels say nothing of it: take supervised, "
                         "which is trained anew on those few")


def budgets(data: Dataset) -> tuple[int, ...]:
    """Those of 1, 10, 100 and 1,000 labels a class that train has. Raises ValueError for pictures without classes."""
    check_dataset(data)
    smallest = int(torch.bincount(data.train.y, minlength=len(data.classes)).min())
    return tuple(n for n in PER_CLASS if n <= smallest)


def path(run: Run) -> Path:
    """Where the few-label measures of a run are."""
    return run.result_path.parent / "few" / run.result_path.name


def read(run: Run) -> FewLabels:
    """What was measured. Raises FileNotFoundError where there is nothing, with the command that makes it."""
    if not path(run).exists():
        raise FileNotFoundError(f"there is no {path(run)}: make it with `python -m course_lib few {run.name} --data "
                                f"{run.data} --profile {run.profile}`")
    stored = read_result(path(run))
    draws = [torch.stack([unpacked(budget) for budget in draw]) for draw in stored["draws"]]
    return FewLabels(tuple(stored["per_class"]), torch.stack(draws, dim=1))


def measure(run: Run, data: Dataset, *, draws: int = DRAWS) -> FewLabels:
    """Measure a run with few labels, write the file, and return what it says.

    Draws that are there, of the same weights, pictures and settings, are kept; the file is written after each draw that
    is trained from scratch, so one that was killed goes on with the next.

    Raises as `check`, FileNotFoundError where the run has not been trained, and ValueError where the same is already
    going on or there are fewer than one draw.
    """
    check(run.name, run.profile)
    if draws < 1:
        raise ValueError(f"few labels need at least one draw, got {draws}: {DRAWS} are usual")
    settings, encoder, weights = recipe(run.name, run.profile), None, ""
    if settings.trained and not from_scratch(settings):
        settings, encoder, weights = run.settings, run.encoder(), run.result["files"]["encoder"]["sha256"]
    header = {"name": run.name, "data": run.data, "source": data.source, "profile": run.profile, "on": "val",
              "pictures": [len(data.train), len(data.val)], "per_class": budgets(data),
              "seed": run.seed, "recipe": dataclasses.asdict(settings), "weights": weights,
              "epochs": EPOCHS, "steps": STEPS[run.profile]}
    header = json.loads(json.dumps(header))  # as it is read again
    with claim(run.resume_path.with_name(f"few-{run.resume_path.name}")):
        there = read_result(path(run)) if path(run).exists() else {}
        known = there.pop("draws", [])
        if there != header:
            known = []
        missing = range(len(known), draws)
        if from_scratch(settings):
            parts = [[draw] for draw in missing]  # each takes minutes, so each is kept
        else:
            parts = [missing] if missing else []
        for some in parts:
            right = told_apart(settings, encoder, data, some, run.seed).right
            known += [[packed(row) for row in right[:, i]] for i in range(len(some))]
            write_text(path(run), as_json({**header, "draws": known}))
    return read(run)


def told_apart(settings: Settings, encoder: nn.Module | None, data: Dataset, draws: Sequence[int],
               seed: int = 0) -> FewLabels:
    """A recipe with few labels: trained from scratch on them where that is what it is, frozen otherwise.

    encoder: the trained one; None where nothing is trained, or all is trained from scratch. seed: of an untrained one.
    """
    per_class = budgets(data)
    if not from_scratch(settings):
        return few_label(encoder or build_encoder(settings, seed).to(pick_device()), data, per_class, draws)
    rows = [torch.stack([scratch(settings, data, n, draw) for draw in draws]) for n in per_class]
    return FewLabels(per_class, torch.stack(rows))


def scratch(settings: Settings, data: Dataset, per_class: int, draw: int) -> Bool[Tensor, " n"]:
    """Which pictures of val a network is right about that was trained on the labelled pictures of a draw and no others.

    It has the settings of the recipe but for its length: at most 200 epochs and at most 1,000 steps, a rule that no
    label was used to choose. Weights and order of the pictures are drawn by the number of the draw.
    """
    some = data.train[draw_labels(data.train.y, per_class, draw)]
    batch_size = min(settings.fit["batch_size"], len(some))
    epochs = min(EPOCHS, STEPS[settings.profile] / (len(some) // batch_size))
    method = build_method(settings, some, seed=draw)
    fit(method, some, seed=draw, **{**settings.fit, "epochs": epochs, "batch_size": batch_size})
    classifier = method.eval().classifier.cpu()
    with torch.no_grad():
        scores = classifier(features(method.encoder, data.val))
    return is_right(scores, data.val.y.cpu())
