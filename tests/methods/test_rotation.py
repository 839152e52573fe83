"""Rotations are exact, their labels right, and a blind guess costs log 4."""

from __future__ import annotations

import math

import pytest
import torch
from reference import losses
from reference.compare import assert_full_precision, assert_same
from torch import nn

from course_lib.methods import Batch, RotNet
from course_lib.methods.pretext.rotation import rotate4, rotation_loss


def test_rotations_by_hand():
    x, labels = rotate4(torch.tensor([[[[1, 2], [3, 4]]]]))
    assert x[:, 0].tolist() == [[[1, 2], [3, 4]], [[2, 4], [1, 3]], [[4, 3], [2, 1]], [[3, 1], [4, 2]]]
    assert labels.tolist() == [0, 1, 2, 3]


def test_all_pictures_are_seen_at_all_four_rotations():
    x = torch.rand(5, 3, 6, 6)
    turned, labels = rotate4(x)
    assert turned.shape == (20, 3, 6, 6) and labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5 + [3] * 5
    for picture, label, source in zip(turned, labels.tolist(), x.repeat(4, 1, 1, 1), strict=True):
        assert torch.equal(torch.rot90(picture, -label, (1, 2)), source)


@pytest.mark.parametrize("shape", [(2, 3, 8, 9), (3, 8, 8)])
def test_pictures_that_cannot_turn(shape):
    with pytest.raises(ValueError, match=r"square pictures \[N, C, S, S\], got \[.*crop them first"):
        rotate4(torch.zeros(shape))


def test_loss_beside_a_loop():
    logits, labels = torch.randn(12, 4, dtype=torch.float64), torch.arange(12) % 4
    assert_same(rotation_loss, losses.classification, logits, labels)


def test_limits_by_hand():
    labels = torch.arange(4)
    assert rotation_loss(torch.zeros(4, 4), labels).item() == pytest.approx(math.log(4))
    assert rotation_loss(100 * torch.eye(4), labels).item() == pytest.approx(0)


def test_full_precision_inside_autocast():
    assert_full_precision(rotation_loss, 5 * torch.randn(8, 4), torch.arange(8) % 4)


class Corners(nn.Module):
    """The mean brightness of the four corners, as a feature."""

    dim = 4

    def forward(self, x):
        x = x.mean(1)
        return torch.stack([x[:, 0, 0], x[:, -1, 0], x[:, -1, -1], x[:, 0, -1]], 1)


def test_an_encoder_that_sees_the_rotation_has_all_of_them_right():
    method = RotNet(Corners(), views=nn.Identity())
    x = torch.zeros(3, 3, 8, 8)
    x[:, :, 0, 0] = 1  # upright, the light corner is the upper left one; a quarter turn moves it to the lower left
    with torch.no_grad():
        method.classifier.weight.copy_(100 * torch.eye(4))
        method.classifier.bias.zero_()
        out = method.loss(Batch(x, torch.arange(3)))
        assert out["accuracy"] == 1 and out["loss"] < 1e-6
        method.classifier.weight.zero_()
        out = method.loss(Batch(x, torch.arange(3)))
    assert out["loss"].item() == pytest.approx(math.log(4)) and out["accuracy"] == 0.25
