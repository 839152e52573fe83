"""`setup`: where things run and how much is done, found out once and said in one line."""

from __future__ import annotations

import dataclasses
import os
import random

import torch

from course_lib.devices import pick_device

PROFILES = {
    "smoke": "seconds, for tests",
    "laptop": "a small encoder, at most 10 minutes of training a method on two cores",
    "gpu": "a ResNet-18, at most 20 minutes on a large GPU",
}


@dataclasses.dataclass(frozen=True)
class Context:
    """What `setup` found.

    device: where tensors live. profile: "smoke", "laptop" or "gpu", and `why` it was chosen. data: the data set this
    profile works on. limit: how many training pictures to load; None is all.
    """

    device: torch.device
    profile: str
    seed: int
    threads: int
    data: str
    limit: int | None
    why: str


def find_profile() -> tuple[str, str]:
    """The profile and why: `COURSE_PROFILE` where it is set, "gpu" where there is a CUDA GPU, else "laptop"."""
    if name := os.environ.get("COURSE_PROFILE"):
        if name not in PROFILES:
            raise ValueError(f"COURSE_PROFILE must be one of {', '.join(PROFILES)}, got {name!r}")
        return name, "COURSE_PROFILE says so"
    if torch.cuda.is_available():
        return "gpu", "there is a CUDA GPU"
    return "laptop", "there is no CUDA GPU"


def setup(seed: int = 0, data: str = "cifar10") -> Context:
    """Pick device and profile, seed Python, NumPy and torch, print one line, and return what was found.

    data: what the notebook works on; the smoke profile takes Toybox. Nothing is downloaded here, but the line says so
        where a public set is not on this machine yet: `load(ctx.data, fallback="toybox")` downloads it or takes Toybox.
    """
    import numpy as np

    from course_lib.data.public import PUBLIC, whereabouts

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    profile, why = find_profile()
    smoke = profile == "smoke"
    data = "toybox" if smoke else data
    context = Context(pick_device(), profile, seed, torch.get_num_threads(), data, 1000 if smoke else None, why)
    missing = data in PUBLIC and (where := whereabouts(data)).startswith("not here")
    print(f"profile {profile} ({why}) · device {context.device} · {context.threads} threads · seed {seed} · "
          f"torch {torch.__version__}" + (f" · {data} is {where}" if missing else ""))
    return context
