"""The settings of every method and its variants, one file a family. Names, titles and tables are read from them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from course_lib.context import PROFILES
from course_lib.recipes import baselines, cca, contrastive, distillation, masked, metric, pretext, reconstruction
from course_lib.recipes.base import (
    BACKBONES,
    SIZE,
    Recipe,
    Settings,
    Variant,
    build_encoder,
    build_method,
    build_views,
    tiny_convnet,
    tiny_vit,
)

__all__ = ["BACKBONES", "BASELINES", "NAMES", "RECIPES", "SIZE", "TITLES", "VARIANTS", "Recipe", "Settings", "Variant",
           "build_encoder", "build_method", "build_views", "check_name", "recipe", "seeds", "ships", "tiny_convnet",
           "tiny_vit"]

_FAMILIES = (baselines, reconstruction, pretext, metric, contrastive, distillation, cca, masked)

RECIPES: dict[str, Recipe] = {name: value for family in _FAMILIES for name, value in vars(family).items()
                              if isinstance(value, Recipe)}
# name of a variant -> the name of its recipe, and what it changes
VARIANTS: dict[str, tuple[str, Variant]] = {f"{name}_{word}": (name, variant) for name, value in RECIPES.items()
                                            for word, variant in value.variants.items()}
NAMES = tuple(RECIPES)
BASELINES = tuple(name for name, value in RECIPES.items() if not value.fit)  # measured as they are
TITLES = {name: value.title for name, value in RECIPES.items()} | {
    name: variant.title for name, (_, variant) in VARIANTS.items()}


def recipe(name: str, profile: str = "laptop") -> Settings:
    """The settings of a recipe or of a variant, `simclr` or `simclr_short`, in a profile.

    Raises ValueError for an unknown name or profile, with the nearest one that exists.
    """
    check_name(name, TITLES, "method")
    check_name(profile, PROFILES, "profile")
    of, variant = VARIANTS.get(name, (name, None))
    return RECIPES[of].settings(profile, variant)


def seeds(name: str) -> range:
    """The seeds with which a recipe or a variant is trained for the course's tables."""
    return range(_described(name).seeds)


def ships(name: str) -> tuple[str, ...]:
    """Which weights of a recipe or of a variant come with the course: "encoder", "heads", both or neither. An untrained
    encoder has none: it is built anew."""
    return () if name in BASELINES else _described(name).ships


def _described(name: str) -> Recipe | Variant:
    check_name(name, TITLES, "method")
    return VARIANTS[name][1] if name in VARIANTS else RECIPES[name]


def check_name(name: str, known: Iterable[str], what: str) -> None:
    """Raise ValueError for a name that is not known, offering the nearest that is."""
    known = tuple(known)
    if name not in known:
        nearest = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0)[0]
        raise ValueError(f"there is no {what} {name!r}: did you mean {nearest!r}? There are {', '.join(known)}")
