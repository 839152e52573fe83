"""A run: train what a recipe says, measure it, and keep the numbers and the weights; and read them again.

A run leaves `assets/results/<data>-<profile>/<name>.json` and `assets/checkpoints/<data>-<profile>/<name>.safetensors`,
the encoder in float16. What else the method trained (projector, decoder, …) goes to `<name>-heads.safetensors`.
The measures are those of the checkpoint as it is shipped, rounded to float16, so whoever loads it finds the same.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import platform
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from course_lib.data.types import Dataset
from course_lib.evaluate import evaluate, evaluate_clips
from course_lib.files import save_tensors, write_text
from course_lib.methods.base import Batch, Method
from course_lib.recipes import Recipe, build_encoder, build_method, held_out_images, recipe, training_images
from course_lib.train import History, fit

ASSETS = Path(__file__).parents[1] / "assets"
CURVE_POINTS = 200


class Files(NamedTuple):
    """Where a run keeps what it makes; `resume` is there only while it trains."""

    result: Path
    checkpoint: Path
    heads: Path
    resume: Path


def files(name: str, data: str, profile: str, seed: int = 0, assets: Path | None = None) -> Files:
    """The files of a run. Names of data sets such as `folder:PATH` become names of folders."""
    assets, folder = assets or ASSETS, re.sub(r"[:/\\]", "_", f"{data}-{profile}")
    checkpoints = assets / "checkpoints" / folder
    return Files(assets / "results" / folder / f"{name}.json", checkpoints / f"{name}.safetensors",
                 checkpoints / f"{name}-heads.safetensors", assets / "runs" / f"{name}-{folder}-{seed}.pt")


def run(name: str, data: Dataset, profile: str = "laptop", *, seed: int = 0, assets: Path | None = None) -> dict:
    """Train `name` by its recipe, measure it, write result and checkpoint, and return the result.

    A run that was killed goes on where it stopped.
    Raises ValueError for unknown names, and whatever `fit` and `evaluate` raise.
    """
    where = files(name, data.name, profile, seed, assets)
    settings = recipe(name, profile)
    history, pretext = History(), {}
    if settings.method is None:
        encoder = build_encoder(settings, seed)
    else:
        method, history = train_recipe(settings, data, seed, where.resume)
        encoder = method.encoder
        heads = {k: v for k, v in method.state_dict().items() if not k.startswith(("encoder.", "teacher."))}
        save_checkpoint(where.heads, heads)
        pretext = held_out(method, data, settings.fit["batch_size"], seed)
    result = {"name": name, "data": data.name, "source": data.source, "profile": profile, "seed": seed,
              "recipe": {"method": settings.method, "encoder": settings.encoder, "options": dict(settings.options),
                         "fit": dict(settings.fit)},
              "versions": versions(), "seconds": round(history.seconds, 1), "pictures_seen": history.pictures,
              "curve": thin(history), "pretext": pretext, "checkpoint": None, "sha256": None}
    if encoder.state_dict():
        save_checkpoint(where.checkpoint, encoder.state_dict())
        result |= {"checkpoint": where.checkpoint.relative_to(assets or ASSETS).as_posix(),
                   "sha256": hashlib.sha256(where.checkpoint.read_bytes()).hexdigest()}
    result = _measured(result, data, assets)
    where.resume.unlink(missing_ok=True)
    return result


def train_recipe(settings: Recipe, data: Dataset, seed: int = 0, resume: Path | None = None) -> tuple[Method, History]:
    """The method of a recipe, trained on a data set, and what its training logged."""
    method = build_method(settings, seed, len(data.classes))
    return method, fit(method, training_images(method, data), seed=seed, resume=resume, **settings.fit)


@torch.no_grad()
def held_out(method: Method, data: Dataset, batch_size: int, seed: int = 0) -> dict[str, float]:
    """How well a method does what it was trained for, on pictures that it was not trained on: the means of its loss and
    of what else it logs, in eval mode. Of a method that follows things through clips also `J` and `F`, and those of
    copying the first mask (see `evaluate_clips`)."""
    method.eval()
    images = held_out_images(method, data).to(next(method.parameters()).device)
    logs = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        some = torch.randperm(len(images))[:4096]
        for index in some.split(min(batch_size, len(some))):
            if len(index) == min(batch_size, len(some)):
                out = method.loss(Batch(images.x[index], index, images.y[index] if method.needs_labels else None))
                logs.append(out if isinstance(out, dict) else {"loss": out})
    means = {key: torch.stack([log[key] for log in logs]).mean().item() for key in logs[0]}
    if method.needs_clips:
        means |= {key: value for key, value in evaluate_clips(method.track, images).items() if isinstance(value, float)}
    return {key: round(value, 4) for key, value in means.items()}


def measure(name: str, data: Dataset, profile: str = "laptop", *, assets: Path | None = None) -> dict:
    """Measure the checkpoint of a run anew, as after a change to the evaluator; nothing is trained.

    Raises FileNotFoundError where there was no such run, and whatever `evaluate` raises.
    """
    return _measured(load_result(name, data.name, profile, assets=assets), data, assets)


def _measured(result: dict, data: Dataset, assets: Path | None) -> dict:
    """The result with the measures of its checkpoint as it lies on the disk, written to its file."""
    name, profile, seed = result["name"], result["profile"], result["seed"]
    encoder = load_encoder(name, data.name, profile, seed=seed, assets=assets)
    measures, protocol = _measures(encoder, data, name)
    untrained = measures
    if result["recipe"]["method"] is not None:
        untrained = untrained_measures(recipe(name, profile), data, profile, seed, assets)
    result = result | {"measures": measures, "untrained": untrained, "protocol": protocol}
    write_text(files(name, data.name, profile, seed, assets).result,
               json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return result


def _measures(encoder: nn.Module, data: Dataset, name: str) -> tuple[dict[str, float], dict[str, str]]:
    report = evaluate(encoder, data, name=name)
    return {k: round(float(v), 3) for k, v in report.measures.items()}, dict(report.protocol)


def untrained_measures(settings: Recipe, data: Dataset, profile: str, seed: int,
                       assets: Path | None = None) -> dict[str, float]:
    """The measures of the recipe's encoder before training: read from the baseline's own run where it is the same
    encoder, seed and source of the same data set, measured now otherwise."""
    for result in results(data.name, profile, assets):
        known = (result["recipe"]["method"], result["recipe"]["encoder"], result["seed"], result["source"])
        if known == (None, settings.encoder, seed, data.source):
            return result["measures"]
    return _measures(build_encoder(settings, seed), data, "untrained")[0]


def results(data: str, profile: str, assets: Path | None = None) -> list[dict]:
    """Every result on a data set in a profile, by name."""
    folder = files("", data, profile, assets=assets).result.parent
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def load_result(name: str, data: str = "cifar10", profile: str = "laptop", *, assets: Path | None = None) -> dict:
    """The result of a run. Raises FileNotFoundError where there is none, with the command that makes it."""
    path = files(name, data, profile, assets=assets).result
    if not path.exists():
        raise FileNotFoundError(f"there is no result {path}: make it with "
                                f"`python -m course_lib run {name} --data {data} --profile {profile}`")
    return json.loads(path.read_text(encoding="utf-8"))


def versions() -> dict[str, str]:
    """What computed the numbers: library versions, Python and the processor."""
    names = ("torch", "torchvision", "course_lib")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return {**{name: metadata.version(name) for name in names}, "python": platform.python_version(), "machine": device,
            "threads": str(torch.get_num_threads())}


def thin(history: History) -> dict[str, list[float]]:
    """What was logged, at up to `CURVE_POINTS` evenly spaced steps: each value the mean of the steps since the last."""
    logs = history.logs
    edges = sorted({round(i * len(logs) / CURVE_POINTS) for i in range(CURVE_POINTS + 1)})
    pairs = list(itertools.pairwise(edges))
    curve = {"epoch": [round(logs[b - 1]["epoch"], 4) for _, b in pairs]}
    for key in [k for k in (logs[0] if logs else ()) if k not in ("step", "epoch", "lr")]:
        curve[key] = [round(sum(log[key] for log in logs[a:b]) / (b - a), 5) for a, b in pairs]
    return curve


def load_history(name: str, data: str = "cifar10", profile: str = "laptop", *, assets: Path | None = None) -> History:
    """What a run logged, thinned as `thin` does."""
    result = load_result(name, data, profile, assets=assets)
    logs = [dict(zip(result["curve"], point, strict=True)) for point in zip(*result["curve"].values(), strict=True)]
    return History(logs, result["seconds"], result["pictures_seen"])


def save_checkpoint(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write weights as safetensors, floats as float16, atomically."""
    def halve(v: Tensor) -> Tensor:
        return (v.half() if v.is_floating_point() else v).detach().cpu().contiguous().clone()

    save_tensors(path, {k: halve(v) for k, v in state.items()})


