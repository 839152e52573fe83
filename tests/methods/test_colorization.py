"""Colourization: bins, their weights, a distribution read as one colour, and an encoder that never sees the answer."""

from __future__ import annotations

import math

import pytest
import torch
from reference import colorization_reference as slow
from reference.compare import assert_full_precision, assert_same

import course_lib as cl
from course_lib import augment
from course_lib.methods.base import Batch
from course_lib.methods.pretext.colorization import (
    SCALE,
    Colorizer,
    Lightness,
    annealed_mean,
    bin_loss,
    color_bins,
    gray,
    lab_to_rgb,
    nearest_bin,
    rebalance,
    rgb_to_lab,
)
from course_lib.nets import convnet
from course_lib.recipes import tiny_convnet


def tiny(**options):
    return Colorizer(Lightness(convnet((8, 12), 16)), **options)


def batch(x):
    return Batch(x, torch.arange(len(x)))


def one_color(lab, n=2):
    return lab_to_rgb(torch.tensor(lab).view(1, 3, 1, 1).expand(n, 3, 32, 32))


def always(method, output):
    """The method's head gives these numbers at every place, whatever the picture."""
    with torch.no_grad():
        method.painter[-1].weight.zero_()
        method.painter[-1].bias.copy_(output)
    return method.eval()


# --- bins -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("grid", "some", "none"), [(20, (40.0, 40.0), (-80.0, -60.0)),
                                                      (10, (70.0, 60.0), (-50.0, -50.0))])
def test_bins_are_those_of_a_grid_that_have_a_color(grid, some, none):
    bins = color_bins(grid)
    assert torch.equal(bins, (bins / grid).round() * grid)
    assert len(bins.unique(dim=0)) == len(bins) and torch.equal(color_bins(grid), bins)
    assert len(bins) == {20: 75, 10: 259}[grid]
    known = set(map(tuple, bins.tolist()))
    assert (0.0, 0.0) in known and some in known and none not in known
    ab = rgb_to_lab(torch.rand(20, 3, 16, 16))[:, 1:]
    away = ab - bins[nearest_bin(ab, bins)].permute(0, 3, 1, 2)
    assert away.abs().max() < grid, "a colour has its own bin or, at the very edge of the gamut, the next"


def test_the_nearest_bin_beside_a_loop():
    bins, values = color_bins(20), 40 * torch.randn(2, 2, 4, 5)
    assert torch.equal(nearest_bin(values, bins), slow.nearest_bin(values, bins))
    assert torch.equal(nearest_bin(bins.T[None, :, :, None] + 9, bins)[0, :, 0], torch.arange(len(bins)))
    lightness = torch.arange(1.0, 100, 2)[:, None]
    values = torch.tensor([0.0, 1.9, 2.1, 100.0]).view(1, 1, 1, 4)
    assert nearest_bin(values, lightness).flatten().tolist() == [0, 0, 1, 49]


@pytest.mark.parametrize("uniform", [0.1, 0.5, 1.0])
def test_weights_have_mean_one_over_what_occurs(uniform):
    share = torch.tensor([0.7, 0.25, 0.05, 0.0], dtype=torch.float64)
    weights = rebalance(share, uniform)
    assert (share * weights).sum().item() == pytest.approx(1)
    if uniform == 1:
        assert torch.equal(weights, torch.ones_like(share))
    else:
        assert (weights.diff() > 0).all(), "the rarer the colour, the larger its weight"
        mixed = (1 - uniform) * share + uniform / 4
        torch.testing.assert_close(weights[0] / weights[2], mixed[2] / mixed[0])


@pytest.mark.parametrize("uniform", [0.0, -0.5, 1.5])
def test_weights_that_cannot_be(uniform):
    with pytest.raises(ValueError, match="uniform must be above 0 and at most 1"):
        rebalance(torch.full((4,), 0.25), uniform)


# --- the loss ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("uniform", [0.5, 1.0])
def test_loss_beside_a_loop(uniform):
    logits, target = torch.randn(3, 5, 2, 4, dtype=torch.float64), torch.randint(4, (3, 2, 4))
    assert_same(bin_loss, slow.bin_loss, logits, target, uniform=uniform)


