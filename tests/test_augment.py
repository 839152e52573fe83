"""Views beside torchvision's own operations with the same drawn numbers, and what a view must never do."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
import torch
from reference.views import COLORS, crop_and_flip, turn_hue
from torch import nn
from torchvision.transforms import v2

from course_lib import augment
from course_lib.augment import MultiCrop, Views, blur_matrix, color_matrix, follow, resize_matrix
from course_lib.pictures import as_float

STILL = {"crop": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": 0.0, "p_jitter": 0.0, "p_gray": 0.0}  # nothing at random


def pictures(n=16, height=32, width=32, low=0.0, high=1.0):
    """Smooth pictures with some noise, as floats in [low, high]."""
    x = torch.nn.functional.interpolate(torch.rand(n, 3, 6, 6), (height, width), mode="bicubic", align_corners=False)
    return low + (high - low) * (x + 0.1 * torch.rand(n, 3, height, width)).clamp(0, 1)


def drawn(views, n, size=32, **changes):
    """A draw in which nothing happens but what `changes` says."""
    still = Views(views.size, **STILL).draw(n, size, size)
    return dataclasses.replace(still, **changes)


# --- where pixels come from -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "size", "crop"), [
    pytest.param((32, 32), 32, (0.2, 1.0), id="enlarging"),
    pytest.param((32, 32), 40, (0.2, 1.0), id="enlarging more"),
    pytest.param((96, 96), 32, (0.5, 1.0), id="shrinking"),
    pytest.param((40, 56), 16, (0.05, 1.0), id="both, from pictures that are not square"),
])
def test_crop_and_flip_are_torchvisions(source, size, crop):
    x = pictures(40, *source)
    views = Views(size, crop=crop, p_jitter=0, p_gray=0)
    draw = views.draw(40, *source)
    assert draw.flip.any() and not draw.flip.all()
    theirs = torch.stack([crop_and_flip(x[i], draw, i, size) for i in range(40)])
    torch.testing.assert_close(views.apply_draw(x, draw), theirs, rtol=0, atol=2e-5)


def test_a_view_of_the_whole_picture_is_the_picture():
    x = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(augment.none(32)(x), x.float() / 255, rtol=0, atol=1e-6)


def test_pixels_outside_the_crop_never_leak_in():
    x = torch.ones(1, 3, 32, 32)
    x[:, :, 8:24, 4:20] = 0.5
    for size in (8, 16, 32, 50):
        views = Views(size, **STILL)
        box = torch.tensor([[8, 4, 16, 16]])
        assert (views.apply_draw(x, drawn(views, 1, box=box)) - 0.5).abs().max() < 1e-6


def test_shrinking_averages_and_does_not_skip():
    stripes = (torch.arange(64) % 2).float().expand(1, 3, 64, 64)
    view = augment.none(16)(stripes)
    assert (view - 0.5).abs().max() < 0.15  # taking every fourth column would give all 0 or all 1


@pytest.mark.parametrize(("source", "size"), [(32, 32), (32, 16), (20, 50), (96, 24)])
def test_rows_of_a_resize_are_weights(source, size):
    start, length = torch.tensor([0, 3, source - 1]), torch.tensor([source, source // 2, 1])
    weights = resize_matrix(start, length, source, size, flip=torch.tensor([False, True, False]))
    assert weights.shape == (3, size, source) and (weights >= 0).all()
    torch.testing.assert_close(weights.sum(2), torch.ones(3, size))
    mirrored = resize_matrix(start, length, source, size, flip=torch.tensor([True, False, True]))
    torch.testing.assert_close(mirrored, weights.flip(1))


def test_boxes_have_the_areas_and_shapes_of_torchvisions():
    n, scale, ratio = 6000, (0.2, 1.0), (3 / 4, 4 / 3)
    torch.manual_seed(1)
    ours = Views(crop=scale, ratio=ratio).draw(n, 40, 60).box.float()
    crop, picture = v2.RandomResizedCrop(8, scale, ratio), torch.empty(3, 40, 60)
    boxes = [crop.make_params([picture]) for _ in range(3000)]
    theirs = torch.tensor([[box[k] for k in ("top", "left", "height", "width")] for box in boxes]).float()
    for name, measure in {
        "area": lambda b: b[:, 2] * b[:, 3] / 2400,
        "log ratio": lambda b: (b[:, 3] / b[:, 2]).log(),
        "place of the top": lambda b: b[:, 0] / 40,
        "place of the left": lambda b: b[:, 1] / 60,
    }.items():
        a, b = measure(ours), measure(theirs)
        error = (a.var() / len(a) + b.var() / len(b)).sqrt()
        assert abs(a.mean() - b.mean()) < 4.5 * error, f"{name}: ours {a.mean():.4f}, torchvision's {b.mean():.4f}"
        assert abs(a.std() / b.std() - 1) < 0.08, f"spread of the {name}: {a.std():.4f} against {b.std():.4f}"


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 60), (1, 1), (5, 200)])
def test_boxes_lie_inside_the_picture(height, width):
    top, left, h, w = Views(crop=(0.01, 1.0)).draw(3000, height, width).box.unbind(1)
    assert (top >= 0).all() and (left >= 0).all() and (h >= 1).all() and (w >= 1).all()
    assert (top + h <= height).all() and (left + w <= width).all()


def test_boxes_reach_every_corner():
    top, left, h, w = Views(crop=(0.2, 0.3)).draw(4000, 32, 32).box.unbind(1)
    assert (top == 0).any() and (left == 0).any() and (top + h == 32).any() and (left + w == 32).any()


# --- colour -----------------------------------------------------------------------------------------------------------


COLOR_DRAWS = {
    "brightness": {"brightness": torch.linspace(0.6, 1.2, 12)},
    "contrast": {"contrast": torch.linspace(0.6, 1.3, 12)},
    "saturation": {"saturation": torch.linspace(0.6, 1.3, 12)},
    "gray": {"gray": torch.arange(12) % 2 == 0},
}


@pytest.mark.parametrize("name", COLOR_DRAWS)
def test_colors_are_torchvisions(name):
    x = pictures(12, low=0.3, high=0.7)  # away from 0 and 1, so that nothing clamps
    views = Views(32)
    draw = drawn(views, 12, **COLOR_DRAWS[name])
    theirs = torch.stack([COLORS[name](x[i], draw, i) for i in range(12)])
    torch.testing.assert_close(views.apply_draw(x, draw), theirs, rtol=0, atol=1e-5)


def test_hue_is_a_rotation_in_yiq():
    x = pictures(6, 8, 8, low=0.35, high=0.65)
    turns = [-0.5, -0.1, 0.0, 0.05, 0.25, 0.1]
    views = Views(8)
    view = views.apply_draw(x, drawn(views, 6, size=8, hue=torch.tensor(turns)))
    for i, turn in enumerate(turns):
        torch.testing.assert_close(view[i].double(), turn_hue(x[i], turn), rtol=0, atol=1e-5)


def test_the_order_of_colors_drops_out():
    x = pictures(4, low=0.4, high=0.6).double()
    draw = drawn(Views(32), 4, brightness=torch.tensor([0.9, 1.1, 1.0, 0.8]),
                 contrast=torch.tensor([1.2, 0.8, 0.9, 1.1]), saturation=torch.tensor([0.7, 1.3, 1.1, 0.9]),
                 hue=torch.tensor([0.05, -0.1, 0.1, -0.02]))
    ours = Views(32).apply_draw(x.float(), draw).double()
    steps = [COLORS["brightness"], COLORS["contrast"], COLORS["saturation"],
             lambda picture, draw, i: turn_hue(picture, draw.hue[i].item())]
    for order in itertools.permutations(steps):
        picture = x[0]
        for step in order:
            picture = step(picture, draw, 0)
        # torchvision's weights for grey sum to 0.9999 and YIQ's to 1, which is all that is left of the order.
        assert (picture - ours[0]).abs().max() < 3e-4


def test_contrast_pivots_on_the_crop_and_not_on_the_whole_picture():
    x = torch.zeros(1, 3, 32, 32)
    x[:, :, :16, :16] = 0.6
    views = Views(32)
    view = views.apply_draw(x, drawn(views, 1, box=torch.tensor([[0, 0, 16, 16]]), contrast=torch.tensor([0.5])))
    assert (view - 0.6).abs().max() < 1e-3  # a flat crop has no contrast to lose


def test_solarize_is_torchvisions():
    x = pictures(8)
    views = Views(32, **STILL, solarize=1.0)
    draw = drawn(views, 8, solarize=torch.arange(8) % 2 == 0)
    theirs = torch.stack([COLORS["solarize"](x[i], draw, i) for i in range(8)])
    far = (x - 0.5).abs() > 1e-5  # a pixel on the threshold may fall on either side
    assert ((views.apply_draw(x, draw) - theirs).abs() < 1e-5)[far].all()


def test_blur_is_a_gaussian_whose_rows_sum_to_one():
    sigma = torch.tensor([0.0, 0.1, 0.5, 2.0])
    weights = blur_matrix(sigma, 33)
    torch.testing.assert_close(weights.sum(2), torch.ones(4, 33))
    assert torch.equal(weights[0], torch.eye(33))
    i = torch.arange(33) - 16
    assert (weights[3, 16] * i**2).sum().sqrt() == pytest.approx(2.0, rel=1e-3)
    assert weights[3, 16].argmax() == 16 and torch.allclose(weights[3, 16], weights[3, 16].flip(0))


def test_blur_takes_detail_away_and_sigma_zero_takes_none():
    x = torch.rand(3, 3, 32, 32)
    views = Views(32, **STILL, blur=1.0)
    view = views.apply_draw(x, drawn(views, 3, sigma=torch.tensor([0.0, 0.7, 2.0])))
    torch.testing.assert_close(view[0], x[0], rtol=0, atol=1e-6)
    assert x[1].std() > 1.5 * view[1].std() > 2 * view[2].std()


# --- chance -----------------------------------------------------------------------------------------------------------


def test_probabilities_of_zero_and_one():
    never = Views(flip=0, p_jitter=0, p_gray=0, blur=0, solarize=0).draw(500, 32, 32)
    assert not (never.flip.any() or never.gray.any() or never.solarize.any() or never.sigma.any() or never.hue.any())
    assert (never.brightness == 1).all() and (never.contrast == 1).all() and (never.saturation == 1).all()
    always = Views(flip=1, p_jitter=1, p_gray=1, blur=1, solarize=1).draw(500, 32, 32)
    assert always.flip.all() and always.gray.all() and always.solarize.all() and (always.sigma > 0).all()
    assert (always.brightness != 1).float().mean() > 0.99 and (always.hue != 0).float().mean() > 0.99


def test_draws_have_their_ranges_and_frequencies():
    n = 20000
    draw = Views(jitter=(0.4, 0.3, 0.2, 0.1), blur=0.3, sigma=(0.5, 1.5), solarize=0.1).draw(n, 32, 32)
    for factor, strength in ((draw.brightness, 0.4), (draw.contrast, 0.3), (draw.saturation, 0.2), (draw.hue + 1, 0.1)):
        assert 1 - strength <= factor.min() < 1 - 0.95 * strength
        assert 1 + 0.95 * strength < factor.max() <= 1 + strength
    jittered = draw.brightness != 1
    assert torch.equal(jittered, draw.hue != 0)  # a picture is jittered in all four or in none
    blurred = draw.sigma[draw.sigma > 0]
    assert blurred.min() >= 0.5 and blurred.max() <= 1.5
    for happened, p in ((jittered, 0.8), (draw.gray, 0.2), (draw.flip, 0.5), (draw.sigma > 0, 0.3),
                        (draw.solarize, 0.1)):
        assert happened.float().mean().item() == pytest.approx(p, abs=4.5 * math.sqrt(p * (1 - p) / n))


def test_every_picture_has_its_own_draw_and_every_call_new_ones():
    x = pictures(1).expand(24, -1, -1, -1)
    views = augment.simclr()
    first, second = views(x), views(x)
    for view in (first, torch.stack([first[0], second[0]])):
        distance = torch.cdist(view.flatten(1), view.flatten(1)) + 10 * torch.eye(len(view))
        assert distance.min() > 0.1


def test_the_same_seed_gives_the_same_views():
    x = pictures(8)
    torch.manual_seed(3)
    first = augment.simclr()(x)
    torch.manual_seed(3)
    assert torch.equal(first, augment.simclr()(x))


# --- numbers ----------------------------------------------------------------------------------------------------------


def everything(size=32, **changes):
    """Views in which all that can happen does."""
    return Views(size, **{"blur": 0.5, "solarize": 0.3, **changes})


def take(draw, rows):
    return dataclasses.replace(draw, **{f.name: getattr(draw, f.name)[rows] for f in dataclasses.fields(draw)})


def test_a_picture_is_not_changed_by_its_neighbours_in_the_batch():
    x, views = pictures(12), everything()
    draw = views.draw(12, 32, 32)
    whole = views.apply_draw(x, draw)
    alone = torch.cat([views.apply_draw(x[i : i + 1], take(draw, slice(i, i + 1))) for i in range(12)])
    torch.testing.assert_close(whole, alone, rtol=0, atol=2e-6)


def test_a_draw_made_again_gives_what_the_call_gave():
    x, views = pictures(6), everything()
    torch.manual_seed(5)
    view = views(x)
    torch.manual_seed(5)
    assert torch.equal(view, views.apply_draw(x, views.draw(6, 32, 32)))


def test_bytes_and_floats_give_equal_views():
    x, views = torch.randint(256, (10, 3, 32, 32), dtype=torch.uint8), everything()
    draw = views.draw(10, 32, 32)
    view = views.apply_draw(x, draw)
    assert view.dtype == torch.float32
    assert torch.equal(view, views.apply_draw(x.float() / 255, draw))
    assert torch.equal(view, views.apply_draw(x.double() / 255, draw))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_view_is_float32_whatever_it_is_of(dtype):
    x = torch.ones(2, 3, 8, 8, dtype=dtype)
    views = everything(16)
    assert views(x).dtype == views.apply_draw(x, views.draw(2, 8, 8)).dtype == torch.float32


def test_views_are_simclrs_by_default():
    views = Views()
    assert (views.size, views.crop, views.ratio, views.flip) == (32, (0.2, 1.0), (3 / 4, 4 / 3), 0.5)
    assert (views.jitter, views.p_jitter, views.p_gray) == ((0.4, 0.4, 0.4, 0.1), 0.8, 0.2)
    assert (views.blur, views.sigma, views.solarize, views.early) == (0.0, (0.1, 2.0), 0.0, 0.0)


def test_views_stay_in_range_and_leave_their_input_alone():
    x = torch.randint(256, (64, 3, 32, 32), dtype=torch.uint8)
    for given in (x, x.float() / 255):
        before = given.clone()
        view = Views(24, jitter=(1, 1, 1, 0.5), p_jitter=1.0, blur=0.5, solarize=0.5)(given)
        assert view.shape == (64, 3, 24, 24) and view.min() >= 0 and view.max() <= 1
        assert torch.equal(given, before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_costs_a_view_no_precision(dtype):
    x, views = pictures(8), everything()
    draw = views.draw(8, 32, 32)
    plain = views.apply_draw(x, draw)
    with torch.autocast("cpu", dtype=dtype):
        inside = views.apply_draw(x, draw)
    assert inside.dtype == torch.float32 and torch.equal(inside, plain)


def test_a_view_carries_no_gradient():
    assert not augment.simclr()(pictures(2).requires_grad_()).requires_grad


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (0, 3, 32, 32), (2, 3, 1, 1), (3, 3, 17, 90)])
def test_odd_batches_and_odd_pictures(shape):
    view = everything(16)(torch.rand(shape))
    assert view.shape == (shape[0], 3, 16, 16) and view.isfinite().all()


# --- presets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", [augment.simclr, augment.byol, augment.weak, augment.none])
def test_presets_make_views_of_their_size(preset):
    assert preset()(pictures(3)).shape == (3, 3, 32, 32)
    assert preset(16)(pictures(3)).shape == (3, 3, 16, 16)


def test_presets_do_what_their_names_say():
    x = pictures(200)
    assert torch.equal(augment.none()(x), augment.none()(x))
    weak = augment.weak().draw(400, 32, 32)
    assert (weak.brightness == 1).all() and not weak.gray.any() and not weak.solarize.any()
    assert (weak.box[:, 2] * weak.box[:, 3]).min() > 0.5 * 32 * 32
    assert not augment.simclr().draw(400, 32, 32).solarize.any()
    assert augment.byol().draw(4000, 32, 32).solarize.float().mean() == pytest.approx(0.1, abs=0.03)
    assert augment.simclr(crop=(0.5, 0.6)).crop == (0.5, 0.6) and augment.byol(solarize=0.0).solarize == 0.0


def test_multicrop_sees_large_views_and_then_small_ones():
    views = augment.multicrop(32, 16, 5)
    assert isinstance(views, MultiCrop)
    out = views(pictures(4))
    assert [tuple(v.shape) for v in out] == [(4, 3, 32, 32)] * 2 + [(4, 3, 16, 16)] * 5
    assert not torch.equal(out[0], out[1]) and not torch.equal(out[2], out[3])
    area = views.local_views.draw(2000, 32, 32).box[:, 2:].prod(1) / 32**2
    assert area.max() < 0.35 and area.min() < 0.08
    assert views.global_views.draw(2000, 32, 32).box[:, 2:].prod(1).min() / 32**2 > 0.25


def test_multicrop_has_changes_for_each_kind_of_view():
    views = augment.multicrop(32, 16, 2, global_changes={"solarize": 0.3},
                              local_changes={"crop": (0.1, 0.2), "flip": 0})
    plain = augment.multicrop(32, 16, 2)
    assert views.global_views.solarize == 0.3 and plain.global_views.solarize == plain.local_views.solarize == 0
    assert views.local_views.solarize == 0 and views.global_views.crop == plain.global_views.crop
    assert views.local_views.crop == (0.1, 0.2) and views.local_views.flip == 0 and views.global_views.flip == 0.5
    assert [v.shape[3] for v in views(pictures(2))] == [32, 32, 16, 16]


# --- sizes that follow the training -----------------------------------------------------------------------------------


def test_views_are_smaller_early_on():
    x, views = pictures(3), everything(32, early_size=16, early=0.6)
    assert views(x).shape == (3, 3, 32, 32), "until a training says where it stands, the size is the final one"
    for progress, size in ((0.0, 16), (0.599, 16), (0.6, 32), (1.0, 32), (0.1, 16)):
        views.set_progress(progress)
        assert views.current_size == size and views(x).shape == (3, 3, size, size), progress
        assert views.apply_draw(x, views.draw(3, 32, 32)).shape == (3, 3, size, size)
    assert not views.state_dict()


def test_early_views_are_the_same_views_in_fewer_pixels():
    x, views = pictures(8), Views(32, p_jitter=0, p_gray=0, early_size=16, early=0.5)
    draw = views.draw(8, 32, 32)
    views.set_progress(0.0)
    small = views.apply_draw(x, draw)
    assert torch.equal(small, Views(16, p_jitter=0, p_gray=0).apply_draw(x, draw))


def test_a_blur_is_as_wide_in_early_views_as_in_late_ones():
    views = Views(32, blur=1.0, sigma=(1.0, 2.0), early_size=16, early=0.5)
    late = views.draw(2000, 32, 32).sigma
    views.set_progress(0.0)
    early = views.draw(2000, 32, 32).sigma
    assert 1 <= late.min() < 1.05 and 1.95 < late.max() <= 2
    assert 0.5 <= early.min() < 0.525 and 0.975 < early.max() <= 1


def test_follow_tells_all_views_inside():
    views = nn.ModuleDict({
        "alone": Views(32, early_size=16, early=0.5),
        "several": augment.multicrop(32, 16, 2, {"early_size": 24, "early": 0.5}, {"early_size": 8, "early": 0.2}),
        "none": nn.Identity()})
    follow(views, 0.3)
    assert views["alone"].current_size == 16
    assert [v.shape[3] for v in views["several"](pictures(2))] == [24, 24, 16, 16]
    follow(views, 0.1)
    assert [v.shape[3] for v in views["several"](pictures(2))] == [24, 24, 8, 8]
    follow(views, 1.0)
    assert views["alone"].current_size == 32
    follow(nn.Identity(), 0.5)  # views that follow nothing


def test_multicrop_passes_the_progress_on():
    views = augment.multicrop(32, 16, 1, {"early_size": 24, "early": 0.5}, {"early_size": 8, "early": 0.5})
    views.set_progress(0.2)
    assert [v.shape[3] for v in views(pictures(2))] == [24, 24, 8]


def test_views_that_change_their_size_say_so():
    assert "early" not in repr(Views(32)) and "early_size=16, early=0.5" in repr(Views(32, early_size=16, early=0.5))


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("x", "error", "message"), [
    (torch.zeros(3, 32, 32), ValueError, r"shape \[N, 3, H, W\], got \[3, 32, 32\]: one picture needs a batch"),
    (torch.zeros(2, 1, 32, 32), ValueError, r"shape \[N, 3, H, W\], got \[2, 1, 32, 32\]"),
    (torch.zeros(2, 32, 32, 3), ValueError, r"got \[2, 32, 32, 3\]"),
    (torch.zeros(2, 3, 8, 8, dtype=torch.int64), TypeError, "uint8 in 0..255 or floats in .0, 1., got torch.int64"),
    (torch.zeros(2, 3, 8, 8, dtype=torch.bool), TypeError, "got torch.bool"),
    (torch.full((2, 3, 8, 8), 255.0), ValueError, "got values from 255 to 255: divide by 255"),
    (torch.full((2, 3, 8, 8), -0.5), ValueError, "got values from -0.5 to -0.5: .*do not normalise"),
    (torch.full((2, 3, 8, 8), torch.nan), ValueError, "got values from nan to nan"),
    (torch.zeros(2, 3, 8, 8).index_fill_(0, torch.tensor([1]), torch.inf), ValueError, "got values from 0 to inf"),
])
def test_pictures_that_are_none(x, error, message):
    for function in (as_float, augment.simclr()):
        with pytest.raises(error, match=message):
            function(x)


def test_floats_that_resampling_rounded_past_the_ends():
    view = augment.simclr()(torch.full((2, 3, 8, 8), 1.0005))
    assert view.max() <= 1
    with pytest.raises(ValueError, match="got values from 1 to 1"):
        augment.simclr()(torch.full((2, 3, 8, 8), 1.002))


@pytest.mark.parametrize(("arguments", "message"), [
    ({"crop": (0.0, 1.0)}, "crop must be two shares of the area"),
    ({"crop": (0.5, 0.2)}, r"got \(0.5, 0.2\)"),
    ({"crop": (0.5, 1.5)}, "crop must be"),
    ({"ratio": (0.0, 1.0)}, "ratio must be 0 < smallest <= largest"),
    ({"ratio": (2.0, 1.0)}, "ratio must be"),
    ({"flip": 1.5}, r"flip is a probability and must lie in \[0, 1\], got 1.5"),
    ({"p_jitter": -0.1}, "p_jitter is a probability"),
    ({"p_gray": math.nan}, "p_gray is a probability"),
    ({"blur": 2}, "blur is a probability"),
    ({"solarize": 7}, "solarize is a probability"),
    ({"jitter": (0.4, 0.4, 0.4)}, "jitter must be four strengths"),
    ({"jitter": (0.4, 0.4, 1.4, 0.1)}, "brightness, contrast and saturation at most 1"),
    ({"jitter": (0.4, 0.4, 0.4, 0.6)}, "hue at most 0.5 turns"),
    ({"jitter": (-0.4, 0.4, 0.4, 0.1)}, "jitter must be"),
    ({"size": 0}, "size must be a whole number of pixels, at least 1, got 0"),
    ({"size": 16.5}, "size must be a whole number of pixels"),
    ({"early_size": 0, "early": 0.5}, "early_size must be a whole number of pixels, at least 1, got 0"),
    ({"early_size": 12.5, "early": 0.5}, "early_size must be a whole number of pixels"),
    ({"early_size": 16, "early": 1.5}, r"early is a share of the training and must lie in \[0, 1\], got 1.5"),
    ({"early_size": 16, "early": math.nan}, "early is a share of the training"),
    ({"early": 0.5}, "got early=0.5 alone: give early_size too"),
    ({"sigma": (2.0, 0.1)}, "sigma must be 0 < smallest <= largest"),
    ({"sigma": (-1.0, 0.1)}, "sigma must be"),
])
def test_settings_that_make_no_sense(arguments, message):
    with pytest.raises(ValueError, match=message):
        Views(**arguments)


@pytest.mark.parametrize("progress", [-0.1, 1.1, math.nan])
def test_progress_that_is_no_share(progress):
    for views in (Views(32), augment.multicrop()):
        with pytest.raises(ValueError, match=rf"progress is the share .* must lie in \[0, 1\], got {progress}"):
            views.set_progress(progress)


def test_color_matrix_of_a_draw_in_which_nothing_happens_is_the_identity():
    matrix, shift = color_matrix(drawn(Views(32), 3), torch.rand(3, 3))
    torch.testing.assert_close(matrix, torch.eye(3).expand(3, 3, 3), rtol=0, atol=1e-6)
    assert shift.abs().max() == 0
