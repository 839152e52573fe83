"""Pictures are spoilt as asked, and what is asked for is the clean one."""

from __future__ import annotations

import pytest
import torch

import course_lib as cl
from course_lib import augment
from course_lib.methods import Batch
from course_lib.methods.reconstruction.denoising import KINDS, DenoisingAutoencoder, corrupt
from course_lib.nets import Decoder, convnet
from course_lib.recipes import tiny_convnet


def gray(value=0.5, n=40, size=32):
    return torch.full((n, 3, size, size), value)


def test_gaussian_noise_has_the_deviation_asked_for_in_each_channel_by_itself():
    noise = corrupt(gray(), 0.1) - 0.5  # five deviations from either end: nothing to clip
    assert noise.mean().abs() < 2e-3 and noise.std().item() == pytest.approx(0.1, rel=0.02)
    together = torch.corrcoef(noise.transpose(0, 1).flatten(1))
    assert (together - torch.eye(3)).abs().max() < 0.03


def test_gaussian_noise_is_clipped_and_the_middle_of_a_picture_is_not():
    spoilt = corrupt(gray(1.0), 0.3)
    assert spoilt.min() >= 0 and spoilt.max() == 1
    assert (spoilt == 1).float().mean().item() == pytest.approx(0.5, abs=0.01)  # all that would be brighter than white


def test_masking_turns_a_share_of_whole_pixels_black_and_leaves_the_rest():
    x = 0.1 + 0.9 * torch.rand(40, 3, 32, 32)
    spoilt = corrupt(x, 0.3, "masking")
    hit = (spoilt == 0).all(1, keepdim=True)
    assert torch.equal(spoilt, x * ~hit)
    assert hit.float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert (hit[0] != hit[1]).any()  # each picture by itself


def test_salt_and_pepper_is_half_black_half_white():
    x = 0.1 + 0.8 * torch.rand(40, 3, 32, 32)
    spoilt = corrupt(x, 0.3, "salt_and_pepper")
    black, white = ((spoilt == value).all(1, keepdim=True) for value in (0, 1))
    assert torch.equal(spoilt, torch.where(black | white, white.float(), x))
    assert black.float().mean().item() == pytest.approx(0.15, abs=0.01)
    assert white.float().mean().item() == pytest.approx(0.15, abs=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_noise_at_its_limits_and_by_seed(kind):
    x = torch.rand(4, 3, 8, 8, dtype=torch.float64)
    assert torch.equal(corrupt(x, 0.0, kind), x)
    everything = corrupt(x, 1.0, kind)
    assert everything.dtype == x.dtype and (everything != x).all()
    torch.manual_seed(5)
    first, other = corrupt(x, 0.4, kind), corrupt(x, 0.4, kind)
    torch.manual_seed(5)
    assert torch.equal(corrupt(x, 0.4, kind), first) and not torch.equal(other, first)


@pytest.mark.parametrize(("noise", "kind", "message"), [
    (0.3, "pepper", "one of gaussian, masking, salt_and_pepper, got 'pepper'"),
    (-0.1, "gaussian", r"noise must lie in \[0, 1\], got -0.1: it is a deviation"),
    (30, "masking", r"noise must lie in \[0, 1\], got 30: .* a share of the pixels"),
])
def test_noise_that_makes_no_sense(noise, kind, message):
    with pytest.raises(ValueError, match=message):
        corrupt(gray(n=1), noise, kind)
    with pytest.raises(ValueError, match=message):
        DenoisingAutoencoder(convnet((8,), 16), noise=noise, kind=kind)


def test_the_encoder_sees_the_spoilt_picture_and_the_clean_one_is_the_target():
    method = DenoisingAutoencoder(convnet((8,), 16), noise=0.4, kind="masking", views=augment.none())
    x, seen = 0.1 + 0.9 * torch.rand(4, 3, 32, 32), []
    method.reconstruct = lambda spoilt: seen.append(spoilt) or spoilt
    loss = method.loss(Batch(x, torch.arange(4)))
    hit = (seen[0] == 0).all(1, keepdim=True)
    assert hit.float().mean().item() == pytest.approx(0.4, abs=0.05)
    assert loss.item() == pytest.approx((x * hit).square().mean().item(), rel=1e-4)  # what copying would cost


def test_the_decoder_fits_the_views_and_may_be_given():
    x = torch.rand(2, 3, 16, 16)
    assert DenoisingAutoencoder(convnet((8,), 16), views=augment.weak(16)).reconstruct(x).shape == x.shape
    given = Decoder(16, 8)
    assert DenoisingAutoencoder(convnet((8,), 16), given).decoder is given


def test_it_learns_to_repair_what_it_has_never_seen():
    data = cl.load("toybox", limit=700)
    method = DenoisingAutoencoder(tiny_convnet(), noise=0.5, kind="masking")
    cl.fit(method, data.pretrain, epochs=4, batch_size=64, lr=3e-3, precision="float32", device="cpu")
    x = data.test.x.float() / 255
    spoilt = corrupt(x, 0.5, "masking")
    with torch.no_grad():
        cost = (method.eval().reconstruct(spoilt) - x).square().mean()
    blind = (x - x.mean(0)).square().mean()  # the best that can be painted without looking
    assert cost < 0.9 * blind, f"costs {cost:.4f}, the mean picture {blind:.4f}"
