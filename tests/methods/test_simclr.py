"""NT-Xent beside a slow loop, at limits known by hand, and SimCLR's projectors and groups."""

from __future__ import annotations

import math

import pytest
import torch
from reference import losses
from reference.compare import assert_full_precision, assert_same
from torch import nn

from course_lib import fit, recipes
from course_lib.data.types import Batch, Images
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


def small(**options):
    return SimCLR(convnet((8,), 16), dim=4, **options)


@pytest.mark.parametrize(("n", "group", "sizes"), [
    (8, 4, (4, 4)), (8, 2, (2, 2, 2, 2)), (7, 3, (4, 3)), (11, 4, (6, 5)), (8, 8, (8,)), (7, 5, (7,)), (3, 5, (3,)),
    (8, None, (8,))])
def test_a_group_holds_its_own_pictures_against_each_other_and_those_left_over_join(n, group, sizes):
    z1, z2 = pair(n)
    wanted = [nt_xent(a, b, 0.3) for a, b in zip(z1.split(sizes), z2.split(sizes), strict=True)]
    torch.testing.assert_close(small(temperature=0.3, group=group).objective(z1, z2), sum(wanted) / len(wanted))


def test_pictures_of_other_groups_are_no_negatives():
    z1, z2 = (z.requires_grad_() for z in pair(8))
    method = small(group=4)
    first = nt_xent(z1[:4], z2[:4], method.temperature)
    elsewhere, = torch.autograd.grad(method.objective(z1, z2) - first / 2, z1)
    assert not elsewhere[:4].any() and elsewhere[4:].any()
    assert method.objective(z1[[4, 5, 6, 7, 0, 1, 2, 3]], z2[[4, 5, 6, 7, 0, 1, 2, 3]]) == method.objective(z1, z2)
    assert method.objective(z1[[0, 4, 1, 5, 2, 6, 3, 7]], z2[[0, 4, 1, 5, 2, 6, 3, 7]]) != method.objective(z1, z2)


@pytest.mark.parametrize("group", [2, 3, 16])
def test_a_group_that_knows_nothing_costs_the_log_of_its_candidates(group):
    z1, z2 = torch.randn(2, 48, 20_000, dtype=torch.float64)
    assert small(group=group).objective(z1, z2).item() == pytest.approx(math.log(2 * group - 1), abs=0.02)


def test_groups_change_the_loss_and_nothing_else():
    torch.manual_seed(0)
    whole = small().eval()
    parts = small(group=2).eval()
    parts.load_state_dict(whole.state_dict())
    batch, losses, projections = Batch(torch.randint(256, (6, 3, 8, 8), dtype=torch.uint8)), [], []
    for method in (whole, parts):
        method.objective = lambda z1, z2, own=method.objective: projections.append((z1, z2)) or own(z1, z2)
        torch.manual_seed(1)
        losses.append(method.loss(batch))
    assert all(torch.equal(a, b) for a, b in zip(*projections, strict=True))
    torch.testing.assert_close(losses[0], nt_xent(*projections[0]))
    assert losses[1] < losses[0], "two negatives make an easier question than ten"


@pytest.mark.parametrize("group", [1, 0, -3, 2.5])
def test_a_group_needs_two_pictures(group):
    with pytest.raises(ValueError, match=f"at least 2 pictures to tell apart, got {group}: None takes all"):
        small(group=group)


def test_a_batch_smaller_than_a_group_is_refused_before_training():
    images = Images(torch.randint(256, (40, 3, 8, 8), dtype=torch.uint8))
    assert small(group=16).smallest_batch == 16 and small().smallest_batch == 2
    with pytest.raises(ValueError, match="SimCLR needs at least 16 pictures"):
        fit(small(group=16), images, epochs=1, batch_size=8)


def test_the_recipes_ask_for_as_many_negatives_as_they_say():
    def group(name):
        return recipes.build_method(recipes.recipe(name)).group

    assert group("simclr_short") is None and recipes.recipe("simclr_short").fit["batch_size"] == 256
    for name, negatives in {"simclr_few_negatives": 30, "simclr_two_negatives": 2}.items():
        assert 2 * group(name) - 2 == negatives and recipes.TITLES[name] == f"{negatives} negatives"
        assert recipes.recipe(name).fit == recipes.recipe("simclr_short").fit and len(recipes.seeds(name)) == 3
