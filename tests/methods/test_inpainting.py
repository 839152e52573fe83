"""Holes are where they should be, only they count, and painter and discriminator each get their own gradient."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from reference import inpainting_reference as slow
from reference.compare import assert_full_precision, assert_same

import course_lib as cl
from course_lib import augment
from course_lib.methods import Batch
from course_lib.methods.pretext.inpainting import (
    ContextEncoder,
    adversarial_loss,
    block_mask,
    center_mask,
    discriminator,
    discriminator_loss,
    hole_loss,
)
from course_lib.nets import convnet
from course_lib.recipes import tiny_convnet


def tiny(**options):
    return ContextEncoder(convnet((8,), 16), **{"views": augment.none(), **options})


def some(n=3, height=4, width=5):
    output, target = torch.rand(2, n, 3, height, width, dtype=torch.float64)
    return output, target, torch.rand(n, 1, height, width) < 0.4


def pictures(n=6):
    return Batch(torch.randint(256, (n, 3, 32, 32), dtype=torch.uint8), torch.arange(n))


# --- masks ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("height", "width"), [(32, 32), (8, 12), (7, 5)])
def test_the_hole_in_the_middle_pixel_by_pixel(height, width):
    mask = center_mask(2, height, width)
    assert mask.shape == (2, 1, height, width) and mask.dtype == torch.bool
    for row in range(height):
        for column in range(width):
            wanted = slow.in_the_middle_half(row, height) and slow.in_the_middle_half(column, width)
            assert (mask[:, 0, row, column] == wanted).all(), f"pixel ({row}, {column})"


def test_the_hole_in_the_middle_is_a_quarter_and_as_far_from_every_edge():
    mask = center_mask(1, 32, 32)
    assert mask.float().mean() == 0.25
    assert torch.equal(mask, mask.flip(2)) and torch.equal(mask, mask.flip(3)) and torch.equal(mask, mask.mT)


def test_one_block_is_one_rectangle_that_goes_everywhere():
    mask = block_mask(3000, 12, 16, blocks=1)[:, 0]
    rows, columns = mask.any(2), mask.any(1)
    assert torch.equal(mask, rows[:, :, None] & columns[:, None, :])
    assert (rows.sum(1) == 3).all() and (columns.sum(1) == 4).all()
    tops, lefts = rows.int().argmax(1), columns.int().argmax(1)
    assert (tops.bincount(minlength=10) > 200).all() and len(tops.bincount()) == 10  # 300 each, on average
    assert (lefts.bincount(minlength=13) > 150).all() and len(lefts.bincount()) == 13  # 231 each, on average


def test_blocks_hide_about_a_quarter_and_differ_from_picture_to_picture():
    mask = block_mask(1000, 32, 32)
    share = mask.float().mean((1, 2, 3))
    assert mask.shape == (1000, 1, 32, 32) and mask.dtype == torch.bool
    assert share.mean().item() == pytest.approx(0.26, abs=0.02)
    assert share.min() >= 64 / 1024 and share.max() <= 5 * 64 / 1024
    assert len(mask.flatten(1).unique(dim=0)) == 1000


def test_masks_by_seed():
    torch.manual_seed(3)
    first, other = block_mask(4, 32, 32), block_mask(4, 32, 32)
    torch.manual_seed(3)
    assert torch.equal(block_mask(4, 32, 32), first) and not torch.equal(other, first)


# --- losses -----------------------------------------------------------------------------------------------------------

def test_losses_beside_loops():
    real, painted = 3 * torch.randn(2, 7, dtype=torch.float64)
    assert_same(hole_loss, slow.hole, *some())
    assert_same(discriminator_loss, slow.discriminator, real, painted)
    assert_same(adversarial_loss, slow.adversarial, painted)


def test_limits_by_hand():
    _, target, mask = some()
    assert hole_loss(target, target, mask) == 0
    assert hole_loss(target + 0.5, target, mask).item() == pytest.approx(0.25)
    assert hole_loss(torch.where(mask, target, 9.0), target, mask) == 0  # what is not hidden is not asked for
    nothing, sure = torch.zeros(4), torch.full((4,), 100.0)
    assert discriminator_loss(nothing, nothing).item() == pytest.approx(2 * math.log(2))
    assert discriminator_loss(sure, -sure).item() == pytest.approx(0)
    assert discriminator_loss(-sure, sure).item() == pytest.approx(200)
    assert adversarial_loss(nothing).item() == pytest.approx(math.log(2))
    assert adversarial_loss(sure).item() == pytest.approx(0)
    assert adversarial_loss(-sure).item() == pytest.approx(100)


def test_full_precision_inside_autocast():
    output, target, mask = some()
    assert_full_precision(hole_loss, output.float(), target.float(), mask)
    assert_full_precision(discriminator_loss, 5 * torch.randn(8), 5 * torch.randn(8))
    assert_full_precision(adversarial_loss, 5 * torch.randn(8))


def test_bad_input():
    output, target, mask = some()
    with pytest.raises(ValueError, match=r"and a mask \[N, 1, H, W\] are needed, got \[3, 3, 4, 5\], \[2, 3, 4, 5\]"):
        hole_loss(output, target[:2], mask)
    with pytest.raises(ValueError, match=r"and \[3, 4, 5\]"):
        hole_loss(output, target, mask[:, 0])
    with pytest.raises(ValueError, match="the mask hides nothing, so there is nothing to paint"):
        hole_loss(output, target, torch.zeros_like(mask))
    with pytest.raises(ValueError, match="mask must be 'center' or 'blocks', got 'middle'"):
        tiny(mask="middle")
    for weight in (1, -0.1):
        with pytest.raises(ValueError, match=rf"adversarial, .* must lie in \[0, 1\), got {weight}"):
            tiny(adversarial=weight)


# --- the method -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("mask", ["center", "blocks"])
def test_hidden_pixels_change_nothing_that_is_painted(mask):
    method, x, other = tiny(mask=mask).eval(), torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    hidden = method.mask(2, 32, 32)
    painted = method.inpaint(x, hidden)
    assert torch.equal(method.inpaint(torch.where(hidden, other, x), hidden)[hidden.expand_as(x)],
                       painted[hidden.expand_as(x)])
    assert torch.equal(painted[~hidden.expand_as(x)], x[~hidden.expand_as(x)])
    assert painted.min() >= 0 and painted.max() <= 1
    assert not torch.equal(method.generate(other, hidden), method.generate(x, hidden))  # the rest does


def test_the_hole_is_what_the_encoder_calls_zero():
    method, seen = tiny(), []
    method.encoder.stem.register_forward_pre_hook(lambda stem, args: seen.append(args[0]))
    x, hidden = torch.rand(2, 3, 32, 32), center_mask(2, 32, 32)
    method.generate(x, hidden)
    method.encoder(x)
    holed, whole = seen
    assert (holed * hidden == 0).all() and torch.equal(holed * ~hidden, whole * ~hidden)


def test_a_painter_that_is_right_has_no_squared_error_and_cannot_be_told_from_the_picture():
    method, batch = tiny(mask="center"), pictures()
    method.generate = lambda x, mask: torch.where(mask, x, 7.0)  # right in the hole, nonsense around it
    out = method.loss(batch)
    logits = method.discriminator(method.encoder.normalize(batch.x) * center_mask(6, 32, 32))
    assert out["l2"] == 0
    torch.testing.assert_close(out["discriminator"], discriminator_loss(logits, logits))
    torch.testing.assert_close(out["adversarial"], adversarial_loss(logits))


def test_without_an_adversary_there_is_no_discriminator():
    method = tiny(adversarial=0)
    assert not [key for key in method.state_dict() if "discriminator" in key]
    out = method.loss(pictures())
    assert out.keys() == {"loss", "l2"} and out["loss"] == out["l2"]


def test_each_player_gets_the_gradient_of_its_own_loss_and_no_other():
    """Beside the usual way: two losses, two backward passes, as two optimizers would have them."""
    method, batch, weight = tiny(mask="center", adversarial=0.25).double(), pictures(), 0.25
    method.views.forward = lambda x: x.double() / 255
    usual = copy.deepcopy(method)
    method.loss(batch)["loss"].backward()

    x, mask = batch.x.double() / 255, center_mask(6, 32, 32)
    painted = usual.decoder(usual.encoder(torch.where(mask, usual.encoder.mean, x)))

    def judge(picture):
        return usual.discriminator(torch.where(mask, (picture - usual.encoder.mean) / 0.25, 0))

    found = discriminator_loss(judge(x), judge(painted.detach()))
    painter = [*usual.encoder.parameters(), *usual.decoder.parameters()]
    cost = (1 - weight) * hole_loss(painted, x, mask) + weight * adversarial_loss(judge(painted))
    wanted = [*torch.autograd.grad(cost, painter, retain_graph=True),
              *torch.autograd.grad(found, list(usual.discriminator.parameters()))]
    got = [*method.encoder.parameters(), *method.decoder.parameters(), *method.discriminator.parameters()]
    assert len(got) == len(list(method.parameters()))
    for p, gradient in zip(got, wanted, strict=True):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-9, atol=1e-13)
    # The adversary is a real part of the painter's gradient, or the comparison above would say little.
    alone = torch.autograd.grad((1 - weight) * hole_loss(painted, x, mask), painter)
    assert any((p.grad - gradient).norm() > 0.01 * gradient.norm() for p, gradient in zip(got, alone, strict=False))


@pytest.mark.parametrize("name", ["adversarial", "discriminator"])
def test_what_each_loss_does_not_reach(name):
    method = tiny(adversarial=0.25)
    method.loss(pictures())[name].backward()
    reached = {key.split(".")[0] for key, p in method.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {"adversarial": {"encoder", "decoder"}, "discriminator": {"discriminator"}}[name]


def test_the_discriminator_judges_each_picture_by_itself_and_any_size():
    judge, x = discriminator(), torch.randn(5, 3, 32, 32)
    torch.testing.assert_close(judge(x)[:2], judge(x[:2]))
    assert discriminator()(torch.randn(2, 3, 16, 16)).shape == (2,)


@pytest.fixture(scope="module")
def data():
    return cl.load("toybox", limit=700)


@pytest.mark.parametrize(("mask", "adversarial"), [("center", 0.001), ("blocks", 0)])
def test_it_learns_to_paint_from_what_is_around_the_hole(mask, adversarial, data):
    method = ContextEncoder(tiny_convnet(), mask=mask, adversarial=adversarial)
    cl.fit(method, data.pretrain, epochs=5, batch_size=64, lr=3e-3, precision="float32", device="cpu")
    x = data.test.x.float() / 255
    hidden = method.mask(len(x), 32, 32)
    with torch.no_grad():
        cost = hole_loss(method.eval().inpaint(x, hidden), x, hidden)
    blind = hole_loss(x.mean(0).expand_as(x), x, hidden)  # the best that can be painted without looking
    assert cost < 0.9 * blind, f"costs {cost:.4f}, the mean picture {blind:.4f}"
