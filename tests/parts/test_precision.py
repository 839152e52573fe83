"""Losses widen half precision and leave autocast; embeddings are looked at before they are compared."""

from __future__ import annotations

import pytest
import torch

from course_lib.parts import check_pair, full_precision
from course_lib.parts.precision import _tensors


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


@full_precision
def spread(views, names=(), *, weights=()):
    """A loss of several views: the sum of their products, as a tensor, and what came."""
    total = sum(a @ b.T for a, b in views) * sum(weights)
    return total, [t.dtype for pair in views for t in pair], names


@pytest.mark.parametrize(("dtype", "wanted"), [
    (torch.bfloat16, torch.float32), (torch.float16, torch.float32), (torch.float32, torch.float32),
    (torch.float64, torch.float64)])
def test_lists_and_tuples_of_tensors_are_widened_too(dtype, wanted):
    views = [(torch.randn(4, 6).to(dtype), torch.randn(5, 6).to(dtype)) for _ in range(3)]
    weights = [torch.tensor(2.0, dtype=dtype), 1.0]
    exact = 3 * sum(a.to(wanted) @ b.to(wanted).T for a, b in views)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, seen, names = spread(views, ["a", 1, None], weights=weights)
    assert total.dtype == wanted and set(seen) == {wanted} and names == ["a", 1, None]
    torch.testing.assert_close(total, exact, rtol=1e-6, atol=1e-6)
    assert views[0][0].dtype == dtype and isinstance(views[0], tuple), "what was given is left alone"


def test_gradients_reach_the_tensors_of_a_list():
    views = [(torch.randn(4, 6, dtype=torch.bfloat16, requires_grad=True), torch.randn(5, 6)) for _ in range(2)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        spread(views, weights=(2.0,))[0].sum().backward()
    for a, b in views:
        assert a.grad.dtype == torch.bfloat16
        torch.testing.assert_close(a.grad.float(), (2 * b.sum(0)).expand(4, 6), rtol=1e-2, atol=1e-2)


def test_tensors_are_found_at_every_depth():
    # By the first of them autocast is switched off on the right device, which on a CPU alone cannot be seen.
    a, b, c = torch.zeros(3, 1)
    assert [id(t) for t in _tensors((1, [a, (b, "two")], None, c))] == [id(a), id(b), id(c)]


def test_without_a_tensor_the_function_itself_speaks():
    assert full_precision(lambda x: x)([1, (2, "three")]) == [1, (2, "three")]


def test_shapes_and_other_kinds_of_tuples_pass_as_they_are():
    shape = torch.zeros(2, 3).shape
    assert full_precision(lambda x, shape: shape)(torch.zeros(2), shape) is shape


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
