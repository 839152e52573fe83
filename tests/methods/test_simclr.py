"""NT-Xent beside a slow loop, at limits known by hand, and SimCLR's projectors."""

from __future__ import annotations

import math

import pytest
import torch
from reference import losses
from reference.compare import assert_full_precision, assert_same
from torch import nn

from course_lib.methods import SimCLR
from course_lib.methods.contrastive.simclr import nt_xent
from course_lib.nets import convnet


def pair(n=7, d=5, noise=1.0):
    z1 = torch.randn(n, d, dtype=torch.float64)
    return z1, z1 + noise * torch.randn(n, d, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 2.0])
@pytest.mark.parametrize("n", [2, 7])
def test_beside_a_loop(n, temperature):
    assert_same(nt_xent, losses.nt_xent, *pair(n), temperature=temperature)


@pytest.mark.parametrize("n", [2, 8, 32])
def test_random_embeddings_cost_the_log_of_the_candidates(n):
    z1, z2 = torch.randn(2, n, 20_000, dtype=torch.float64)
    assert nt_xent(z1, z2).item() == pytest.approx(math.log(2 * n - 1), abs=0.02)


def test_limits_by_hand():
    z = torch.eye(6, dtype=torch.float64)  # pairs alike, everything else at a right angle
    for t in (0.1, 0.5):
        assert nt_xent(z, z, t).item() == pytest.approx(math.log(1 + 10 * math.exp(-1 / t)))
    same = torch.ones(6, 4, dtype=torch.float64)  # collapsed: every candidate is as good as the right one
    assert nt_xent(same, same).item() == pytest.approx(math.log(11))
    two = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])  # two opposite pictures: one right answer at 1, two wrong at -1
    assert nt_xent(two, two, 0.5).item() == pytest.approx(math.log(1 + 2 * math.exp(-4)))


def test_what_changes_nothing():
    z1, z2 = pair()
    loss, order = nt_xent(z1, z2), torch.randperm(7)
    turn = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    lengths = torch.rand(7, 1, dtype=torch.float64) + 0.1
    for name, changed in {
        "lengths of the embeddings": nt_xent(lengths * z1, 3 * z2),
        "order of the pictures": nt_xent(z1[order], z2[order]),
        "which view is first": nt_xent(z2, z1),
        "a rotation of the space": nt_xent(z1 @ turn, z2 @ turn),
    }.items():
        torch.testing.assert_close(changed, loss, msg=f"changed by {name}")
    assert nt_xent(z1, z2[order]) != loss  # but the pairs matter


def test_each_step_against_the_gradient_pulls_pairs_together():
    z1, z2 = (z.requires_grad_() for z in pair())
    nt_xent(z1, z2).backward()
    assert nt_xent(z1 - 0.1 * z1.grad, z2 - 0.1 * z2.grad) < nt_xent(z1, z2)
    assert (z1.grad * z1).sum(1).abs().max() < 1e-9  # a cosine does not feel lengths


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_full_precision_inside_autocast(temperature):
    assert_full_precision(nt_xent, *(z.float() for z in pair(16, 32, noise=0.1)), temperature=temperature)


def test_large_embeddings_do_not_overflow():
    z1, z2 = (5e3 * z for z in pair(8, 16))
    assert nt_xent(z1.half(), z2.half(), 0.05).isfinite()


def test_lightlys_loss_is_the_same():
    theirs = pytest.importorskip("lightly.loss", reason="lightly is a dependency of development alone")
    z1, z2 = pair(12, 8)
    for temperature in (0.1, 0.5):
        torch.testing.assert_close(nt_xent(z1, z2, temperature), theirs.NTXentLoss(temperature)(z1, z2))


def test_bad_input():
    z = torch.randn(4, 3)
    with pytest.raises(ValueError, match=r"one shape \[N, D\], got \[4, 3\] and \[3, 3\]"):
        nt_xent(z, z[:3])
    with pytest.raises(ValueError, match="needs at least 2 of them, got 1: use a larger batch"):
        nt_xent(z[:1], z[:1])
    for temperature in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=f"temperature must be positive, got {temperature}"):
            nt_xent(z, z, temperature)


def test_projectors():
    def layers(projector):
        return [type(m) for m in SimCLR(convnet((8,), 16), dim=4, projector=projector).projector.modules()]

    assert layers("none") == [nn.Identity]
    assert layers("linear")[1:] == [nn.Linear]
    assert layers("mlp")[1:] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    with pytest.raises(ValueError, match="projector must be one of mlp, linear, none, got 'deep'"):
        layers("deep")
