"""Every recipe, in every profile, builds what it describes, and that trains."""

from __future__ import annotations

import dataclasses
import inspect
import json

import pytest
import torch

import course_lib as cl
from course_lib import methods, recipes
from course_lib.context import PROFILES
from course_lib.data.types import Batch
from course_lib.recipes import (
    BASELINES,
    NAMES,
    TITLES,
    VARIANTS,
    Recipe,
    Settings,
    Variant,
    build_encoder,
    build_method,
    build_views,
    recipe,
    seeds,
)

TRAINED = [name for name in TITLES if name not in BASELINES]
EVERYTHING = [(name, profile) for name in TITLES for profile in PROFILES]


@pytest.fixture(scope="module")
def built():
    """Methods by what describes them: many recipes differ in the length of their training alone."""
    cache, images = {}, cl.load("toybox", limit=20).train

    def build(settings):
        key = repr(dataclasses.replace(settings, fit={"epochs": 1}))
        if key not in cache:
            cache[key] = build_method(settings, images)
        return cache[key]

    return build


@pytest.mark.parametrize(("name", "profile"), [pair for pair in EVERYTHING if pair[0] in TRAINED])
def test_a_recipe_builds_and_takes_one_step(name, profile, built):
    settings = recipe(name, profile)
    method = built(settings)
    shape = (4, 5, 3) if "clips" in method.needs else (4, 3)
    labels = torch.arange(4) if "labels" in method.needs else None
    out = method(Batch(torch.randint(256, (*shape, recipes.SIZE, recipes.SIZE), dtype=torch.uint8), y=labels))
    assert out["loss"].isfinite()
    assert type(method).__name__ == settings.method
    inspect.signature(cl.fit).bind(method, None, **settings.fit)  # no setting that fit does not know
    assert Settings(**json.loads(json.dumps(dataclasses.asdict(settings)))) == settings, "a file should hold all of it"


@pytest.mark.parametrize(("name", "profile"), [pair for pair in EVERYTHING if pair[0] in BASELINES])
def test_a_baseline_is_an_encoder_and_nothing_to_train(name, profile):
    settings = recipe(name, profile)
    encoder = build_encoder(settings)
    assert not settings.trained and encoder(torch.rand(2, 3, 32, 32)).shape == (2, encoder.dim)
    with pytest.raises(ValueError, match="is measured as it is and has nothing to train: use build_encoder"):
        build_method(settings)


@pytest.mark.parametrize("name", [name for name in TRAINED if name not in VARIANTS])
def test_every_encoder_has_its_untrained_twin_among_the_baselines(name):
    def kind(name):
        return [type(m).__name__ for m in build_encoder(recipe(name)).modules()]

    assert kind(name) in [kind(other) for other in BASELINES]


def test_every_profile_has_its_encoder():
    def weights(name):
        return [sum(p.numel() for p in build_encoder(recipe(name, profile)).parameters()) for profile in PROFILES]

    small, laptop, gpu = weights("simclr")
    assert small < laptop < gpu and weights("untrained_convnet") == [small, laptop, gpu]
    assert [type(build_encoder(recipe("simclr", p))).__name__ for p in PROFILES] == ["ConvNet", "ConvNet", "ResNet"]
    assert [type(build_encoder(recipe("mae", p))).__name__ for p in PROFILES] == ["ViT"] * 3
    assert {type(build_encoder(recipe("raw_pixels", p))).__name__ for p in PROFILES} == {"RawPixels"}


def test_smoke_is_short_and_a_gpu_trains_longer_than_a_laptop():
    for name in TRAINED:
        assert recipe(name, "smoke").fit["epochs"] == 1 and recipe(name, "smoke").fit["batch_size"] <= 64
        assert recipe(name, "laptop").fit["epochs"] < recipe(name, "gpu").fit["epochs"]
    assert recipe("simclr").fit["batch_size"] == 256 and recipe("simclr", "gpu").fit["batch_size"] == 512


