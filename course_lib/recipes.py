"""The settings of every method in every profile, and how to build what they describe."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from course_lib import augment, methods, nets
from course_lib.context import PROFILES
from course_lib.data.types import Dataset
from course_lib.evaluate import RawPixels

ENCODERS = {
    "convnet": nets.convnet,
    "vit": nets.vit,
    "resnet18": nets.resnet18,
    "raw_pixels": RawPixels,
    "convnet_tiny": lambda: nets.convnet((16, 32, 64), 128),
    "vit_tiny": lambda: nets.vit(dim=64, depth=2, heads=4),
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How one entry of the tables comes about.

    method: a class of `course_lib.methods`; None for an encoder that is measured as it is.
    encoder: a key of `ENCODERS`. options: for the method, where `views` holds changes to SimCLR's views. fit: for
    `course_lib.fit`.
    """

    method: str | None
    encoder: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    fit: Mapping[str, Any] = dataclasses.field(default_factory=dict)


# name: (title in tables, method, its options, the laptop's settings of fit, the GPU's settings of fit)
_METHODS: dict[str, tuple[str, str, dict, dict, dict]] = {
    "supervised": ("supervised (all labels)", "Supervised", {},
                   {"epochs": 6, "lr": 3e-3}, {"epochs": 60, "lr": 2e-3}),
    "autoencoder": ("autoencoder", "Autoencoder", {}, {"epochs": 6, "lr": 2e-3}, {"epochs": 60, "lr": 1e-3}),
    "rotation": ("rotation", "RotNet", {}, {"epochs": 4, "lr": 2e-3, "batch_size": 128}, {"epochs": 60, "lr": 1e-3}),
    "simclr": ("SimCLR", "SimCLR", {"temperature": 0.2}, {"epochs": 10, "lr": 2e-3}, {"epochs": 100, "lr": 2e-3}),
    "simclr_15min": ("SimCLR, 15 minutes", "SimCLR", {"temperature": 0.2},
                     {"epochs": 17, "lr": 2e-3}, {"epochs": 200, "lr": 2e-3}),
    "byol": ("BYOL", "BYOL", {"momentum": 0.95, "views": {}}, {"epochs": 8, "lr": 1e-3}, {"epochs": 100, "lr": 2e-3}),
    "vicreg": ("VICReg", "VICReg", {}, {"epochs": 7, "lr": 1.5e-3}, {"epochs": 100, "lr": 2e-3}),
    "mae": ("MAE", "MAE", {}, {"epochs": 6, "lr": 2e-3}, {"epochs": 200, "lr": 1e-3}),
}
BASELINES = {
    "raw_pixels": ("raw pixels", "raw_pixels"),
    "untrained_convnet": ("untrained convnet", "convnet"),
    "untrained_vit": ("untrained ViT", "vit"),
}
# What SimCLR loses when one idea is taken away; each is as short as `simclr_short`, so that only the idea differs.
_SHORT = {"epochs": 1, "lr": 2e-3}
ABLATIONS = {
    name: (title, "SimCLR", {"temperature": 0.2, **options}, {**_SHORT, **fit}, {"epochs": 20, "lr": 2e-3, **fit})
    for name, title, options, fit in (
        ("simclr_short", "SimCLR, short", {}, {}),
        ("simclr_no_colour", "no colour jitter, no grey", {"views": {"p_jitter": 0.0, "p_gray": 0.0}}, {}),
        ("simclr_no_crop", "no crop", {"views": {"crop": [1.0, 1.0], "ratio": [1.0, 1.0]}}, {}),
        ("simclr_linear", "linear projector", {"projector": "linear"}, {}),
        ("simclr_no_projector", "no projector", {"projector": "none"}, {}),
        ("simclr_cold", "temperature 0.05", {"temperature": 0.05}, {}),
        ("simclr_warm", "temperature 2", {"temperature": 2.0}, {}),
        ("simclr_few_negatives", "batch of 32", {}, {"batch_size": 32, "lr": 1e-3}),
    )
}
NAMES = (*BASELINES, *_METHODS)
TITLES = {name: title for name, (title, *_) in (BASELINES | _METHODS | ABLATIONS).items()}

SIZE = 32  # every recipe works on pictures of 32×32 pixels

# On Toybox a laptop trains this share of the epochs: its pictures are fewer and simpler.
TOYBOX_SHARE = 0.2
_ENCODER = {"smoke": "convnet_tiny", "laptop": "convnet", "gpu": "resnet18"}
_VIT = {"smoke": "vit_tiny", "laptop": "vit", "gpu": "vit"}


def recipe(name: str, profile: str = "laptop", data: str = "cifar10") -> Recipe:
    """The settings of `name` in a profile, on a data set.

    Raises ValueError for an unknown name or profile, with the nearest one that exists.
    """
    check_name(name, (*NAMES, *ABLATIONS), "method")
    check_name(profile, tuple(PROFILES), "profile")
    if name in BASELINES:
        encoder = BASELINES[name][1]
        return Recipe(None, {"convnet": _ENCODER, "vit": _VIT}.get(encoder, {}).get(profile, encoder))
    _, method, options, laptop, gpu = (_METHODS | ABLATIONS)[name]
    fit = {"batch_size": 512, **gpu} if profile == "gpu" else {"batch_size": 256, **laptop}
    if profile == "smoke":
        fit |= {"epochs": 1, "batch_size": 64}
    elif data == "toybox":
        fit["epochs"] = fit["epochs"] * TOYBOX_SHARE
    return Recipe(method, (_VIT if method == "MAE" else _ENCODER)[profile], options, fit)


def check_name(name: str, known: tuple[str, ...], what: str) -> None:
    """Raise ValueError for a name that is not known, offering the nearest that is."""
    if name not in known:
        nearest = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0)[0]
        raise ValueError(f"there is no {what} {name!r}: did you mean {nearest!r}? There are {', '.join(known)}")


def build_encoder(settings: Recipe, seed: int = 0) -> nn.Module:
    """The recipe's encoder, untrained. The same encoder and seed give the same weights, whatever the method."""
    torch.manual_seed(seed)
    return ENCODERS[settings.encoder]()


def build_method(settings: Recipe, seed: int = 0, classes: int = 10) -> methods.Method:
    """The recipe's method around its encoder, untrained. classes: how many, for a method that reads labels."""
    if settings.method is None:
        raise ValueError(f"{settings.encoder} is measured as it is and has nothing to train: use build_encoder")
    encoder = build_encoder(settings, seed)
    method, options = getattr(methods, settings.method), dict(settings.options)
    if "views" in options:
        options["views"] = augment.simclr(**options["views"])
    if method.needs_labels:
        options["classes"] = classes
    return method(encoder, **options)


def training_images(method: methods.Method, data: Dataset):
    """What a method may see: pictures without labels, unless its class says that it needs them."""
    return data.train if method.needs_labels else data.pretrain