def load_weights(module: nn.Module, path: str | Path, ignore: tuple[str, ...] = ()) -> None:
    """Fill a module from a safetensors file, float16 widened to the module's own dtype.

    ignore: beginnings of the names that the file may lack.
    Raises FileNotFoundError where there is no file, ValueError where it is cut short or of another architecture.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not Path(path).exists():
        raise FileNotFoundError(f"there is no checkpoint {path}: train it with `python -m course_lib run`")
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}): fetch it again") from error
    own = module.state_dict()
    wrong = [k for k in own if k in state and state[k].shape != own[k].shape]
    missing = [k for k in own if k not in state and not k.startswith(ignore)]
    extra = [k for k in state if k not in own]
    if wrong or missing or extra:
        why = (f"{wrong[0]} is {list(state[wrong[0]].shape)} there and {list(own[wrong[0]].shape)} here" if wrong else
               f"it lacks {missing[0]}" if missing else f"it has {extra[0]}, which this one lacks")
        raise ValueError(f"{path} is the checkpoint of another architecture than this {type(module).__name__}: {why}; "
                         "build the one that was trained")
    module.load_state_dict(state, strict=False)


def load_encoder(name: str, data: str = "cifar10", profile: str = "laptop", *, seed: int = 0,
                 assets: Path | None = None) -> nn.Module:
    """The shipped encoder of a run, in eval mode. What has no checkpoint by nature (raw pixels) is just built."""
    encoder = build_encoder(recipe(name, profile), seed)
    if encoder.state_dict():
        load_weights(encoder, files(name, data, profile, assets=assets).checkpoint)
    return encoder.eval()


def load_method(name: str, data: str = "cifar10", profile: str = "laptop", *, assets: Path | None = None) -> Method:
    """The shipped method of a run with its heads, in eval mode. A teacher is not shipped: it stays as it was built."""
    method = build_method(recipe(name, profile))
    where = files(name, data, profile, assets=assets)
    load_weights(method.encoder, where.checkpoint)
    load_weights(method, where.heads, ignore=("encoder.", "teacher."))
    return method.eval()


def train_or_load(name: str, data: Dataset, profile: str, *, train: bool = False, seed: int = 0,
                  assets: Path | None = None) -> tuple[Method, History]:
    """The method of a recipe, ready to be looked at, and the history of its training: as shipped, or trained now.

    It trains where `train` asks for it, in the smoke profile, and where no checkpoint of this data set is shipped.
    """
    where = files(name, data.name, profile, seed, assets)
    if train or profile == "smoke" or not where.checkpoint.exists():
        method, history = train_recipe(recipe(name, profile), data, seed)
        return method.eval(), history
    return (load_method(name, data.name, profile, assets=assets),
            load_history(name, data.name, profile, assets=assets))
