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
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor, nn

from course_lib.data.types import Dataset
from course_lib.evaluate import evaluate
from course_lib.files import save_tensors, write_atomically
from course_lib.methods.base import Method
from course_lib.recipes import Recipe, build_encoder, build_method, recipe, training_images
from course_lib.train import History, fit

ASSETS = Path(__file__).parents[1] / "assets"
CURVE_POINTS = 200


def run(name: str, data: Dataset, profile: str = "laptop", *, seed: int = 0, assets: Path | None = None,
        resume: Path | None = None) -> dict:
    """Train `name` by its recipe, evaluate it, write result and checkpoint, and return the result.

    resume: a file through which a killed run goes on (see `fit`).
    Raises ValueError for unknown names, and whatever `fit` and `evaluate` raise.
    """
    assets = assets or ASSETS
    settings = recipe(name, profile, data.name)
    encoder, history, method = build_encoder(settings, seed), History(), None
    untrained = None
    if settings.method is not None:
        untrained = untrained_measures(settings, data, profile, seed, assets)
        method = build_method(settings, seed, len(data.classes))
        encoder = method.encoder
        history = fit(method, training_images(method, data), seed=seed, resume=resume, **settings.fit)

    folder = f"{data.name.replace(':', '_').replace('/', '_')}-{profile}"
    checkpoint = assets / "checkpoints" / folder / f"{name}.safetensors"
    result = {"name": name, "data": data.name, "source": data.source, "profile": profile, "seed": seed,
              "recipe": {"method": settings.method, "encoder": settings.encoder, "options": dict(settings.options),
                         "fit": dict(settings.fit)},
              "versions": versions(), "seconds": round(history.seconds, 1), "pictures_seen": history.pictures}
    if encoder.state_dict():
        save_checkpoint(checkpoint, encoder.state_dict())
        load_weights(encoder, checkpoint)
        if method is not None:
            heads = {k: v for k, v in method.state_dict().items() if not k.startswith(("encoder.", "teacher."))}
            save_checkpoint(checkpoint.with_name(f"{name}-heads.safetensors"), heads)
    report = evaluate(encoder, data, name=name)
    measures = {k: round(float(v), 3) for k, v in report.measures.items()}
    result |= {"measures": measures, "untrained": untrained or measures, "protocol": dict(report.protocol),
               "curve": thin(history), "checkpoint": None, "sha256": None}
    if encoder.state_dict():
        result |= {"checkpoint": checkpoint.relative_to(assets).as_posix(),
                   "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest()}
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    write_atomically(assets / "results" / folder / f"{name}.json",
                     lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return result


def untrained_measures(settings: Recipe, data: Dataset, profile: str, seed: int, assets: Path) -> dict[str, float]:
    """The measures of the recipe's encoder before training: read from the baseline's own run where it is the same
    encoder, seed and source of the same data set, measured now otherwise."""
    for result in results(data.name, profile, assets):
        known = (result["recipe"]["method"], result["recipe"]["encoder"], result["seed"], result["source"])
        if known == (None, settings.encoder, seed, data.source):
            return result["measures"]
    report = evaluate(build_encoder(settings, seed), data)
    return {k: round(float(v), 3) for k, v in report.measures.items()}


def results(data: str, profile: str, assets: Path | None = None) -> list[dict]:
    """Every result on a data set in a profile, by name."""
    folder = (assets or ASSETS) / "results" / f"{data}-{profile}"
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def versions() -> dict[str, str]:
    """What computed the numbers: library versions, Python and the processor."""
    names = ("torch", "torchvision", "course_lib")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return {**{name: metadata.version(name) for name in names}, "python": platform.python_version(), "machine": device,
            "threads": str(torch.get_num_threads())}


def thin(history: History) -> dict[str, list[float]]:
    """The logged loss at up to `CURVE_POINTS` evenly spaced steps, each the mean of the steps since the last."""
    logs = history.logs
    edges = sorted({round(i * len(logs) / CURVE_POINTS) for i in range(CURVE_POINTS + 1)})
    pairs = list(itertools.pairwise(edges))
    return {"epoch": [round(logs[b - 1]["epoch"], 4) for _, b in pairs],
            "loss": [round(sum(log["loss"] for log in logs[a:b]) / (b - a), 5) for a, b in pairs]}


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
    encoder = build_encoder(recipe(name, profile, data), seed)
    if encoder.state_dict():
        load_weights(encoder, (assets or ASSETS) / "checkpoints" / f"{data}-{profile}" / f"{name}.safetensors")
    return encoder.eval()


def load_method(name: str, data: str = "cifar10", profile: str = "laptop", *, assets: Path | None = None) -> Method:
    """The shipped method of a run with its heads, in eval mode. A teacher is not shipped: it stays as it was built."""
    method = build_method(recipe(name, profile, data))
    path = (assets or ASSETS) / "checkpoints" / f"{data}-{profile}" / f"{name}.safetensors"
    load_weights(method.encoder, path)
    load_weights(method, path.with_name(f"{name}-heads.safetensors"), ignore=("encoder.", "teacher."))
    return method.eval()


def train_or_load(name: str, data: Dataset, profile: str, *, train: bool = False, seed: int = 0,
                  assets: Path | None = None) -> tuple[Method, History | None]:
    """The method of a recipe, ready to be looked at: shipped weights and None, or trained now and its history.

    It trains where `train` asks for it, in the smoke profile, and where no checkpoint of this data set is shipped.
    """
    folder = (assets or ASSETS) / "checkpoints" / f"{data.name}-{profile}"
    if not train and profile != "smoke" and (folder / f"{name}.safetensors").exists():
        return load_method(name, data.name, profile, assets=assets), None
    settings = recipe(name, profile, data.name)
    method = build_method(settings, seed, len(data.classes))
    history = fit(method, training_images(method, data), seed=seed, **settings.fit)
    return method.eval(), history
