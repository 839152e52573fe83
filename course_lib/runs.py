"""A run: train what a recipe says, measure it, keep the numbers and the weights, and read them again.

A run leaves `assets/results/<data>-<profile>/<name>-seed<seed>.json` and, under `assets/checkpoints/` in the same way,
the encoder and what else the method trained (projector, teacher, …: the heads), both as safetensors in float16. The
result names both files with their hashes. The measures are those of the weights as they are shipped, rounded to
float16, so whoever loads them finds the same. With them it holds, for each picture of val and of test, whether kNN and
probe were right, so that any two runs are compared on the same pictures: `compare`.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import itertools
import json
import platform
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor, nn

from course_lib import methods
from course_lib.context import PROFILES
from course_lib.data.types import Dataset
from course_lib.devices import pick_device, repeatable
from course_lib.evaluate import Difference, evaluate, evaluate_clips, paired
from course_lib.files import claim, write_all, write_text
from course_lib.methods.base import Method
from course_lib.recipes import Settings, build_encoder, build_method, check_name, recipe, ships
from course_lib.train import History, describe, fit

ASSETS = Path(__file__).parents[1] / "assets"
CURVE_POINTS = 200
PRETEXT_PICTURES = 4096  # how many of the pictures that were held out a method is tried on


@dataclasses.dataclass(frozen=True)
class Run:
    """A recipe on a data set in a profile, with a seed: trained and measured, or still to be.

    data: a data set's name, as in `course_lib.load`. assets: where results and checkpoints are, the course's own by
    default.
    """

    name: str
    data: str = "cifar10"
    profile: str = "laptop"
    seed: int = 0
    assets: Path = ASSETS

    def __post_init__(self):
        recipe(self.name, self.profile)  # a wrong name is told at once

    # ---- its files

    @property
    def folder(self) -> str:
        """The name of its folder. Names of data sets such as `folder:PATH` become names of folders."""
        return re.sub(r"[:/\\]", "_", f"{self.data}-{self.profile}")

    @property
    def result_path(self) -> Path:
        return self.assets / "results" / self.folder / f"{self.name}-seed{self.seed}.json"

    @property
    def encoder_path(self) -> Path:
        return self.assets / "checkpoints" / self.folder / f"{self.name}-seed{self.seed}.safetensors"

    @property
    def heads_path(self) -> Path:
        return self.assets / "checkpoints" / self.folder / f"{self.name}-seed{self.seed}-heads.safetensors"

    @property
    def resume_path(self) -> Path:
        """Where it saves itself while it trains; gone when it is measured."""
        return self.assets / "runs" / f"{self.name}-{self.folder}-seed{self.seed}.pt"

    # ---- what it left

    @property
    def exists(self) -> bool:
        """Whether there is a result."""
        return self.result_path.exists()

    def has(self, *parts: str) -> bool:
        """Whether these weights are kept, "encoder" and "heads"."""
        return self.exists and all(part in self.result["files"] for part in parts)

    @property
    def result(self) -> dict:
        """What it measured. Raises FileNotFoundError where there is nothing, with the command that makes it."""
        if not self.exists:
            raise FileNotFoundError(
                f"there is no result {self.result_path}: make it with `python -m course_lib run {self.name} "
                f"--data {self.data} --profile {self.profile} --seed {self.seed}`")
        return read_result(self.result_path)

    @property
    def settings(self) -> Settings:
        """With what it was trained, as its result says; without a result, what its recipe says."""
        return Settings(**self.result["recipe"]) if self.exists else recipe(self.name, self.profile)

    @property
    def history(self) -> History:
        """What its training logged, thinned as `thin` does."""
        result = self.result
        points = zip(*result["curve"].values(), strict=True)
        logs = [{key: v for key, v in zip(result["curve"], point, strict=True) if v is not None} for point in points]
        return History(logs, result["seconds"], result["pictures_seen"])

    def encoder(self) -> nn.Module:
        """Its encoder as it was measured, in eval mode, on the device that training would take.

        An untrained encoder is built anew, which gives the same. Raises as `load_weights`, and FileNotFoundError where
        the weights of a trained one are not kept.
        """
        encoder = build_encoder(self.settings, self.seed)
        if self.settings.trained:
            self._fill(encoder, "encoder")
        return encoder.to(pick_device()).eval()

    def method(self) -> Method:
        """Its method as it was when training ended, teacher and heads and all, in eval mode. Raises as `encoder`."""
        method = build_method(self.settings, seed=self.seed)
        self._fill(method.encoder, "encoder")
        self._fill(method, "heads", ignore=("encoder.", *method.not_shipped))
        return method.to(pick_device()).eval()

    def _fill(self, module: nn.Module, part: str, ignore: tuple[str, ...] = ()) -> None:
        file = self.result["files"].get(part)
        if file is None:
            kept = ", ".join(self.result["files"]) or "its result alone"
            raise FileNotFoundError(f"the {part} of {self.name} on {self.data} is not kept, only {kept}: train it anew "
                                    f"with `python -m course_lib run {self.name} --data {self.data} --profile "
                                    f"{self.profile} --seed {self.seed}`")
        load_weights(module, self.assets / file["path"], ignore=ignore, sha256=file["sha256"])

    # ---- what it does

    def train(self, data: Dataset) -> dict:
        """Train, measure, write the files, and return the result. A run that was killed goes on where it stopped.

        Nothing that was there is touched before everything new is trained, measured and on the disk.
        Raises what `fit` and `evaluate` raise, and ValueError where the same run is already going on.
        """
        with claim(self.resume_path):
            settings, history, pretext, weights = recipe(self.name, self.profile), History(), {}, {}
            if settings.trained:
                method, history, settings = train_recipe(settings, data, self.seed, self.resume_path)
                weights = {"encoder": halved(method.encoder.state_dict()), "heads": halved(heads(method))}
                method = self._as_shipped(settings, weights, method)
                encoder = method.encoder
                pretext = held_out(method, data, settings.fit["batch_size"], self.seed)
            else:
                encoder = build_encoder(settings, self.seed).to(pick_device())
            result = {"name": self.name, "data": self.data, "source": data.source, "profile": self.profile,
                      "seed": self.seed, "recipe": dataclasses.asdict(settings), "versions": versions(),
                      "seconds": round(history.seconds, 1), "pictures_seen": history.pictures,
                      **self._measures(data, encoder, settings), "pretext": pretext, "curve": thin(history)}
            self._keep(result, weights)
            self.resume_path.unlink(missing_ok=True)
        return self.result

    def _as_shipped(self, settings: Settings, weights: Mapping[str, Mapping[str, Tensor]], trained: Method) -> Method:
        """The method with its weights as they will be read again: what is measured is what is shipped. What is not
        shipped, such as a memory bank, is taken as training left it.

        Raises FloatingPointError where a number is finite in float32 alone.
        """
        method = build_method(settings, seed=self.seed)
        shipped = {f"encoder.{name}": value for name, value in weights["encoder"].items()} | weights["heads"]
        whole = trained.state_dict()
        for name, value in shipped.items():
            if value.is_floating_point() and (value.isnan() | (value.isinf() & whole[name].cpu().isfinite())).any():
                raise FloatingPointError(f"{self.name}: {name} is not finite in float16, in which weights are shipped, "
                                         "so nothing is written: a smaller learning rate or more weight decay keeps "
                                         "it below 65,504")
        method.load_state_dict({**whole, **shipped})
        return method.to(pick_device()).eval()

    def measure(self, data: Dataset) -> dict:
        """Measure its checkpoint anew, as after a change to the evaluator; nothing is trained.

        Raises ValueError for another copy of the data than it was trained and measured on.
        """
        result = self.result
        if data.source != result["source"]:
            raise ValueError(f"{self.name} was measured on {result['source'] or self.data}, and these pictures come "
                             f"from {data.source or data.name}: give the same copy, or run it anew")
        if saw_val(result):
            result["saw_val"] = True  # measuring anew gives it bits, and changes nothing about its training
        result |= self._measures(data, self.encoder(), self.settings)
        write_text(self.result_path, as_json(result))
        return result

    def _measures(self, data: Dataset, encoder: nn.Module, settings: Settings) -> dict:
        """Measures and protocol of an encoder and who was right, and the measures of the same one untrained: read from
        a baseline's run of the same architecture, seed and pictures, or measured now."""
        same = {"architecture": architecture(encoder), "seed": self.seed, "source": data.source}
        made = {"architecture": same["architecture"]}
        if data.test.y is None:  # nothing to measure without classes
            return {**made, "measures": {}, "untrained": {}, "protocol": {}, "right": {}}
        report = evaluate(encoder, data, name=self.name)
        untrained = measures = rounded(report.measures)
        if settings.trained:
            known = floor(same, results(self.data, self.profile, self.assets))
            untrained = known["measures"] if known else rounded(
                evaluate(build_encoder(settings, self.seed).to(pick_device()), data).measures)
        return {**made, "measures": measures, "untrained": untrained, "protocol": dict(report.protocol),
                "right": {key: packed(value) for key, value in report.right.items()}}

    def _keep(self, result: dict, weights: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Write weights and result, all or none, so that a full disk leaves what was there."""
        from safetensors.torch import save

        paths = {"encoder": self.encoder_path, "heads": self.heads_path}
        contents = {paths[part]: save(tensors) for part, tensors in weights.items()}
        kept = {part: {"path": paths[part].relative_to(self.assets).as_posix(),
                       "sha256": hashlib.sha256(contents[paths[part]]).hexdigest()} for part in weights}
        write_all({**contents, self.result_path: as_json({**result, "files": kept}).encode()})


def train_recipe(settings: Settings, data: Dataset, seed: int = 0, resume: Path | None = None
                 ) -> tuple[Method, History, Settings]:
    """The method of a recipe, trained on a data set, what its training logged, and with which settings: those given,
    with the options that came from the data, and a batch of at most all pictures there are."""
    images = data.seen_by(getattr(methods, settings.method).needs)
    method = build_method(settings, images, seed)
    options = {key: value for key, value in method.built_with.items() if key != "views"}
    settings = dataclasses.replace(settings, options=options, fit={
        **settings.fit, "batch_size": min(settings.fit["batch_size"], len(images))})
    json.dumps(options)  # what a result file cannot hold is told before hours of work
    return method, fit(method, images, seed=seed, resume=resume, **settings.fit), settings


@torch.no_grad()
def held_out(method: Method, data: Dataset, batch_size: int, seed: int = 0) -> dict[str, float]:
    """How well a method does what it was trained for, on pictures that it was not trained on: the means of its loss and
    of what else it logs, in eval mode. Of a method that follows things through clips also `J` and `F`, and those of
    copying the first mask (see `evaluate_clips`). A method that remembers pictures is tried on those that it knows."""
    modes = {module: module.training for module in method.modules()}
    method.eval()
    images = data.seen_by(method.needs) if method.remembers_pictures else data.held_out(method.needs)
    images = images.to(next(method.parameters()).device)
    logs = []
    with repeatable(seed):
        some = torch.randperm(len(images))[:PRETEXT_PICTURES]
        size = min(batch_size, len(some))
        for index in some[:len(some) // size * size].split(size):
            batch = images.batch(index)
            logs.append(method(batch if method.remembers_pictures else dataclasses.replace(batch, index=None)))
    means = {key: torch.stack([log[key] for log in logs]).mean().item() for key in logs[0]}
    if "clips" in method.needs:
        means |= {key: value for key, value in evaluate_clips(method.track, images).items() if isinstance(value, float)}
    for module, mode in modes.items():
        module.training = mode
    return rounded(means, 4)


def rounded(measures: Mapping[str, float], digits: int = 3) -> dict[str, float]:
    """Measures as a result file holds them."""
    return {name: round(float(value), digits) for name, value in measures.items()}


def as_json(result: Mapping[str, Any]) -> str:
    """A result as its file's text."""
    return json.dumps(result, indent=1, ensure_ascii=False) + "\n"


def read_result(path: Path) -> dict:
    """A result file. Raises ValueError with its path where it is broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no whole result ({error}): fetch it again or run it anew") from error


def results(data: str = "cifar10", profile: str = "laptop", assets: Path = ASSETS) -> list[dict]:
    """Every result on a data set in a profile, by name and seed."""
    check_name(profile, PROFILES, "profile")
    folder = Run("raw_pixels", data, profile, assets=assets).result_path.parent
    return [read_result(path) for path in sorted(folder.glob("*.json"))]


def floor(result: Mapping[str, Any], found: list[dict]) -> dict | None:
    """The result, among those found, of the same architecture, seed and pictures, untrained; None where there is none.
    """
    same = ("architecture", "seed", "source")
    known = [r for r in found if not r["recipe"]["fit"] and all(r.get(key) == result[key] for key in same)]
    return known[0] if known else None


def saw_val(result: Mapping[str, Any]) -> bool:
    """Whether a run was trained before val was set apart, and so on val's pictures too: such a result did not say who
    was right. Training with labels has never taken those of val."""
    if not result["recipe"]["fit"] or "labels" in getattr(methods, result["recipe"]["method"]).needs:
        return False
    return "right" not in result or result.get("saw_val", False)


def packed(right: Bool[Tensor, " n"]) -> dict[str, Any]:
    """Bools as a result file holds them: eight in a byte, as base64, with their number."""
    return {"pictures": len(right), "bits": base64.b64encode(np.packbits(right.numpy()).tobytes()).decode("ascii")}


def unpacked(stored: Mapping[str, Any]) -> Bool[Tensor, " n"]:
    """What `packed` was given."""
    raw = np.frombuffer(base64.b64decode(stored["bits"]), dtype=np.uint8)
    return torch.from_numpy(np.unpackbits(raw, count=stored["pictures"]).astype(bool))


def right(name: str, *, by: str = "linear", on: str = "val", data: str = "cifar10", profile: str = "laptop",
          assets: Path = ASSETS) -> Bool[Tensor, "seeds n"]:
    """For each picture whether it was classified rightly, one row a seed, of every seed that there is.

    by: "linear" for the probe, "knn". on: "val" for choosing and comparing, "test" for what is reported.

    Raises FileNotFoundError where there is no result, ValueError where one does not say who was right.
    """
    return bits(measured(name, by, on, data, profile, assets), by, on)


def bits(found: list[dict], by: str, on: str) -> Bool[Tensor, "seeds n"]:
    """Who was right, of results that say so, one row a result."""
    return torch.stack([unpacked(r["right"][f"{by}_{on}"]) for r in found])


def measured(name: str, by: str, on: str, data: str, profile: str, assets: Path) -> list[dict]:
    """The results of a recipe with who was right, by seed. Raises as `right`."""
    check_name(by, ("linear", "knn"), "measure")
    check_name(on, ("val", "test"), "part")
    first = Run(name, data, profile, assets=assets)
    found = sorted((r for r in results(data, profile, assets) if r["name"] == name), key=lambda r: r["seed"])
    for r in found or [first.result]:  # which says how it is made, where there is none
        if f"{by}_{on}" not in r.get("right", {}):
            raise ValueError(f"the result of {name} on {data}, seed {r['seed']}, does not say which pictures were "
                             f"classified rightly: measure it anew with `python -m course_lib measure {name} --data "
                             f"{data} --profile {profile}`")
    if len(kinds := {(r["source"], r["right"][f"{by}_{on}"]["pictures"]) for r in found}) > 1:
        raise ValueError(f"the seeds of {name} were measured on different pictures, {sorted(kinds)}: run them anew on "
                         "one copy of the data")
    return found


def compare(a: str, b: str, *, by: str = "linear", on: str = "val", data: str = "cifar10", profile: str = "laptop",
            assets: Path = ASSETS) -> Difference:
    """How much more often recipe a is right than recipe b, on the same pictures, over all seeds of both: `paired`.

    Raises as `right`, and ValueError where both were measured on different copies of the data.
    """
    of_a, of_b = (measured(name, by, on, data, profile, assets) for name in (a, b))
    if of_a[0]["source"] != of_b[0]["source"]:
        raise ValueError(f"{a} and {b} must be measured on the same pictures, got those of {of_a[0]['source']} and "
                         f"{of_b[0]['source']}: run both on one copy of the data")
    return paired(bits(of_a, by, on), bits(of_b, by, on))


def architecture(encoder: nn.Module) -> str:
    """A short name for the classes and shapes in an encoder, and for the options of the course's own classes: equal for
    two that are built alike, whatever torch keeps in its modules."""
    modules = dict(encoder.named_modules())
    ours = {place for place, module in modules.items() if type(module).__module__.startswith("course_lib.")}
    told = {key: value for key, value in describe(encoder).items()
            if key.startswith("the shape of ") or key in modules or key.rpartition(".")[0] in ours}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def versions() -> dict[str, str]:
    """What computed the numbers: library versions, Python and the processor."""
    names = ("torch", "torchvision", "course_lib")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return {**{name: metadata.version(name) for name in names}, "python": platform.python_version(), "machine": device,
            "threads": str(torch.get_num_threads())}


def thin(history: History) -> dict[str, list[float | None]]:
    """What was logged, at up to `CURVE_POINTS` evenly spaced steps: each value the mean of the steps since the last,
    None where none of them logged it."""
    logs = history.logs
    edges = sorted({round(i * len(logs) / CURVE_POINTS) for i in range(CURVE_POINTS + 1)})
    pairs = list(itertools.pairwise(edges))
    curve: dict[str, list] = {"epoch": [round(logs[b - 1]["epoch"], 4) for _, b in pairs]}
    for key in dict.fromkeys(key for log in logs for key in log if key not in ("step", "epoch", "lr")):
        parts = [[log[key] for log in logs[a:b] if key in log] for a, b in pairs]
        curve[key] = [round(sum(part) / len(part), 5) if part else None for part in parts]
    return curve


def heads(method: Method) -> dict[str, Tensor]:
    """What a method remembers besides its encoder, without what it can do without."""
    return {k: v for k, v in method.state_dict().items() if not k.startswith(("encoder.", *method.not_shipped))}


def halved(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as they are shipped: floats as float16, on the CPU."""
    return {k: (v.half() if v.is_floating_point() else v).detach().cpu().contiguous().clone() for k, v in state.items()}


def load_weights(module: nn.Module, path: str | Path, ignore: tuple[str, ...] = (), sha256: str | None = None) -> None:
    """Fill a module from a safetensors file, float16 widened to the module's own dtype.

    ignore: beginnings of the names that the file may lack. sha256: of the whole file, where it is known.
    Raises FileNotFoundError where there is no file, ValueError where it is cut short, altered or of another
    architecture.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no checkpoint {path}: train it with `python -m course_lib run`")
    content = path.read_bytes()
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{path} is not the file that its result was measured from (its sha256 differs): fetch it "
                         "again")
    try:
        state = load(content)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}): fetch it again") from error
    own = module.state_dict()
    missing = [k for k in own if k not in state and not k.startswith(ignore)]
    extra = [k for k in state if k not in own]
    wrong = [k for k in own if k in state and state[k].shape != own[k].shape]
    kinds = [k for k in own if k in state and state[k].is_floating_point() != own[k].is_floating_point()]
    if wrong or missing or extra or kinds:
        why = (f"{wrong[0]} is {list(state[wrong[0]].shape)} there and {list(own[wrong[0]].shape)} here" if wrong else
               f"it lacks {missing[0]}" if missing else f"it has {extra[0]}, which this one lacks" if extra else
               f"{kinds[0]} is {state[kinds[0]].dtype} there and {own[kinds[0]].dtype} here")
        raise ValueError(f"{path} is the checkpoint of another architecture than this {type(module).__name__}: {why}; "
                         "build the one that was trained")
    module.load_state_dict(state, strict=False)


def train_or_load(name: str, data: Dataset, profile: str, *, train: bool = False, seed: int = 0,
                  assets: Path = ASSETS) -> tuple[Method, History]:
    """The method of a recipe, ready to be looked at, and the history of its training: as shipped, or trained now.

    It trains where `train` asks for it, in the smoke profile, and where no weights of it on this data set are kept.
    """
    run = Run(name, data.name, profile, seed, assets)
    if not run.settings.trained:
        raise ValueError(f"{name} is measured as it is and has nothing to train: take Run({name!r}, …).encoder()")
    if train or profile == "smoke" or not run.has("encoder", "heads"):
        method, history, _ = train_recipe(recipe(name, profile), data, seed)
        return method.eval(), history
    return run.method(), run.history


def encoder_for(name: str, data: Dataset, profile: str, *, train: bool = False, seed: int = 0, assets: Path = ASSETS
                ) -> tuple[nn.Module, History]:
    """As `train_or_load`, where the encoder is all that is wanted: heads need not be shipped, nor an untrained one."""
    run = Run(name, data.name, profile, seed, assets)
    if not run.settings.trained:
        return build_encoder(run.settings, seed).to(pick_device()).eval(), History()
    if train or profile == "smoke" or not run.has("encoder"):
        method, history = train_or_load(name, data, profile, train=True, seed=seed, assets=assets)
        return method.encoder, history
    return run.encoder(), run.history


def prune(assets: Path = ASSETS) -> list[Path]:
    """Delete the weights that the course does not ship, and return their files; results stay, and say what is kept.

    What is shipped is what `recipes.ships` names, of the first seed. Files of weights that no result names go too.
    """
    kept, results = set(), {path: read_result(path) for path in sorted((assets / "results").glob("*/*.json"))}
    wants = {path: ships(result["name"]) if result["seed"] == 0 else () for path, result in results.items()}
    for path, result in results.items():  # nothing is touched before all of them are read and known
        wanted = wants[path]
        files = {part: file for part, file in result["files"].items() if part in wanted}
        if files != result["files"]:
            write_text(path, as_json({**result, "files": files}))
        kept |= {assets / file["path"] for file in files.values()}
    gone = [path for path in sorted((assets / "checkpoints").glob("*/*.safetensors")) if path not in kept]
    for path in gone:
        path.unlink()
    return gone
