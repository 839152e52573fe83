"""Every recipe, in every profile, builds what it describes, and that trains."""

from __future__ import annotations

import dataclasses
import inspect

import pytest
import torch

import course_lib as cl
from course_lib import methods, recipes
from course_lib.context import PROFILES
from course_lib.data.types import Dataset, Images
from course_lib.recipes import (
    ABLATIONS,
    BASELINES,
    NAMES,
    TITLES,
    build_encoder,
    build_method,
    held_out_images,
    recipe,
    training_images,
)

TRAINED = [name for name in (*NAMES, *ABLATIONS) if name not in BASELINES]
EVERYTHING = [(name, profile) for name in (*NAMES, *ABLATIONS) for profile in PROFILES]


@pytest.fixture(scope="module")
def built():
    """Methods by what describes them: many recipes differ in the length of their training alone."""
    cache = {}

    def build(settings):
        key = repr((settings.method, settings.encoder, settings.options))
        if key not in cache:
            cache[key] = build_method(settings)
        return cache[key]

    return build


@pytest.mark.parametrize(("name", "profile"), [pair for pair in EVERYTHING if pair[0] in TRAINED])
def test_a_recipe_builds_and_takes_one_step(name, profile, built):
    settings = recipe(name, profile)
    method = built(settings)
    shape = (4, 5, 3) if method.needs_clips else (4, 3)
    batch = methods.Batch(torch.randint(256, (*shape, recipes.SIZE, recipes.SIZE), dtype=torch.uint8), torch.arange(4),
                          torch.arange(4) if method.needs_labels else None)
    out = method.loss(batch)
    loss = out["loss"] if isinstance(out, dict) else out
    assert loss.isfinite()
    assert type(method).__name__ == settings.method
    inspect.signature(cl.fit).bind(method, None, **settings.fit)  # no setting that fit does not know


@pytest.mark.parametrize(("name", "profile"), [pair for pair in EVERYTHING if pair[0] in BASELINES])
def test_a_baseline_is_an_encoder_and_nothing_to_train(name, profile):
    settings = recipe(name, profile)
    encoder = build_encoder(settings)
    assert encoder(torch.rand(2, 3, 32, 32)).shape == (2, encoder.dim)
    with pytest.raises(ValueError, match="is measured as it is and has nothing to train: use build_encoder"):
        build_method(settings)


def test_every_profile_has_its_encoder():
    assert [recipe("simclr", p).encoder for p in PROFILES] == ["convnet_tiny", "convnet", "resnet18"]
    assert [recipe("mae", p).encoder for p in PROFILES] == ["vit_tiny", "vit", "vit"]
    assert [recipe("untrained_convnet", p).encoder for p in PROFILES] == ["convnet_tiny", "convnet", "resnet18"]
    assert [recipe("untrained_vit", p).encoder for p in PROFILES] == ["vit_tiny", "vit", "vit"]
    assert {recipe("raw_pixels", p).encoder for p in PROFILES} == {"raw_pixels"}


def test_smoke_is_short_and_a_gpu_trains_longer_than_a_laptop():
    for name in TRAINED:
        assert recipe(name, "smoke").fit["epochs"] == 1 and recipe(name, "smoke").fit["batch_size"] <= 64
        laptop = recipe(name, "laptop").fit["epochs"]
        assert laptop < recipe(name, "gpu").fit["epochs"]


def test_asking_twice_changes_nothing():
    assert recipe("rotation", "laptop") == recipe("rotation", "laptop")
    assert recipe("simclr_few_negatives", "laptop") == recipe("simclr_few_negatives", "laptop")


def test_an_ablation_differs_in_one_thing_from_what_it_is_compared_with():
    for name, (_, of, share, *_) in ABLATIONS.items():
        with_it, other = recipe("simclr_short" if share < 1 else of), recipe(name)
        assert other.encoder == with_it.encoder
        options = {k for k in {*with_it.options, *other.options} if with_it.options.get(k) != other.options.get(k)}
        fit = {k for k in {*with_it.fit, *other.fit} if with_it.fit.get(k) != other.fit.get(k)}
        if name == "simclr_short":
            assert not options and not fit and other.fit["epochs"] < recipe("simclr").fit["epochs"]
        elif share > 1:
            assert not options and fit == {"epochs"}, f"{name} changes {options | fit}"
        else:
            assert "epochs" not in fit
            assert bool(options) != bool(fit) and len(options) <= 1, f"{name} changes {options | fit}"


def test_views_of_a_recipe_reach_the_method():
    method = build_method(recipe("simclr_no_crop", "smoke"))
    assert tuple(method.views.crop) == (1.0, 1.0) and method.views.p_gray == 0.2
    gray = build_method(recipe("simclr_no_color", "smoke")).views
    assert gray.p_jitter == gray.p_gray == 0 and gray.crop == (0.2, 1.0)


def test_the_same_seed_gives_the_same_encoder_whatever_the_method():
    plain = build_encoder(recipe("untrained_convnet", "smoke"), seed=3).state_dict()
    for name in ("simclr", "byol", "supervised"):
        state = build_method(recipe(name, "smoke"), seed=3).encoder.state_dict()
        assert all(torch.equal(state[k], plain[k]) for k in plain)
    other = build_encoder(recipe("untrained_convnet", "smoke"), seed=4).state_dict()
    assert any(not torch.equal(other[k], plain[k]) for k in plain)


def test_a_method_sees_labels_only_where_it_needs_them():
    images = Images(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.tensor([0, 1]), ("a", "b"))
    data = Dataset("two", images.without_labels(), images, images, images)
    assert training_images(build_method(recipe("supervised", "smoke")), data).y is not None
    assert training_images(build_method(recipe("simclr", "smoke")), data).y is None
    assert held_out_images(build_method(recipe("supervised", "smoke")), data) is data.val
    assert held_out_images(build_method(recipe("simclr", "smoke")), data).y is None


def test_a_method_of_clips_gets_them_from_the_toybox_alone():
    method, data = build_method(recipe("video_color", "smoke")), cl.load("toybox", limit=100)
    seen, tried = training_images(method, data), held_out_images(method, data)
    assert len(seen) == 10 and len(tried) == 5 and seen.x.ndim == 5
    assert not torch.equal(seen.x[:5], tried.x), "it should be tried on other clips than it learned from"
    with pytest.raises(ValueError, match="VideoColorizer learns from clips, and cifar10 has none: use toybox"):
        training_images(method, dataclasses.replace(data, name="cifar10"))


def test_every_name_has_a_title_and_a_method_that_exists():
    assert set(TITLES) == {*NAMES, *ABLATIONS} and len(set(TITLES.values())) == len(TITLES)
    assert {recipe(name).method for name in TRAINED} <= set(methods.__all__)
    assert len({*NAMES, *ABLATIONS}) == len(NAMES) + len(ABLATIONS)


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
