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
from course_lib.data import toybox
from course_lib.data.types import Dataset, Images
from course_lib.evaluate import RawPixels
from course_lib.methods.pretext.colorization import Lightness
from course_lib.methods.pretext.split_brain import SplitEncoder


def _tiny():
    return nets.convnet((16, 32, 64), 128)


def _half():
    return nets.convnet((24, 48, 136), 256)  # two of these are together as large as one convnet


def _tiny_half():
    return nets.convnet((12, 24, 48), 64)


ENCODERS = {
    "convnet": nets.convnet,
    "vit": nets.vit,
    "resnet18": nets.resnet18,
    "raw_pixels": RawPixels,
    "convnet_lightness": lambda: Lightness(nets.convnet()),
    "resnet18_lightness": lambda: Lightness(nets.resnet18()),
    "convnet_enlarged": lambda: nets.Enlarged(nets.convnet()),
    "resnet18_enlarged": lambda: nets.Enlarged(nets.resnet18()),
    "convnet_split": lambda: SplitEncoder(_half(), _half()),
    "resnet18_split": lambda: SplitEncoder(nets.resnet18(), nets.resnet18()),
    "convnet_tiny": _tiny,
    "vit_tiny": lambda: nets.vit(dim=64, depth=2, heads=4),
    "convnet_tiny_lightness": lambda: Lightness(_tiny()),
    "convnet_tiny_enlarged": lambda: nets.Enlarged(_tiny()),
    "convnet_tiny_split": lambda: SplitEncoder(_tiny_half(), _tiny_half()),
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
                   {"epochs": 12, "lr": 3e-3}, {"epochs": 60, "lr": 2e-3}),
    "autoencoder": ("autoencoder", "Autoencoder", {}, {"epochs": 6, "lr": 2e-3}, {"epochs": 60, "lr": 1e-3}),
    "denoising": ("denoising autoencoder", "DenoisingAutoencoder", {"noise": 0.5, "kind": "masking"},
                  {"epochs": 6, "lr": 2e-3}, {"epochs": 60, "lr": 1e-3}),
    # These pictures are too small for a lens's fault to show, so there is nothing to drop their colours for. One epoch
    # is better than four on val, for both: a longer training makes a better puzzler and a worse encoder (ablations).
    "relative_patch": ("relative patches", "RelativePatch", {"drop_color": False},
                       {"epochs": 1, "lr": 2e-3, "batch_size": 128}, {"epochs": 20, "lr": 1e-3}),
    "jigsaw": ("jigsaw", "Jigsaw", {}, {"epochs": 1, "lr": 2e-3, "batch_size": 128}, {"epochs": 20, "lr": 1e-3}),
    "inpainting": ("context encoder", "ContextEncoder", {}, {"epochs": 5, "lr": 2e-3}, {"epochs": 60, "lr": 1e-3}),
    "colorization": ("colourization", "Colorizer", {}, {"epochs": 9, "lr": 2e-3}, {"epochs": 60, "lr": 1e-3}),
    "split_brain": ("split-brain", "SplitBrain", {}, {"epochs": 6, "lr": 2e-3}, {"epochs": 60, "lr": 1e-3}),
    "video_color": ("video colourization", "VideoColorizer", {},
                    {"epochs": 8, "lr": 2e-3, "batch_size": 32}, {"epochs": 20, "lr": 1e-3, "batch_size": 64}),
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
    "untrained_lightness": ("untrained convnet, grey pictures", "lightness"),
    "untrained_split": ("untrained convnets, grey and colours", "split"),
    "untrained_enlarged": ("untrained convnet, enlarged pictures", "enlarged"),
}
# A recipe with one thing changed: name -> (title, the recipe, share of its epochs, its options, its settings of fit).
# The first of SimCLR is as it is, but short, and those after it are as short, so that only the idea differs.
ABLATIONS = {
    "simclr_short": ("SimCLR, short", "simclr", 0.1, {}, {}),
    "simclr_no_color": ("no colour jitter, no grey", "simclr", 0.1, {"views": {"p_jitter": 0.0, "p_gray": 0.0}}, {}),
    "simclr_no_crop": ("no crop", "simclr", 0.1, {"views": {"crop": [1.0, 1.0], "ratio": [1.0, 1.0]}}, {}),
    "simclr_linear": ("linear projector", "simclr", 0.1, {"projector": "linear"}, {}),
    "simclr_no_projector": ("no projector", "simclr", 0.1, {"projector": "none"}, {}),
    "simclr_cold": ("temperature 0.05", "simclr", 0.1, {"temperature": 0.05}, {}),
    "simclr_warm": ("temperature 2", "simclr", 0.1, {"temperature": 2.0}, {}),
    "simclr_few_negatives": ("batch of 32", "simclr", 0.1, {}, {"batch_size": 32, "lr": 1e-3}),
    "relative_patch_long": ("relative patches, four times as long", "relative_patch", 4, {}, {}),
    "relative_patch_gray": ("relative patches, one channel each", "relative_patch", 1, {"drop_color": True}, {}),
    "relative_patch_touching": ("relative patches that touch", "relative_patch", 1, {"gap": False}, {}),
    "jigsaw_long": ("jigsaw, four times as long", "jigsaw", 4, {}, {}),
    "jigsaw_raw_tiles": ("jigsaw, tiles as they are", "jigsaw", 1, {"normalize": False}, {}),
    "inpainting_l2": ("context encoder, squared error alone", "inpainting", 1, {"adversarial": 0.0}, {}),
    "inpainting_center": ("context encoder, hole in the middle", "inpainting", 1, {"mask": "center"}, {}),
    "colorization_regression": ("colourization by regression", "colorization", 1, {"target": "regression"}, {}),
}
NAMES = (*BASELINES, *_METHODS)
TITLES = {name: title for name, (title, *_) in (BASELINES | _METHODS | ABLATIONS).items()}

