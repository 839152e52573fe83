"""Layer by layer, for runs on disk: who is right where a linear probe reads each stage of their encoders.

It leaves `assets/results/<data>-<profile>/stages/<name>-seed<seed>.json`, with who was right on val after each stage.
So any two stages of any two runs are compared on the same pictures, over all seeds of both: `evaluate.paired`. Probes
take minutes and most weights are not shipped, which is why a notebook reads these files.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor

from course_lib.data.types import Dataset
from course_lib.evaluate import stages_right
from course_lib.files import claim, write_text
from course_lib.recipes import seeds
from course_lib.runs import ASSETS, Run, as_json, encoder_for, packed, read_result, unpacked

PICTURES = 10_000  # of train, from which the probes learn
NUMBERS = 1024  # that a stage is pooled to, at most


def right(name: str, data: Dataset, profile: str, *, assets: Path = ASSETS) -> dict[str, Bool[Tensor, "seeds n"]]:
    """stage -> which pictures of val its probe was right about, one row a seed, of every seed that there is.

    It reads what `python -m course_lib stages NAME` has left. Where there is nothing, and in the smoke profile, one
    encoder is measured now: as shipped, or trained.
    """
    runs = [Run(name, data.name, profile, seed, assets) for seed in seeds(name)]
    found = [read(run) for run in runs if profile != "smoke" and path(run).exists()]
    if not found:
        encoder, _ = encoder_for(name, data, profile, assets=assets)
        found = [stages_right(encoder, data, train=PICTURES, numbers=NUMBERS)]
    return {stage: torch.stack([one[stage] for one in found]) for stage in found[0]}


def path(run: Run) -> Path:
    """Where the stages of a run are."""
    return run.result_path.parent / "stages" / run.result_path.name


def read(run: Run) -> dict[str, Bool[Tensor, " n"]]:
    """What was measured. Raises FileNotFoundError where there is nothing, with the command that makes it."""
    if not path(run).exists():
        raise FileNotFoundError(f"there is no {path(run)}: make it with `python -m course_lib stages {run.name} --data "
                                f"{run.data} --profile {run.profile}`")
    return {stage: unpacked(bits) for stage, bits in read_result(path(run))["right"].items()}


def measure(run: Run, data: Dataset) -> dict[str, Bool[Tensor, " n"]]:
    """Measure the stages of a run's encoder, write the file, and return what it says.

    A file that is there, of the same weights, pictures and settings, is kept. It takes the encoder that training left,
    so variants are measured before `prune` deletes their weights.

    Raises FileNotFoundError where the run has not been trained or its weights are not kept, ValueError where the same
    is already going on, and as `evaluate.stages_right`.
    """
    result = run.result
    weights = result["files"].get("encoder", {}).get("sha256", "")
    header = {"name": run.name, "data": run.data, "source": data.source, "profile": run.profile, "seed": run.seed,
              "on": "val", "pictures": [min(PICTURES, len(data.train)), len(data.val)], "numbers": NUMBERS,
              "recipe": dataclasses.asdict(run.settings), "weights": weights}
    header = json.loads(json.dumps(header))  # as it is read again
    with claim(run.resume_path.with_name(f"stages-{run.resume_path.name}")):
        there = read_result(path(run)) if path(run).exists() else {}
        there.pop("right", None)
        if there != header:
            found = stages_right(run.encoder(), data, train=PICTURES, numbers=NUMBERS)
            write_text(path(run), as_json({**header, "right": {stage: packed(r) for stage, r in found.items()}}))
    return read(run)
