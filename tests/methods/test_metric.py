"""Siamese pairs, triplets and SupCon: beside slow loops, at limits known by hand, and what their methods do."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from reference import losses
from reference.compare import assert_full_precision, assert_same
from torch import nn

from course_lib.methods import Batch, Siamese, SimCLR, SupCon, Triplet
from course_lib.methods.contrastive.simclr import nt_xent
from course_lib.methods.metric.siamese import contrastive_pair_loss
from course_lib.methods.metric.supcon import supcon_loss
from course_lib.methods.metric.triplet import semi_hard_triplets, triplet_loss, triplet_terms
from course_lib.nets import convnet

LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 3])


class Plain(nn.Module):
    """Pictures as they are, as floats."""

    def forward(self, x):
        return x / 255


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


# --- pairs

@pytest.mark.parametrize("margin", [0.5, 1.0, 4.0])
def test_pairs_beside_a_loop(margin):
    same = torch.tensor([True, False, True, False, False])
    assert_same(contrastive_pair_loss, losses.contrastive_pair, draw(5, 3), draw(5, 3), same, margin=margin)


def test_pairs_at_limits_by_hand():
    z = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=torch.float64)
    near, far = z[:1], z[1:]
    yes, no = torch.tensor([True]), torch.tensor([False])
    assert contrastive_pair_loss(near, far, yes).item() == pytest.approx(25)
    assert contrastive_pair_loss(near, far, no).item() == 0  # five apart, further than the margin of 1
    assert contrastive_pair_loss(near, far, no, margin=7).item() == pytest.approx(4)
    assert contrastive_pair_loss(near, near, no, margin=2).item() == pytest.approx(4, abs=1e-4)
    assert contrastive_pair_loss(near, near, yes).item() == 0


def test_pairs_that_coincide_have_a_finite_gradient():
    for same in (True, False):
        z = torch.zeros(3, 2, requires_grad=True)
        contrastive_pair_loss(z, z.clone(), torch.full((3,), same)).backward()
        assert z.grad.isfinite().all()


def test_pairs_full_precision_and_bad_input():
    same = torch.tensor([True, False, False])
    assert_full_precision(contrastive_pair_loss, torch.randn(3, 4), torch.randn(3, 4), same)
    with pytest.raises(ValueError, match=r"of each of the 3 pairs whether it has one label, got \[2\]"):
        contrastive_pair_loss(draw(3, 4), draw(3, 4), same[:2])
    with pytest.raises(ValueError, match=r"one shape \[N, D\]"):
        contrastive_pair_loss(draw(3, 4), draw(3, 5), same)
    for margin in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=f"margin must be positive, got {margin}"):
            contrastive_pair_loss(draw(3, 4), draw(3, 4), same, margin)


def test_both_kinds_of_pairs_count_the_same_however_many_there_are():
    method = Siamese(convnet((8,), 16), dim=4, margin=30.0, views=Plain()).eval()
    x = torch.randint(256, (7, 3, 32, 32), dtype=torch.uint8)
    out = method.loss(Batch(x, y=LABELS))
    z = method.head(method.encoder(x / 255)).double()
    pairs = [(i, j) for i in range(7) for j in range(i)]
    terms = {}
    for same in (True, False):
        some = [(i, j) for i, j in pairs if (LABELS[i] == LABELS[j]) == same]
        flags = torch.full((len(some),), same)
        terms[same] = contrastive_pair_loss(*(torch.stack([z[p[s]] for p in some]) for s in (0, 1)), flags, 30.0)
    assert len([p for p in pairs if LABELS[p[0]] == LABELS[p[1]]]) == 4  # of 21
    assert out["together"].item() == pytest.approx(terms[True].item(), rel=1e-4)
    assert out["apart"].item() == pytest.approx(terms[False].item(), rel=1e-4)
    assert out["loss"].item() == pytest.approx((terms[True] + terms[False]).item() / 2, rel=1e-4)


@pytest.mark.parametrize("y", [[0, 0, 0], [0, 1, 2]])
def test_a_batch_of_one_kind_of_pairs_still_teaches(y):
    method = Siamese(convnet((8,), 16), dim=4, margin=100.0)
    out = method(Batch(torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8), y=torch.tensor(y)))
    assert out["loss"].isfinite() and out["loss"] > 0


# --- triplets

@pytest.mark.parametrize("margin", [0.2, 1.5])
def test_triplets_beside_a_loop(margin):
    z = draw(7, 3)
    assert_same(triplet_loss, losses.triplet, z, LABELS, margin=margin)
    unit = F.normalize(z, dim=1)
    assert list(zip(*(t.tolist() for t in semi_hard_triplets(unit, LABELS)), strict=True)) == losses.triplets(z, LABELS)


def test_the_negative_is_the_nearest_that_is_further_than_the_positive():
    def at(*degrees):
        angle = torch.tensor(degrees, dtype=torch.float64).deg2rad()
        return torch.stack([angle.cos(), angle.sin()], 1)

    y = torch.tensor([0, 0, 1, 1, 1])
    # From 0°, its positive lies at 20°: a negative at 10° is too hard, 30° is semi-hard, 90° is easy.
    z = at(0, 20, 10, 30, 90)
    found = {(a, p): n for a, p, n in zip(*(t.tolist() for t in semi_hard_triplets(z, y)), strict=True)}
    assert found[0, 1] == 3
    # Where all negatives are nearer than the positive, the furthest of them.
    assert {(a, p): n for a, p, n in zip(*(t.tolist() for t in semi_hard_triplets(at(0, 90, 10, 30, 60), y)),
                                         strict=True)}[0, 1] == 4


def test_triplets_at_limits_by_hand():
    apart = torch.eye(3, dtype=torch.float64)[[0, 0, 1, 1]]
    y = torch.tensor([0, 0, 1, 1])
    assert triplet_loss(apart, y).item() == 0  # positives at 0, negatives at √2
    same = torch.ones(4, 3, dtype=torch.float64)
    assert triplet_loss(same, y, 0.3).item() == pytest.approx(0.3)  # collapsed: nothing tells anything apart
    assert len(triplet_terms(apart, y, 0.2)) == 4
    for labels in (torch.arange(4), torch.zeros(4, dtype=torch.int64)):  # no positive at all, no negative at all
        z = same.clone().requires_grad_()
        loss = triplet_loss(z, labels)
        loss.backward()
        assert loss.item() == 0 and z.grad.abs().sum() == 0


def test_triplets_do_not_feel_lengths_and_keep_full_precision():
    z = draw(7, 3)
    torch.testing.assert_close(triplet_loss(z, LABELS), triplet_loss((torch.rand(7, 1) + 0.1) * z, LABELS))
    assert_full_precision(triplet_loss, torch.randn(7, 16), LABELS)


def test_triplets_bad_input():
    with pytest.raises(ValueError, match=r"need a label each, \[N\], got \[7, 3\] and \[6\]"):
        triplet_loss(draw(7, 3), LABELS[:6])
    for margin in (0.0, math.nan):
        with pytest.raises(ValueError, match=f"margin must be positive, got {margin}: 0.2 is usual"):
            triplet_loss(draw(7, 3), LABELS, margin)


def test_which_share_of_triplets_still_teaches_is_logged():
    method = Triplet(convnet((8,), 16), dim=4, margin=0.1, views=Plain()).eval()
    x = torch.randint(256, (7, 3, 32, 32), dtype=torch.uint8)
    out = method(Batch(x, y=LABELS))
    terms = triplet_terms(method.head(method.encoder(x / 255)), LABELS, 0.1)
    assert out["active"].item() == pytest.approx((terms > 0).float().mean().item())
    assert method(Batch(x, y=torch.arange(7)))["active"] == 0


# --- SupCon

@pytest.mark.parametrize("mean", ["outside", "inside"])
@pytest.mark.parametrize(("views", "temperature"), [(1, 0.1), (2, 0.1), (3, 1.0)])
def test_supcon_beside_a_loop(views, temperature, mean):
    assert_same(supcon_loss, losses.supcon, draw(7, views, 4), LABELS, temperature=temperature, mean=mean)


def test_without_two_pictures_of_a_class_supcon_is_nt_xent():
    z = draw(6, 2, 4)
    for mean in ("outside", "inside"):
        torch.testing.assert_close(supcon_loss(z, torch.arange(6), 0.3, mean), nt_xent(z[:, 0], z[:, 1], 0.3))


def test_supcon_at_limits_by_hand():
    y = torch.tensor([0, 0, 1, 1])
    z = torch.eye(2, dtype=torch.float64)[y][:, None].expand(4, 2, 2)  # classes at a right angle, each a point
    # Of seven candidates three are positives at cosine 1 and four negatives at 0.
    wanted = math.log(3 + 4 * math.exp(-1 / 0.5))
    assert supcon_loss(z, y, 0.5).item() == pytest.approx(wanted)
    assert supcon_loss(z, y, 0.5, "inside").item() == pytest.approx(wanted)
    same = torch.ones(4, 2, 3, dtype=torch.float64)
    assert supcon_loss(same, y).item() == pytest.approx(math.log(7))


def test_inside_the_logarithm_is_never_more_and_its_near_positives_have_most_of_the_say():
    z = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [-1.0, -0.2]], dtype=torch.float64)[:, None]
    y = torch.tensor([0, 0, 0, 1])
    assert supcon_loss(z, y, 0.5, "inside") < supcon_loss(z, y, 0.5)  # Jensen's inequality, as in the paper's section 3
    pulls = {}
    for mean in ("outside", "inside"):
        leaf = z.clone().requires_grad_()
        supcon_loss(leaf, y, 0.5, mean).backward()
        pulls[mean] = leaf.grad[2, 0].norm()  # the positive that is far away
    assert pulls["inside"] < pulls["outside"]


def test_supcon_full_precision_and_bad_input():
    assert_full_precision(supcon_loss, torch.randn(7, 2, 16), LABELS, temperature=0.07)
    with pytest.raises(ValueError, match=r"need a label a picture, \[N\], got \[7, 4\] and \[7\]: stack views"):
        supcon_loss(draw(7, 4), LABELS)
    with pytest.raises(ValueError, match="no view has a positive in this batch: give two views"):
        supcon_loss(draw(4, 1, 3), torch.arange(4))
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        supcon_loss(draw(7, 2, 3), LABELS, 0)
    with pytest.raises(ValueError, match="mean must be 'outside' or 'inside' of the logarithm, got 'out'"):
        supcon_loss(draw(7, 2, 3), LABELS, 0.1, "out")


def test_supcon_of_labels_that_are_all_different_is_simclr():
    x, y = torch.randint(256, (5, 3, 32, 32), dtype=torch.uint8), torch.arange(5)
    torch.manual_seed(0)
    told = SupCon(convnet((8,), 16), dim=4, temperature=0.3).eval()
    torch.manual_seed(0)
    plain = SimCLR(convnet((8,), 16), dim=4, temperature=0.3).eval()
    found = []
    for method in (told, plain):
        torch.manual_seed(1)
        found.append(method(Batch(x, y=y))["loss"])
    torch.testing.assert_close(*found)
