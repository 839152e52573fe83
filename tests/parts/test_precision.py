"""Losses widen half precision and leave autocast; embeddings are looked at before they are compared."""

from __future__ import annotations

import pytest
import torch

from course_lib.parts import check_pair, full_precision


@full_precision
def product(a, b, *, factor=None, scale=1.0):
    """What the wrapped function sees: dtypes and the precision of a matrix product."""
    factor = torch.ones((), dtype=a.dtype) if factor is None else factor
    return a @ b.T * factor * scale


@pytest.mark.parametrize(("dtype", "wanted"), [
    (torch.bfloat16, torch.float32), (torch.float16, torch.float32), (torch.float32, torch.float32),
    (torch.float64, torch.float64)])
def test_half_precision_is_widened_and_the_rest_stays(dtype, wanted):
    a, b, factor = torch.randn(4, 6).to(dtype), torch.randn(5, 6).to(dtype), torch.tensor(2.0, dtype=dtype)
    exact = 6 * a.to(wanted) @ b.to(wanted).T
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = product(a, b, factor=factor, scale=3.0)
        assert torch.is_autocast_enabled("cpu")
    assert inside.dtype == wanted
    torch.testing.assert_close(inside, exact, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(product(a, b=b, factor=factor, scale=3.0), exact, rtol=1e-6, atol=1e-6)


def test_gradients_come_back_in_the_precision_of_the_input():
    a = torch.randn(4, 6, dtype=torch.bfloat16, requires_grad=True)
    product(a, torch.randn(4, 6)).sum().backward()
    assert a.grad.dtype == torch.bfloat16 and a.grad.abs().sum() > 0


def test_integers_are_no_half_precision_and_names_survive():
    labels = full_precision(lambda logits, y: y)(torch.zeros(2, dtype=torch.bfloat16), torch.tensor([1]))
    assert labels.dtype == torch.int64
    assert product.__name__ == "product" and "dtypes" in product.__doc__


def test_pairs_that_do_not_fit():
    z = torch.zeros(4, 3)
    check_pair(z, z)
    check_pair(z[:1], z[:1], smallest=1)
    for z1, z2 in ((z, z[:3]), (z, z[:, :2]), (z[0], z[0]), (z[None], z[None])):
        with pytest.raises(ValueError, match=r"two embeddings of one shape \[N, D\], got \["):
            check_pair(z1, z2)
    with pytest.raises(ValueError, match="needs at least 2 of them, got 1: use a larger batch"):
        check_pair(z[:1], z[:1])
