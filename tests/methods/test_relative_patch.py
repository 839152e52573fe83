"""Patches lie where they should, the right answer is the right one, and the shortcuts are shut or open as asked."""

from __future__ import annotations

import math

import pytest
import torch
from reference import relative_patch_reference as reference
from reference.compare import assert_full_precision, assert_same
from reference.training import accuracy_after
from torch import nn

import course_lib as cl
from course_lib.methods import Batch
from course_lib.methods.pretext.relative_patch import RelativePatch, drop_channels, position_loss
from course_lib.nets import Enlarged
from course_lib.recipes import tiny_convnet


def coordinates(n, size):
    """Pictures in [0, 1] whose red is the row, whose green is the column, and whose blue is grey."""
    at = torch.arange(size) / (size - 1)
    return torch.stack([at[:, None].expand(size, size), at.expand(size, size), torch.full((size, size), 0.5)]).repeat(
        n, 1, 1, 1)


class Means(nn.Module):
    """The mean of each channel, as a feature."""

    dim = 3

    def forward(self, x):
        return x.mean((2, 3))


class Compass(nn.Module):
    """Eight scores for the eight places from two mean coordinates, or scores that are all alike where `blind`."""

    def __init__(self, blind=False):
        super().__init__()
        self.blind = blind

    def forward(self, pairs):
        row, column = ((pairs[:, 3:5] - pairs[:, :2]) / 0.3).clamp(-1, 1).round().T + 1
        cell = (3 * row + column).long()
        scores = 100 * nn.functional.one_hot(cell - (cell > 4).long(), 8).float()
        return 0 * scores if self.blind else scores


def built(encoder=None, **options):
    return RelativePatch(encoder or Means(), views=nn.Identity(), **options)


def test_an_encoder_that_sees_where_a_patch_was_cut_has_all_answers_right():
    method = built(patch=4, jitter=1, drop_color=False)
    batch = Batch(coordinates(3, 24), torch.arange(3))
    method.head = Compass()
    out = method.loss(batch)
    assert out["accuracy"] == 1 and out["loss"] < 1e-6
    method.head = Compass(blind=True)
    out = method.loss(batch)
    assert out["loss"].item() == pytest.approx(math.log(8)) and out["accuracy"] == 0.125


def test_every_picture_is_asked_about_its_own_patches():
    method = built(patch=4, jitter=0, drop_color=False)
    seen = []
    method.head.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs))
    x = torch.rand(2, 3, 24, 24)
    method.loss(Batch(x, torch.arange(2)))
    means = [[x[i, :, r : r + 4, c : c + 4].mean((1, 2)) for r in (2, 10, 18) for c in (2, 10, 18)] for i in range(2)]
    wanted = [torch.cat([means[i][4], means[i][k]]) for i in range(2) for k in (0, 1, 2, 3, 5, 6, 7, 8)]
    torch.testing.assert_close(seen[0], torch.stack(wanted))


def test_gap_and_jitter_pixel_by_pixel():
    patches = built(patch=14, jitter=2, drop_color=False).patches(coordinates(300, 72))
    assert patches.shape == (300, 9, 3, 14, 14)
    row, column = (71 * patches[:, :, :2]).round().long().unbind(2)
    middle_row = torch.tensor([5, 29, 53]).repeat_interleave(3)  # of cells of 24: (24 − 14) / 2 on either side
    middle_column = torch.tensor([5, 29, 53]).repeat(3)
    assert (row[..., 0, 0] - middle_row).unique().tolist() == [-2, -1, 0, 1, 2]
    assert (column[..., 0, 0] - middle_column).unique().tolist() == [-2, -1, 0, 1, 2]
    gaps = column[:, 1, 0, 0] - column[:, 0, 0, -1] - 1
    assert gaps.min() == 6 and gaps.max() == 14


def test_without_a_gap_patches_touch_and_stay_where_they_are():
    patches = built(patch=14, jitter=2, gap=False, drop_color=False).patches(coordinates(50, 72))
    picture = patches.unflatten(1, (3, 3)).permute(0, 3, 1, 4, 2, 5).reshape(50, 3, 42, 42)
    assert torch.equal(picture, coordinates(50, 72)[:, :, 15:57, 15:57])  # the middle of the picture, nothing left out


def test_a_patch_keeps_one_channel_and_each_equally_often():
    x = torch.rand(200, 9, 3, 2, 2)
    kept = torch.tensor([[reference.kept_channel(a, b) for a, b in zip(before, after, strict=True)]
                         for before, after in zip(x, drop_channels(x), strict=True)])
    frequency = kept.flatten().bincount(minlength=3) / kept.numel()
    assert (frequency - 1 / 3).abs().max() < 4.5 * (2 / 9 / 1800) ** 0.5
    assert len(kept[:, :2].unique(dim=0)) == 9  # drawn for each patch by itself


def test_colors_are_dropped_unless_they_are_wanted():
    x, options = torch.rand(4, 3, 24, 24), {"patch": 6, "jitter": 0}
    colors = built(**options, drop_color=False).patches(x)
    assert torch.equal(colors[:, 0], x[:, :, 1:7, 1:7])
    gray = built(**options).patches(x)
    assert all(reference.kept_channel(a, b) is not None
               for a, b in zip(colors.flatten(0, 1), gray.flatten(0, 1), strict=True))


def test_loss_beside_a_loop():
    assert_same(position_loss, reference.position_loss, torch.randn(3, 8, 8, dtype=torch.float64))


def test_limits_by_hand():
    assert position_loss(torch.zeros(2, 8, 8)).item() == pytest.approx(math.log(8))
    assert position_loss(100 * torch.eye(8).expand(2, 8, 8)).item() == pytest.approx(0)


def test_full_precision_inside_autocast():
    assert_full_precision(position_loss, 5 * torch.randn(4, 8, 8))


@pytest.mark.parametrize("shape", [(8, 8), (2, 7, 8), (2, 8, 9)])
def test_scores_that_do_not_fit(shape):
    with pytest.raises(ValueError, match=r"8 places for each of 8 neighbours, \[N, 8, 8\], got \[.*in reading order"):
        position_loss(torch.zeros(shape))


def test_patches_that_do_not_fit_the_view():
    batch = Batch(torch.zeros(2, 3, 32, 32), torch.arange(2))
    with pytest.raises(ValueError, match="a crop of 8 pixels that moves by 2 either way does not fit a cell of 10"):
        built(jitter=2).loss(batch)
    with pytest.raises(ValueError, match="3×3 cells of 11 pixels does not fit a picture of 32×32"):
        built(patch=11, gap=False).loss(batch)


def test_it_learns_where_patches_lie():
    data = cl.load("toybox", limit=700)

    def held_out_accuracy(encoder):
        return accuracy_after(RelativePatch(encoder), data, epochs=10)

    torch.manual_seed(0)
    untrained = held_out_accuracy(Enlarged(tiny_convnet()).requires_grad_(False))  # only a head learns
    trained = held_out_accuracy(Enlarged(tiny_convnet()))
    assert trained > 0.25, f"{trained:.1%} of places right, where a guess has 12.5 %"
    assert trained > untrained + 0.03, f"{trained:.1%} of places right, and {untrained:.1%} with an untrained encoder"