SIZE = 32  # every recipe works on pictures of 32×32 pixels

# kind of encoder -> profile -> encoder; and the methods that want another kind than the first
_ENCODER = {
    "convnet": {"smoke": "convnet_tiny", "laptop": "convnet", "gpu": "resnet18"},
    "vit": {"smoke": "vit_tiny", "laptop": "vit", "gpu": "vit"},
    "lightness": {"smoke": "convnet_tiny_lightness", "laptop": "convnet_lightness", "gpu": "resnet18_lightness"},
    "enlarged": {"smoke": "convnet_tiny_enlarged", "laptop": "convnet_enlarged", "gpu": "resnet18_enlarged"},
    "split": {"smoke": "convnet_tiny_split", "laptop": "convnet_split", "gpu": "resnet18_split"},
}
_KIND = {"MAE": "vit", "Colorizer": "lightness", "VideoColorizer": "lightness", "SplitBrain": "split",
         "RelativePatch": "enlarged", "Jigsaw": "enlarged"}


def recipe(name: str, profile: str = "laptop") -> Recipe:
    """The settings of `name` in a profile.

    Raises ValueError for an unknown name or profile, with the nearest one that exists.
    """
    check_name(name, (*NAMES, *ABLATIONS), "method")
    check_name(profile, tuple(PROFILES), "profile")
    if name in BASELINES:
        encoder = BASELINES[name][1]
        return Recipe(None, _ENCODER.get(encoder, {}).get(profile, encoder))
    _, of, share, changed, changed_fit = ABLATIONS.get(name, ("", name, 1, {}, {}))
    _, method, options, laptop, gpu = _METHODS[of]
    fit = {"batch_size": 512, **gpu} if profile == "gpu" else {"batch_size": 256, **laptop}
    fit |= {"epochs": fit["epochs"] * share, **changed_fit}
    if profile == "smoke":
        fit |= {"epochs": 1, "batch_size": min(64, fit["batch_size"])}
    return Recipe(method, _ENCODER[_KIND.get(method, "convnet")][profile], {**options, **changed}, fit)


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


def training_images(method: methods.Method, data: Dataset) -> Images | toybox.Clips:
    """What a method may see: pictures without labels, or with them, or clips, as its class says that it needs.

    Raises ValueError where clips are needed and the data set is not the Toybox, which alone has some.
    """
    if method.needs_clips:
        if data.name != "toybox":
            raise ValueError(f"{type(method).__name__} learns from clips, and {data.name} has none: use toybox")
        return toybox.clips(len(data.pretrain) // 10)
    return data.train if method.needs_labels else data.pretrain


def held_out_images(method: methods.Method, data: Dataset) -> Images | toybox.Clips:
    """What a method can be tried on that it was not trained on: test pictures without labels, val where it needs
    labels, or other clips."""
    if method.needs_clips:
        return toybox.clips(len(data.test) // 20, seed=1)
    return data.val if method.needs_labels else data.test.without_labels()
