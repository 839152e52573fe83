"""VICReg's three terms beside slow loops and at limits known by hand."""

from __future__ import annotations

import pytest
import torch
from reference import losses
from reference.compare import assert_full_precision, assert_same

from course_lib.methods.cca.vicreg import off_diagonal_energy, vicreg_loss


def pair(n=6, d=4, scale=0.7):
    return [scale * torch.randn(n, d, dtype=torch.float64) + 0.3 for _ in range(2)]


@pytest.mark.parametrize(("invariance", "variance", "covariance"), [(25, 25, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1)])
@pytest.mark.parametrize("shape", [(6, 4), (2, 3), (5, 1)])
def test_beside_a_loop(shape, invariance, variance, covariance):
    def loss(z1, z2):
        return vicreg_loss(z1, z2, invariance, variance, covariance)

    def reference(z1, z2):
        return losses.vicreg(z1, z2, invariance, variance, covariance)

    assert_same(loss, reference, *pair(*shape))


def test_terms_add_up_to_the_loss():
    out = vicreg_loss(*pair(), 3, 5, 7)
    torch.testing.assert_close(out["loss"], 3 * out["invariance"] + 5 * out["variance"] + 7 * out["covariance"])


def test_a_collapse_costs_the_variance_term_and_nothing_else():
    point = torch.full((8, 5), 3.0, dtype=torch.float64)
    out = vicreg_loss(point, point)
    assert out["loss"].item() == pytest.approx(25 * 0.99)
    assert out["invariance"] == out["covariance"] == 0


def test_spread_and_uncorrelated_embeddings_that_agree_cost_nothing():
    z = 10 * torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
    assert vicreg_loss(z, z)["loss"].item() == pytest.approx(0, abs=1e-12)


def test_a_dimension_that_says_what_another_says_costs_its_covariance():
    line = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)  # unbiased variance 1
    z = torch.stack([line, line], 1)
    out = vicreg_loss(z, z)
    assert out["covariance"].item() == pytest.approx(2.0)  # two entries of 1, over two dimensions, in two views
    assert out["variance"].item() == pytest.approx(0)


def test_what_changes_nothing():
    z1, z2 = pair()
    loss, order, columns = vicreg_loss(z1, z2)["loss"], torch.randperm(6), torch.randperm(4)
    for changed in (vicreg_loss(z1[order], z2[order]), vicreg_loss(z2, z1), vicreg_loss(z1 + 5, z2 + 5),
                    vicreg_loss(z1[:, columns], z2[:, columns])):
        torch.testing.assert_close(changed["loss"], loss)
    assert vicreg_loss(2 * z1, 2 * z2)["loss"] != loss  # nothing is normalised: scale matters


def test_full_precision_inside_autocast():
    assert_full_precision(vicreg_loss, *(z.float() for z in pair(16, 8)))


def test_off_diagonal_energy_by_hand():
    assert off_diagonal_energy(torch.tensor([[5.0, 1.0], [2.0, 7.0]])) == 5


def test_lightlys_loss_is_the_same():
    theirs = pytest.importorskip("lightly.loss", reason="lightly is a dependency of development alone")
    z1, z2 = pair(16, 8)
    torch.testing.assert_close(vicreg_loss(z1, z2)["loss"], theirs.VICRegLoss()(z1, z2))
    torch.testing.assert_close(vicreg_loss(z1, z2, 2, 3, 4)["loss"],
                               theirs.VICRegLoss(lambda_param=2, mu_param=3, nu_param=4)(z1, z2))


def test_bad_input():
    z = torch.randn(4, 3)
    with pytest.raises(ValueError, match=r"one shape \[N, D\], got \[4, 3\] and \[4, 2\]"):
        vicreg_loss(z, z[:, :2])
    with pytest.raises(ValueError, match="needs at least 2 of them, got 1"):
        vicreg_loss(z[:1], z[:1])