@pytest.mark.parametrize("uniform", [0.2, 1.0])
def test_limits_by_hand(uniform):
    target = torch.randint(6, (2, 4, 4))
    assert bin_loss(torch.zeros(2, 6, 4, 4), target, uniform).item() == pytest.approx(math.log(6), rel=1e-5)
    right = torch.nn.functional.one_hot(target, 6).permute(0, 3, 1, 2).float()
    assert bin_loss(100 * right, target, uniform).item() == pytest.approx(0)


def test_a_rare_color_costs_more_where_it_is_missed():
    target = torch.zeros(1, 1, 8, dtype=torch.int64)
    target[0, 0, 0] = 1
    gradients = []
    for uniform in (0.5, 1.0):
        logits = torch.zeros(1, 2, 1, 8, requires_grad=True)
        bin_loss(logits, target, uniform).backward()
        gradients.append(logits.grad[0, 1, 0])
    balanced, plain = gradients
    assert -balanced[0] > -plain[0] and balanced[1] < plain[1]


def test_full_precision_inside_autocast():
    assert_full_precision(bin_loss, 5 * torch.randn(2, 6, 4, 4), torch.randint(6, (2, 4, 4)))


def test_a_regression_by_hand():
    method = always(tiny(target="regression", views=augment.none()), torch.tensor([0.2, -0.4]))
    out = method.loss(batch(one_color((60.0, 24.0, 12.0))))
    wanted = ((0.2 - 24 / SCALE) ** 2 + (-0.4 - 12 / SCALE) ** 2) / 2
    assert out["loss"].item() == pytest.approx(wanted, rel=1e-3) and out["accuracy"] == 0
    out = always(method, torch.tensor([24 / SCALE, 12 / SCALE])).loss(batch(one_color((60.0, 24.0, 12.0))))
    assert out["loss"] < 1e-6 and out["accuracy"] == 1


def test_the_right_bin_by_hand():
    method = tiny(views=augment.none())
    place = (method.bins == torch.tensor([20.0, -20.0])).all(1).nonzero().item()
    logits = torch.zeros(len(method.bins))
    out = always(method, logits).loss(batch(one_color((60.0, 24.0, -17.0))))
    assert out["loss"].item() == pytest.approx(math.log(len(method.bins)), rel=1e-5)
    logits[place] = 50
    out = always(method, logits).loss(batch(one_color((60.0, 24.0, -17.0))))
    assert out["loss"] < 1e-6 and out["accuracy"] == 1


# --- one colour out of a distribution ---------------------------------------------------------------------------------


def test_annealing_goes_from_the_mode_to_the_mean():
    bins = torch.tensor([[0.0, 0.0], [60.0, 0.0], [0.0, 80.0]], dtype=torch.float64)
    p = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    logits = (p.log() + 7).view(1, 3, 1, 1)  # a constant on top changes nothing

    def at(temperature):
        return annealed_mean(logits, bins, temperature).flatten()

    torch.testing.assert_close(at(1.0), p @ bins)
    torch.testing.assert_close(at(1e-3), bins[1])
    powers = p ** (1 / 0.38)
    torch.testing.assert_close(at(0.38), powers / powers.sum() @ bins)
    distances = torch.stack([(at(t) - bins[1]).norm() for t in (0.05, 0.2, 0.38, 0.7, 1.0)])
    assert (distances.diff() > 0).all(), "the hotter, the further from the mode"


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_temperatures_that_cannot_be(temperature):
    with pytest.raises(ValueError, match="temperature must be above 0"):
        tiny().colorize(torch.rand(1, 3, 32, 32), temperature)


def test_colors_are_painted_and_lightness_is_kept():
    method = tiny()
    place = (method.bins == torch.tensor([20.0, 20.0])).all(1).nonzero().item()
    logits = torch.zeros(len(method.bins))
    logits[place] = 50
    x = torch.empty(2, 1, 32, 32).uniform_(0.4, 0.7).expand(-1, 3, -1, -1)
    with torch.no_grad():
        lab = rgb_to_lab(always(method, logits).colorize(x))
    torch.testing.assert_close(lab[:, 0], rgb_to_lab(x)[:, 0], rtol=0, atol=0.05)
    torch.testing.assert_close(lab[:, 1:], torch.full_like(lab[:, 1:], 20), rtol=0, atol=0.05)

    regression = always(tiny(target="regression"), torch.tensor([0.0, 0.4]))
    with torch.no_grad():
        lab = rgb_to_lab(regression.colorize(x))
    torch.testing.assert_close(lab[:, 2], torch.full_like(lab[:, 2], 0.4 * SCALE), rtol=0, atol=0.05)


