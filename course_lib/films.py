"""What do films teach that other clips do not? Short trainings on each, and how well a mask is followed after them.

It leaves `assets/results/toybox-<profile>/films/seed<seed>.json`: for each kind of clips, and for two networks that
were not trained, J of every film, with a window and without. So any two are compared over all films and seeds, as
`evaluate.paired_scores` does. The trainings take minutes, which is why a notebook reads these files.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_lib import progress
from course_lib.data import toybox
from course_lib.data.toybox import Clips
from course_lib.evaluate import region_similarity
from course_lib.files import claim, write_text
from course_lib.methods import Method
from course_lib.parts.propagation import propagate
from course_lib.recipes import build_method, recipe
from course_lib.runs import ASSETS, Run, as_json, read_result
from course_lib.train import fit

SEEDS = range(3)
UNTRAINED, FITTED = "untrained", "untrained, statistics fitted"
TEMPERATURES = (0, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.07, 0.2)
WINDOWS = (8, 100)  # radius in pixels: the usual one, and the whole frame
# profile -> how many films are trained on, for how many epochs, are for choosing temperatures, and are measured
SIZES = {"smoke": (64, 1, 2, 6), "laptop": (320, 5, 32, 100)}
CHOOSING, MEASURED = 3, 2  # seeds of the Toybox's films; those of the trainings have 0


def strangers(clips: Clips) -> Clips:
    """Clips whose frames are all of different films: frame t is still the t-th of its own. Masks do not fit them."""
    n, frames = clips.x.shape[:2]
    if n < frames:
        raise ValueError(f"clips of {frames} frames of different films need at least as many films, got {n}: "
                         "take more")
    film = (torch.arange(n)[:, None] + n // frames * torch.arange(frames)) % n
    return dataclasses.replace(clips, x=clips.x[film, torch.arange(frames)])


# What a training may see. Each kind is made from the same films, and has as many clips and frames.
KINDS: dict[str, Callable[[Clips], Clips]] = {
    "films": lambda clips: clips,
    "standing still": lambda clips: dataclasses.replace(clips, x=clips.x[:, :1].expand_as(clips.x)),
    "frames of many films": strangers,
}


@dataclasses.dataclass(frozen=True)
class Followed:
    """How well masks are followed by the networks of one name, one a seed.

    loss: the last of each training; empty where nothing was trained. temperatures: radius -> the best of
    `TEMPERATURES` for each seed, on films for choosing. curves: radius -> mean J on those at each temperature,
    `[seeds, temperatures]`. J: radius -> of the other films, `[seeds, films]`, each network at its own temperature.
    J_usual: the same at the temperature of training.
    """

    loss: list[float]
    temperatures: dict[int, list[float]]
    curves: dict[int, Float[Tensor, "seeds temperatures"]]
    J: dict[int, Float[Tensor, "seeds films"]]
    J_usual: dict[int, Float[Tensor, "seeds films"]]


def followed(profile: str, *, assets: Path = ASSETS) -> dict[str, Followed]:
    """Kind of clips, or floor -> how well its networks follow, of every seed that is there.

    It reads what `python -m course_lib films` has left; in the smoke profile it is made now, with two seeds.
    Raises FileNotFoundError where there is nothing, with the command that makes it.
    """
    if profile == "smoke":
        found = [dict(networks(profile, seed)) for seed in range(2)]
    else:
        files = sorted(path(profile, 0, assets).parent.glob("seed*.json"))
        found = [read_result(file)["networks"] for file in files]
    found = [one for one in found if set(one) == {UNTRAINED, FITTED, *KINDS}]  # whole, and not killed on the way
    if not found:
        raise FileNotFoundError(f"there is no {path(profile, 0, assets)}: make it with `python -m course_lib films "
                                f"--profile {profile}`")
    return {name: _joined([one[name] for one in found]) for name in (UNTRAINED, FITTED, *KINDS)}


def path(profile: str, seed: int, assets: Path = ASSETS) -> Path:
    """Where the networks of a seed are."""
    return Run("video_color", "toybox", profile, seed, assets).result_path.parent / "films" / f"seed{seed}.json"


def measure(profile: str, seed: int, *, assets: Path = ASSETS) -> None:
    """Train and measure what a seed lacks, and write it after each network. A file of other settings begins anew.

    Raises ValueError where the same is already going on, or for a profile without these trainings.
    """
    if profile not in SIZES:
        raise ValueError(f"these trainings are made in {', '.join(SIZES)}, got {profile}")
    header = {"data": "toybox", "profile": profile, "seed": seed, "films": SIZES[profile], "windows": WINDOWS,
              "temperatures": TEMPERATURES, "recipe": dataclasses.asdict(recipe("video_color", profile))}
    header = json.loads(json.dumps(header))  # as it is read again
    file = path(profile, seed, assets)
    with claim(assets / "runs" / f"films-toybox-{profile}-seed{seed}"):
        there = read_result(file) if file.exists() else {}
        known = there.pop("networks", {})
        if there != header:
            known = {}
        for name, found in networks(profile, seed, skip=known):
            known[name] = found
            write_text(file, as_json({**header, "networks": known}))


def networks(profile: str, seed: int, skip: Any = ()) -> Iterator[tuple[str, dict]]:
    """Each network's name and how well it follows; all of a seed start from the same weights."""
    n, epochs, choosing, measured = SIZES[profile]
    films = toybox.clips(n)
    others = toybox.clips(choosing, seed=CHOOSING), toybox.clips(measured, seed=MEASURED)
    for name in (UNTRAINED, FITTED, *KINDS):
        if name in skip:
            continue
        settings, loss = recipe("video_color", profile), []
        method = build_method(settings, seed=seed).eval()
        if name == FITTED:
            method = statistics_fitted(method, films)
        if name in KINDS:
            log = fit(method, KINDS[name](films), seed=seed, **{**settings.fit, "epochs": epochs})
            loss = [round(log["loss"][-1], 4)]
        yield name, {"loss": loss, **_follows(method.cpu().eval(), *others)}


