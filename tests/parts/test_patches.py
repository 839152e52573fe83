"""Patches in reading order, and masks that hide what they say."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from course_lib.parts import patchify, random_masking, unpatchify


@pytest.mark.parametrize(("shape", "patch"), [
    ((2, 3, 8, 8), 4), ((3, 3, 8, 12), 2), ((1, 1, 6, 6), 6), ((2, 5, 4, 4), 1)])
def test_patchify_is_torchs_unfold_with_channels_last(shape, patch):
    x = torch.randn(shape)
    unfolded = F.unfold(x, patch, stride=patch).mT  # each patch as (channel, row, column)
    wanted = unfolded.unflatten(2, (shape[1], patch * patch)).transpose(2, 3).flatten(2)
    assert torch.equal(patchify(x, patch), wanted)
    assert torch.equal(unpatchify(patchify(x, patch), patch, *shape[2:]), x)


def test_patches_come_in_reading_order():
    x = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]])
    assert patchify(x[None, None], 2)[0].tolist() == [[0] * 4, [1] * 4, [2] * 4, [3] * 4]


@pytest.mark.parametrize(("height", "width"), [(8, 9), (9, 8)])
def test_patches_that_do_not_tile(height, width):
    with pytest.raises(ValueError, match=f"patches of 4 pixels do not tile a picture of {height}×{width}: choose"):
        patchify(torch.zeros(1, 3, height, width), 4)


@pytest.mark.parametrize("shape", [(1, 5, 48), (1, 4, 47)])
def test_patches_that_make_no_picture(shape):
    with pytest.raises(ValueError, match=f"8×8 has 4 patches of 4×4 pixels, got {shape[1]} patches of {shape[2]} num"):
        unpatchify(torch.zeros(shape), 4, 8, 8)


@pytest.mark.parametrize(("length", "ratio", "visible"), [(64, 0.75, 16), (64, 0.5, 32), (9, 0.75, 2), (2, 0.5, 1)])
def test_masking_hides_the_same_number_everywhere(length, ratio, visible):
    keep, hidden, restore = random_masking(50, length, ratio)
    assert keep.shape == (50, visible) and hidden.shape == restore.shape == (50, length)
    assert (hidden.sum(1) == length - visible).all()
    assert not hidden.gather(1, keep).any()  # what is kept is not hidden
    assert all(len(set(row.tolist())) == visible for row in keep)


def test_restore_puts_visible_and_hidden_back_in_reading_order():
    keep, hidden, restore = random_masking(20, 16, 0.75)
    places = torch.arange(16).expand(20, -1)
    rest = restore.argsort(1)[:, keep.shape[1]:]
    assert torch.equal(rest.sort(1).values, places[hidden].view(20, -1))
    assert torch.equal(torch.cat([keep, rest], 1).gather(1, restore), places)


def test_every_patch_is_hidden_equally_often_and_each_picture_differently():
    _, hidden, _ = random_masking(4000, 16, 0.75)
    frequency = hidden.float().mean(0)
    assert (frequency - 0.75).abs().max() < 4.5 * (0.75 * 0.25 / 4000) ** 0.5
    assert len(hidden.unique(dim=0)) > 1500  # of 1820 possible masks


@pytest.mark.parametrize(("ratio", "visible"), [(0.0, 16), (1.0, 0), (0.98, 0)])
def test_masks_that_hide_nothing_or_everything(ratio, visible):
    with pytest.raises(ValueError, match=f"of 16 patches leaves {visible} visible: both sides need at least one"):
        random_masking(2, 16, ratio)
