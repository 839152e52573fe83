"""What a recipe is: the settings of one method in every profile, and how to build what they describe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import nn

from course_lib import augment, methods, nets
from course_lib.data.types import Images
from course_lib.devices import repeatable
from course_lib.evaluate import RawPixels
from course_lib.methods import Method

SIZE = 32  # every recipe works on pictures of 32×32 pixels
BATCH_SIZE = {"laptop": 256, "gpu": 512}
PRESETS = ("simclr", "byol", "multicrop", "weak", "none")  # of augment


def tiny_convnet() -> nets.ConvNet:
    """A convnet for tests: it learns in seconds."""
    return nets.convnet((16, 32, 64), 128)


def tiny_vit() -> nets.ViT:
    """A transformer for tests."""
    return nets.vit(dim=64, depth=2, heads=4)


# kind -> profile -> what a method's encoder is made of
BACKBONES = {
    "convnet": {"smoke": tiny_convnet, "laptop": nets.convnet, "gpu": nets.resnet18},
    "vit": {"smoke": tiny_vit, "laptop": nets.vit, "gpu": nets.vit},
    "pixels": {"smoke": RawPixels, "laptop": RawPixels, "gpu": RawPixels},
}


@dataclasses.dataclass(frozen=True)
class Variant:
    """A recipe with something changed.

    title: in tables. options, views, fit: what replaces the recipe's own. share: of its epochs, so that ablations can
    be short and longer trainings long. seeds: how many trainings with different seeds a comparison takes. ships: as a
    recipe's; by default its result alone.
    """

    title: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    views: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    fit: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    share: float = 1.0
    seeds: int = 1
    ships: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How one row of the tables comes about, and its variants.

    method: the class that trains, or whose encoder is measured; None for the bare backbone. backbone: a key of
    `BACKBONES`. options: of the method. views: `{"preset": "simclr", …}`, a function of `augment` and its changes; the
    method's own views where empty. fit: profile -> settings of `course_lib.fit`; without any, nothing is trained: the
    row is that of an untrained encoder. variants: word -> what it changes; its name is the recipe's, then the word.
    ships: which weights of its first seed come with the course, because a notebook loads them: "encoder", "heads". The
    others are deleted by `python -m course_lib prune`, and their results stay.
    """

    title: str
    method: type[Method] | None = None
    backbone: str = "convnet"
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    views: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    fit: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    variants: Mapping[str, Variant] = dataclasses.field(default_factory=dict)
    seeds: int = 1
    ships: tuple[str, ...] = ("encoder", "heads")

    def settings(self, profile: str, variant: Variant | None = None) -> Settings:
        """The recipe in one profile. Smoke is the laptop's, one epoch of small batches."""
        change = variant or Variant(self.title)
        fit = {}
        if self.fit:
            kind = "gpu" if profile == "gpu" else "laptop"
            fit = {"batch_size": BATCH_SIZE[kind], **self.fit[kind], **change.fit}
            fit["epochs"] *= change.share
            if profile == "smoke":
                fit |= {"epochs": 1, "batch_size": min(64, fit["batch_size"])}
        return Settings(self.method.__name__ if self.method else None, self.backbone, profile,
                        {**self.options, **change.options}, {**self.views, **change.views}, fit)


@dataclasses.dataclass(frozen=True)
class Settings:
    """A recipe in one profile, as plain data: what a result file holds, and enough to build the same again."""

    method: str | None
    backbone: str
    profile: str
    options: Mapping[str, Any]
    views: Mapping[str, Any]
    fit: Mapping[str, Any]

    @property
    def trained(self) -> bool:
        """Whether there is something to train; an untrained encoder is measured as it is."""
        return bool(self.fit)


def build_encoder(settings: Settings, seed: int = 0) -> nn.Module:
    """The recipe's encoder, untrained. The same seed gives the same weights, whatever method wraps the same backbone.
    """
    with repeatable(seed):
        return _encoder(settings)


def _encoder(settings: Settings) -> nn.Module:
    backbone = BACKBONES[settings.backbone][settings.profile]()
    return backbone if settings.method is None else getattr(methods, settings.method).default_encoder(backbone)


def build_method(settings: Settings, images: Images | None = None, seed: int = 0) -> Method:
    """The recipe's method around its encoder, untrained.

    images: what it will be trained on, for arguments that come from the data, such as the number of classes; None
    where `settings.options` holds those already, as they do in a result file.
    Raises ValueError for the settings of an encoder that is measured as it is.
    """
    if not settings.trained:
        raise ValueError("an untrained encoder is measured as it is and has nothing to train: use build_encoder")
    kind, options = getattr(methods, settings.method), dict(settings.options)
    if settings.views:
        options["views"] = build_views(settings.views)
    with repeatable(seed):
        encoder = _encoder(settings)
        return kind(encoder, **options) if images is None else kind.build(encoder, images, **options)


def build_views(views: Mapping[str, Any]) -> nn.Module:
    """Views as a recipe describes them: `{"preset": "simclr", "crop": [0.5, 1.0]}`."""
    if views.get("preset") not in PRESETS:
        raise ValueError(f"views must name a preset of augment, one of {', '.join(PRESETS)}, got {dict(views)}")
    changes = {key: value for key, value in views.items() if key != "preset"}
    return getattr(augment, views["preset"])(**changes)