def test_a_variant_replaces_what_it_names_and_nothing_else():
    many = Recipe("many", methods.SimCLR, options={"temperature": 0.2, "dim": 64}, views={"preset": "simclr"},
                  fit={"laptop": {"epochs": 10, "lr": 1.0}, "gpu": {"epochs": 100, "lr": 1.0}})
    change = Variant("few", {"dim": 8}, {"blur": 0.5}, {"lr": 2.0}, share=0.5, seeds=3)
    whole, part = many.settings("laptop"), many.settings("laptop", change)
    assert part.options == {"temperature": 0.2, "dim": 8} and part.views == {"preset": "simclr", "blur": 0.5}
    assert part.fit == {"batch_size": 256, "epochs": 5.0, "lr": 2.0}
    assert whole.options["dim"] == 64 and whole.views == {"preset": "simclr"} and whole.fit["epochs"] == 10
    assert many.settings("gpu", change).fit["epochs"] == 50


def test_an_ablation_differs_in_one_thing_from_what_it_is_compared_with():
    for name, (of, variant) in VARIANTS.items():
        against = f"{of}_short" if variant.share < 1 else of
        with_it, other = recipe(against), recipe(name)
        changed = {place for place in ("options", "views", "fit")
                   if dict(getattr(with_it, place)) != dict(getattr(other, place))}
        wanted = 0 if name == against else 1
        assert len(changed) == wanted, f"{name} differs from {against} in {changed}"
        if variant.share > 1:
            assert {k for k in other.fit if other.fit[k] != with_it.fit[k]} == {"epochs"}


def test_views_of_a_recipe_reach_the_method(built):
    cut = built(recipe("simclr_no_crop", "smoke")).views
    assert tuple(cut.crop) == (1.0, 1.0) and cut.p_gray == 0.2
    gray = built(recipe("simclr_no_color", "smoke")).views
    assert gray.p_jitter == gray.p_gray == 0 and gray.crop == (0.2, 1.0)
    assert built(recipe("byol", "smoke")).views.solarize == 0, "SimCLR's views, not the method's own"
    with pytest.raises(ValueError, match="views must name a preset of augment, one of simclr, byol"):
        build_views({"crop": [0.5, 1.0]})
    with pytest.raises(ValueError, match=r"got \{'preset': 'simcrl'\}"):
        build_views({"preset": "simcrl"})


def test_the_same_seed_gives_the_same_encoder_whatever_the_method(built):
    plain = build_encoder(recipe("untrained_convnet", "smoke"), seed=3).state_dict()
    images = cl.load("toybox", limit=20).train
    for name in ("simclr", "byol", "supervised"):
        state = build_method(recipe(name, "smoke"), images, seed=3).encoder.state_dict()
        assert all(torch.equal(state[k], plain[k]) for k in plain)
    other = build_encoder(recipe("untrained_convnet", "smoke"), seed=4).state_dict()
    assert any(not torch.equal(other[k], plain[k]) for k in plain)


def test_building_leaves_the_global_random_numbers_alone():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    build_encoder(recipe("untrained_convnet", "smoke"))
    build_method(recipe("simclr", "smoke"))
    assert torch.equal(torch.rand(3), wanted)


def test_arguments_that_come_from_the_data_do():
    images = dataclasses.replace(cl.load("toybox", limit=20).train, classes=tuple("abcdefghijkl"))
    method = build_method(recipe("supervised", "smoke"), images)
    assert method.classifier.out_features == 12 and method.built_with == {"classes": 12}
    again = build_method(dataclasses.replace(recipe("supervised", "smoke"), options=method.built_with))
    assert again.classifier.out_features == 12


def test_every_name_has_a_title_and_a_method_that_exists():
    assert set(TITLES) == {*NAMES, *VARIANTS} and len(set(TITLES.values())) == len(TITLES)
    assert {recipe(name).method for name in TRAINED} <= set(methods.__all__)
    assert not set(NAMES) & set(VARIANTS)


def test_seeds_are_one_word(monkeypatch):
    assert list(seeds("simclr")) == [0]
    monkeypatch.setitem(VARIANTS, "simclr_cold", ("simclr", Variant("cold", seeds=3)))
    assert list(seeds("simclr_cold")) == [0, 1, 2]


@pytest.mark.parametrize(("name", "profile", "message"), [
    ("simcrl", "laptop", "there is no method 'simcrl': did you mean 'simclr'"),
    ("BYOL", "laptop", "did you mean 'byol'"),
    ("untrained", "laptop", "did you mean 'untrained_vit'|did you mean 'untrained_convnet'"),
    ("simclr", "labtop", "there is no profile 'labtop': did you mean 'laptop'"),
    ("simclr", "", "there is no profile ''"),
])
def test_unknown_names_offer_the_nearest(name, profile, message):
    with pytest.raises(ValueError, match=message):
        recipe(name, profile)
