"""Split-brain: each half sees its own part of the picture, predicts the other's, and neither sees its answer."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from reference import colorization_reference as slow

import course_lib as cl
from course_lib import augment
from course_lib.methods.base import Batch
from course_lib.methods.pretext.colorization import bin_loss, gray, lab_to_rgb, nearest_bin, rgb_to_lab
from course_lib.methods.pretext.split_brain import SplitBrain, SplitEncoder, colors
from course_lib.nets import convnet


def halves(widths=(8, 12), dim=16):
    return SplitEncoder(convnet(widths, dim), convnet(widths, dim))


def moderate(n=3, size=32):
    """Pictures whose Lab can be changed a good way before any colour is cut off."""
    lab = torch.cat([torch.empty(n, 1, size, size).uniform_(45, 55), torch.empty(n, 2, size, size).uniform_(-9, 19)], 1)
    return lab_to_rgb(lab), lab


def test_the_colors_of_a_picture_lie_around_one_half():
    x, lab = moderate()
    seen = colors(x)
    torch.testing.assert_close(seen, torch.cat([torch.full_like(lab[:, :1], 0.5), 0.5 + lab[:, 1:] / 220], 1),
                               rtol=0, atol=1e-5)
    assert (colors(gray(x)) - 0.5).abs().max() < 1e-4
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3).T.reshape(1, 3, 2, 4)
    assert colors(corners).min() > 0 and colors(corners).max() < 1  # the strongest colours that there are


def test_each_half_sees_its_own_part_alone():
    encoder, (x, lab) = halves().eval(), moderate()
    other_colors = lab_to_rgb(lab * torch.tensor([1.0, -1.0, -1.0]).view(3, 1, 1))
    other_lightness = lab_to_rgb(lab + torch.tensor([10.0, 0.0, 0.0]).view(3, 1, 1))
    with torch.no_grad():
        z, by_colors, by_lightness = (encoder.maps(v).split(16, 1) for v in (x, other_colors, other_lightness))
    torch.testing.assert_close(by_colors[0], z[0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(by_lightness[1], z[1], rtol=1e-3, atol=1e-4)
    assert (by_colors[1] - z[1]).abs().max() > 1e-2, "other colours change the half that sees colours"
    assert (by_lightness[0] - z[0]).abs().max() > 1e-2, "another lightness changes the half that sees lightness"


def test_features_are_both_halves_side_by_side():
    encoder, x = halves().eval(), torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        z, maps, stages = encoder(x), encoder.maps(x), encoder.stages(x)
        torch.testing.assert_close(z, torch.cat([encoder.lightness(x), encoder.colors(x)], 1))
        torch.testing.assert_close(encoder(x.float() / 255), z)
    assert encoder.dim == z.shape[1] == 32 and torch.equal(maps, stages[-1])
    assert [tuple(m.shape[1:]) for m in stages] == [(16, 16, 16), (24, 8, 8), (32, 8, 8)]


def test_two_halves_are_as_large_as_one_whole():
    def weights(module):
        return sum(p.numel() for p in module.parameters())

    two, one = SplitEncoder(*(convnet((24, 48, 136), 256) for _ in range(2))), convnet()
    assert two.dim == one.dim and weights(two) == pytest.approx(weights(one), rel=0.02)


def test_the_loss_by_hand():
    method = SplitBrain(halves(), views=augment.none())
    x = lab_to_rgb(torch.tensor([60.5, 24.0, -17.0]).view(1, 3, 1, 1).expand(2, 3, 32, 32))
    batch = Batch(x, torch.arange(2))
    with torch.no_grad():
        for painter in (method.color_painter, method.lightness_painter):
            painter[-1].weight.zero_()
            painter[-1].bias.zero_()
        out = method.loss(batch)
        assert out["loss_colors"].item() == pytest.approx(math.log(len(method.color_bins)), rel=1e-5)
        assert out["loss_lightness"].item() == pytest.approx(math.log(12), rel=1e-5)
        method.color_painter[-1].bias[(method.color_bins == torch.tensor([20.0, -20.0])).all(1)] = 50
        method.lightness_painter[-1].bias[7] = 50  # of twelve bins, the one from 58.3 to 66.7
        out = method.loss(batch)
    assert out["loss"] < 1e-5 and out["accuracy"] == 1 and out["accuracy_lightness"] == 1


@pytest.mark.parametrize("uniform", [0.5, 1.0])
def test_the_loss_beside_a_loop(uniform):
    method, (x, lab) = SplitBrain(halves(), uniform=uniform, views=augment.none(16)), moderate(2, 16)
    out = method.loss(Batch(x, torch.arange(2)))
    to_ab, to_l = method.predict(x)
    wanted = [slow.bin_loss(logits.detach().double(), slow.nearest_bin(values, bins), share).item()
              for logits, values, bins, share in ((to_ab, lab[:, 1:], method.color_bins, uniform),
                                                  (to_l, lab[:, :1], method.lightness_bins, 1.0))]
    # Colours that went to pixels and back may cross from one bin to the next.
    assert out["loss_colors"].item() == pytest.approx(wanted[0], rel=1e-3)
    assert out["loss_lightness"].item() == pytest.approx(wanted[1], rel=1e-3)
    assert out["loss"].item() == pytest.approx(sum(wanted), rel=1e-3)


def test_no_loss_trains_the_half_that_sees_its_answer():
    method, (x, _) = SplitBrain(halves()), moderate(4)
    for name, own, other in (("loss_colors", "lightness", "colors"), ("loss_lightness", "colors", "lightness")):
        method.zero_grad()
        method.loss(Batch(x, torch.arange(4)))[name].backward()
        assert all(p.grad is None for p in getattr(method.encoder, other).parameters())
        assert all(p.grad.isfinite().all() for p in getattr(method.encoder, own).parameters())


def test_an_encoder_without_halves():
    with pytest.raises(TypeError, match=r"needs SplitEncoder\(lightness_half, color_half\), got ConvNet: give it two"):
        SplitBrain(convnet((8,), 16))


def test_too_few_levels():
    with pytest.raises(ValueError, match="L needs at least 2 bins to tell apart, got levels=1: 12 is usual here"):
        SplitBrain(halves(), levels=1)


def test_the_levels_lie_in_the_middle_of_equal_bins():
    assert SplitBrain(halves(), levels=4).lightness_bins.flatten().tolist() == [12.5, 37.5, 62.5, 87.5]


def test_both_halves_learn_more_than_what_is_common():
    data = cl.load("toybox", limit=700)
    method = SplitBrain(halves((12, 24, 48), 64))
    cl.fit(method, data.pretrain, epochs=5, batch_size=32, lr=5e-3, precision="float32", device="cpu")
    x = data.test.x.float() / 255
    with torch.no_grad():
        predictions = method.eval().predict(x)
        lab = F.adaptive_avg_pool2d(rgb_to_lab(x), predictions[0].shape[2:])
    answers = nearest_bin(lab[:, 1:], method.color_bins), nearest_bin(lab[:, :1], method.lightness_bins)
    for what, logits, answer in zip(("colors", "lightness"), predictions, answers, strict=True):
        common = torch.bincount(answer.flatten(), minlength=logits.shape[1]).clamp(min=1e-6).log()
        cost, blind = (bin_loss(z, answer, 1.0).item() for z in (logits, common.view(1, -1, 1, 1).expand_as(logits)))
        assert cost < 0.95 * blind, f"{what} cost {cost:.3f}, and their shares alone {blind:.3f}"


def test_bins_of_lightness_all_weigh_the_same():
    dark = torch.rand(6, 3, 32, 32) * torch.tensor([0.2, 0.2, 0.2, 0.2, 0.2, 1.0]).view(-1, 1, 1, 1)
    losses = []
    for uniform in (0.1, 1.0):
        torch.manual_seed(0)
        method = SplitBrain(SplitEncoder(convnet((8, 12), 16), convnet((8, 12), 16)), uniform=uniform,
                            views=augment.none())
        losses.append(method.eval()(Batch(dark)))
    assert losses[0]["loss_lightness"] == losses[1]["loss_lightness"]
    assert losses[0]["loss_colors"] != losses[1]["loss_colors"]