def statistics_fitted(method: Method, clips: Clips) -> Method:
    """The same network, its BatchNorm statistics taken from these films: forward passes alone, nothing is trained."""
    method = copy.deepcopy(method).train()
    for norm in method.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over batches
    with torch.no_grad():
        for x in clips.x.split(32):
            method.embed(x.flatten(0, 1))
    return method.eval()


def J_at(embed: Callable[[Tensor], Tensor], clips: Clips, temperatures: tuple[float, ...], **options
         ) -> Float[Tensor, "temperatures n frames"]:
    """J of every film and of every frame but the first, at each temperature: options are those of `propagate`.

    At temperature 0 each place copies from its best place alone.
    """
    found = []
    for start in progress.bar(range(0, len(clips), 32), desc="masks carried", unit="batch", delay=2):
        part = clips[start:start + 32]
        with torch.no_grad():
            z = embed(part.x.flatten(0, 1))  # once for all temperatures
        found.append(torch.stack([region_similarity(propagate(
            lambda _, z=z: z, part.x, part.masks[:, 0], **_pointing(t), **options)[:, 1:], part.masks[:, 1:])
            for t in temperatures]))
    return torch.cat(found, 1)


def _pointing(temperature: float) -> dict[str, float]:
    return {"temperature": temperature} if temperature else {"topk": 1}


def _follows(method: Method, choosing: Clips, measured: Clips) -> dict:
    """Per radius: mean J at each temperature on films for choosing, the best of these, and J of the other films."""
    found = {}
    for radius in WINDOWS:
        curve = J_at(method.embed, choosing, TEMPERATURES, radius=radius).mean((1, 2)).tolist()
        own = TEMPERATURES[curve.index(max(curve))]
        at = J_at(method.embed, measured, (own, method.temperature), radius=radius).mean(2).tolist()
        found[str(radius)] = {"curve": _short(curve), "temperature": own, "J": _short(at[0]), "J_usual": _short(at[1])}
    return {"windows": found}


def _short(values: list[float]) -> list[float]:
    return [round(v, 4) for v in values]


def _joined(seeds: list[dict]) -> Followed:
    def each(key: str) -> dict[int, list]:
        return {radius: [one["windows"][str(radius)][key] for one in seeds] for radius in WINDOWS}

    def tensors(key: str) -> dict[int, Tensor]:
        return {radius: torch.tensor(rows) for radius, rows in each(key).items()}

    return Followed([loss for one in seeds for loss in one["loss"]], each("temperature"), tensors("curve"),
                    tensors("J"), tensors("J_usual"))
