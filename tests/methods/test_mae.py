"""MAE asks for hidden patches alone, shows the encoder visible ones alone, and puts all back in their places."""

from __future__ import annotations

import pytest
import torch
from reference import losses
from reference.compare import assert_full_precision, assert_same

from course_lib import augment
from course_lib.methods import MAE, Batch
from course_lib.methods.masked.mae import masked_loss, normalize_patches
from course_lib.nets import convnet, vit
from course_lib.parts import patchify, random_masking


def tiny(**options):
    return MAE(vit(dim=16, depth=1, heads=2), width=8, depth=1, heads=2, **options)


def some(n=3, length=5, numbers=4):
    output, target = torch.randn(2, n, length, numbers, dtype=torch.float64)
    return output, target, torch.rand(n, length) < 0.6


def test_loss_beside_a_loop():
    assert_same(masked_loss, losses.masked, *some())


def test_visible_patches_cost_nothing_and_get_no_gradient():
    output, target, hidden = some()
    loss = masked_loss(output.requires_grad_(), target, hidden)
    loss.backward()
    assert (output.grad[~hidden] == 0).all() and (output.grad[hidden] != 0).all()
    changed = torch.where(hidden[:, :, None], output, 100.0)
    assert masked_loss(changed, target, hidden) == loss


def test_limits_by_hand():
    _, target, hidden = some()
    assert masked_loss(target, target, hidden) == 0
    assert masked_loss(target + 3, target, hidden).item() == pytest.approx(9)
    normal = normalize_patches(torch.rand(4, 6, 48, dtype=torch.float64))
    everything = torch.ones(4, 6, dtype=torch.bool)
    # Painting grey costs the normalised patch's own (biased) variance.
    assert masked_loss(torch.zeros_like(normal), normal, everything).item() == pytest.approx(47 / 48, abs=1e-3)


def test_full_precision_inside_autocast():
    output, target, hidden = some()
    assert_full_precision(masked_loss, output.float(), target.float(), hidden)


def test_bad_input():
    output, target, hidden = some()
    with pytest.raises(ValueError, match=r"and a mask \[N, L\] are needed, got \[3, 5, 4\], \[3, 5, 3\]"):
        masked_loss(output, target[:, :, :3], hidden)
    with pytest.raises(ValueError, match=r"and \[3, 4\]"):
        masked_loss(output, target, hidden[:, :4])
    with pytest.raises(ValueError, match="no patch is hidden, so there is nothing to predict: raise the mask ratio"):
        masked_loss(output, target, torch.zeros_like(hidden))
    with pytest.raises(TypeError, match=r"needs nets.vit\(\), got ConvNet"):
        MAE(convnet((8,), 16))
    with pytest.raises(ValueError, match="hiding 100% of 64 patches leaves 0 visible"):
        tiny(mask_ratio=1.0).predict_patches(torch.rand(1, 3, 32, 32))


def test_patches_are_normalized_one_by_one():
    patches = 5 * torch.rand(3, 4, 48, dtype=torch.float64) + torch.arange(4.0)[:, None]
    normal = normalize_patches(patches)
    assert normal.mean(2).abs().max() < 1e-9 and (normal.var(2) - 1).abs().max() < 1e-5
    assert normalize_patches(torch.full((1, 1, 48), 0.5)).abs().max() == 0  # a flat patch does not divide by zero


def test_the_encoder_sees_a_quarter_of_the_patches_and_predicts_all():
    method, seen = tiny(), []
    method.encoder.blocks[0].register_forward_pre_hook(lambda block, args: seen.append(args[0].shape))
    output, hidden = method.predict_patches(torch.rand(4, 3, 32, 32))
    assert seen == [(4, 17, 16)]  # a class token and 16 of 64 patches
    assert output.shape == (4, 64, 48) and (hidden.sum(1) == 48).all()


def test_hidden_pixels_change_no_prediction():
    method, x, noise = tiny(), torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    torch.manual_seed(4)
    output, hidden = method.predict_patches(x)
    mask = hidden.view(2, 1, 8, 8).repeat_interleave(4, 2).repeat_interleave(4, 3)
    torch.manual_seed(4)
    again, _ = method.predict_patches(torch.where(mask, noise, x))
    assert torch.equal(output, again)


def test_decode_puts_every_patch_in_its_place():
    method = tiny()
    method.decoder, method.predict = torch.nn.Identity(), torch.nn.Identity()
    keep, hidden, restore = random_masking(3, 64, 0.75)
    tokens = torch.randn(3, 17, 16)
    out = method.decode(tokens, restore) - method.positions
    narrow = method.narrow(tokens)[:, 1:]
    torch.testing.assert_close(out.gather(1, keep[:, :, None].expand(-1, -1, 8)), narrow)
    torch.testing.assert_close(out[hidden], method.mask_token[0].expand(3 * 48, -1))


@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_the_target_is_the_view_in_patches(norm_pix_loss, monkeypatch):
    seen = {}
    monkeypatch.setattr(MAE, "objective", lambda self, output, target, hidden: seen.update(target=target))
    x = torch.rand(2, 3, 32, 32)
    tiny(norm_pix_loss=norm_pix_loss, views=augment.none()).loss(Batch(x, torch.arange(2)))
    patches = patchify(x, 4)
    wanted = normalize_patches(patches) if norm_pix_loss else patches
    torch.testing.assert_close(seen["target"], wanted, rtol=1e-3, atol=1e-4)


def test_pictures_of_another_size():
    with pytest.raises(ValueError, match=r"takes pictures of 32×32 pixels, got 48×48: .* nets.vit\(size=48\)"):
        MAE(vit(dim=16, depth=1, heads=2)).predict_patches(torch.rand(2, 3, 48, 48))
