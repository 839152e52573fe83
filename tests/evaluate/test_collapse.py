"""Measures of collapse, at limits known by hand and beside slow loops in float64."""

import math

import pytest
import torch

from course_lib.evaluate import alignment, feature_std, rankme, uniformity


def cloud(n=200, d=10, shift=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0)) + shift


def test_rankme_of_the_identity_is_its_dimension_and_of_one_direction_is_one():
    assert rankme(torch.eye(12)) == pytest.approx(12)
    assert rankme(torch.eye(12).repeat(5, 1)) == pytest.approx(12)
    assert rankme(torch.arange(1.0, 30)[:, None] * cloud(1, 7)) == pytest.approx(1, abs=1e-3)
    assert rankme(torch.ones(9, 4)) == pytest.approx(1)
    assert rankme(torch.zeros(9, 4)) == 0


def test_rankme_of_two_directions_by_hand():
    z = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    p = (3 / 4, 1 / 4)
    assert rankme(z) == pytest.approx(math.exp(-sum(q * math.log(q) for q in p)))


@pytest.mark.parametrize("shape", [(200, 10), (10, 200)])
def test_rankme_is_that_of_the_singular_values_and_ignores_scale(shape):
    z = cloud(*shape)
    s = torch.linalg.svdvals(z.double())
    p = s / s.sum()
    assert rankme(z) == pytest.approx((-(p * p.log()).sum()).exp().item(), rel=1e-9)
    assert rankme(1000 * z) == pytest.approx(rankme(z), rel=1e-5)


@pytest.mark.parametrize(("shift", "t"), [(0.0, 2), (3.0, 2), (0.0, 0.5)])
@pytest.mark.parametrize("chunk", [1, 7, 60, 1024])
def test_uniformity_beside_a_loop(shift, t, chunk):
    z = cloud(60, shift=shift)
    unit = torch.nn.functional.normalize(z.double(), dim=1)
    pairs = [math.exp(-t * (unit[i] - unit[j]).square().sum()) for i in range(60) for j in range(i + 1, 60)]
    assert uniformity(z, t, chunk=chunk) == pytest.approx(math.log(sum(pairs) / len(pairs)), rel=1e-5, abs=1e-6)


def test_uniformity_at_its_limits():
    assert uniformity(torch.ones(20, 5)) == pytest.approx(0, abs=1e-5)
    assert uniformity(torch.zeros(20, 5)) == 0
    assert uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(-8)
    assert uniformity(cloud(500, 2000)) == pytest.approx(-4, abs=0.05)


def test_alignment_by_hand():
    z = cloud()
    assert alignment(z, 3 * z) == pytest.approx(0, abs=1e-6)
    assert alignment(z, -z) == pytest.approx(4)
    assert alignment(torch.tensor([[1.0, 0.0], [2.0, 0.0]]), torch.tensor([[0.0, 5.0], [1.0, 0.0]])) == pytest.approx(1)


def test_feature_std_is_one_when_even_and_zero_when_collapsed():
    assert feature_std(cloud(5000, 64)) == pytest.approx(1, abs=0.01)
    assert feature_std(torch.ones(50, 8)) == pytest.approx(0, abs=1e-6)
    assert feature_std(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(2**0.5 / 2)
    assert 0.01 < feature_std(cloud(500, 64, shift=5.0)) < 0.3


@pytest.mark.parametrize("measure", [uniformity, feature_std])
def test_one_row_has_no_spread(measure):
    with pytest.raises(ValueError, match="features must have at least 2 rows, got 1"):
        measure(torch.ones(1, 4))


@pytest.mark.parametrize("measure", [rankme, uniformity, feature_std])
def test_nan_is_named(measure):
    z = cloud()
    z[4, 1] = torch.nan
    with pytest.raises(ValueError, match="features must be finite, but 1 of 200 rows"):
        measure(z)


def test_views_that_do_not_fit():
    with pytest.raises(ValueError, match="both views must be of the same pictures, got 200 and 199"):
        alignment(cloud(), cloud()[1:])
    with pytest.raises(ValueError, match="both views' features must have the same dimension, got 10 and 9"):
        alignment(cloud(), cloud()[:, 1:])