def test_a_distribution_sums_to_one_and_a_regression_has_none():
    method = tiny().eval()
    p = method.distribution(torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8))
    assert p.shape == (2, len(method.bins), 32, 32) and p.min() > 0
    torch.testing.assert_close(p.sum(1), torch.ones(2, 32, 32))
    with pytest.raises(ValueError, match="no distribution: build it with target='bins'"):
        tiny(target="regression").distribution(torch.rand(2, 3, 32, 32))


def test_a_target_that_is_none():
    with pytest.raises(ValueError, match=r"target must be 'bins' or 'regression', got 'l2': choose one"):
        tiny(target="l2")


# --- nobody sees the answer -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [Lightness, lambda encoder: encoder])
def test_no_color_reaches_the_prediction(wrap):
    method = Colorizer(wrap(convnet((8, 12), 16))).eval()
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(method.predict(x), method.predict(gray(x)), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(method.colorize(x), method.colorize(gray(x)), rtol=0, atol=1e-3)


def test_the_encoder_that_is_kept_sees_at_evaluation_what_it_saw_in_training():
    inner = convnet((8, 12), 16).eval()
    encoder, x = Lightness(inner), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert encoder.dim == 16 and torch.equal(encoder(x), inner(gray(x)))
        assert torch.equal(encoder.maps(x), inner.maps(gray(x)))
        assert [m.shape for m in encoder.stages(x)] == [m.shape for m in inner.stages(x)]
        torch.testing.assert_close(encoder(gray(x)), encoder(x), rtol=1e-4, atol=1e-4)
        assert (inner(x) - encoder(x)).abs().max() > 1e-2, "the encoder inside does see colours"
        bytes_ = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
        torch.testing.assert_close(encoder(bytes_), encoder(bytes_.float() / 255))
    assert Colorizer(encoder).encoder is encoder


# --- it learns --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data():
    return cl.load("toybox", limit=700)


def trained(data, **options):
    torch.manual_seed(0)
    method = Colorizer(Lightness(tiny_convnet()), **options)
    cl.fit(method, data.pretrain, epochs=4, batch_size=32, lr=5e-3, precision="float32", device="cpu")
    return method.eval()


def test_it_knows_more_than_which_colors_are_common_and_paints_more_color_than_a_regression(data):
    x = data.test.x.float() / 255
    bins, regression = trained(data), trained(data, target="regression")
    with torch.no_grad():
        logits = bins.predict(x)
        ab = torch.nn.functional.adaptive_avg_pool2d(rgb_to_lab(x)[:, 1:], logits.shape[2:])
        target = nearest_bin(ab, bins.bins)
        share = torch.bincount(target.flatten(), minlength=len(bins.bins)) / target.numel()
        common = (share * rebalance(share)).clamp(min=1e-9).log()  # of all constants, the one that costs the least
        cost, blind = (bin_loss(z, target).item() for z in (logits, common.view(1, -1, 1, 1).expand_as(logits)))
        assert cost < 0.9 * blind, f"costs {cost:.3f}, and the shares of all colours {blind:.3f}"

        error = (SCALE * regression.predict(x) - ab).square().mean().item()
        spread = (ab - ab.mean((0, 2, 3), keepdim=True)).square().mean().item()
        assert error < 0.9 * spread, f"costs {error:.1f}, and the mean colour {spread:.1f}"

        chroma = [rgb_to_lab(method.colorize(x))[:, 1:].norm(dim=1).mean().item() for method in (bins, regression)]
    assert chroma[0] > 1.2 * chroma[1], f"colours as strong as {chroma[0]:.1f} by bins, {chroma[1]:.1f} by regression"
