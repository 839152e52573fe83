"""Beside a slow reference: the same value and the same gradients in float64, and sense under autocast."""

from __future__ import annotations

import torch


def assert_same(loss, reference, *inputs, rtol=1e-10, **options):
    """`loss` and `reference` agree in value and in the gradient to every floating input."""

    def run(function):
        leaves = [x.detach().clone().requires_grad_() if x.is_floating_point() else x for x in inputs]
        value = function(*leaves, **options)
        value = value["loss"] if isinstance(value, dict) else value
        wanted = [x for x in leaves if x.is_floating_point()]
        gradients = torch.autograd.grad(value, wanted, allow_unused=True)
        return value.detach(), [torch.zeros_like(x) if g is None else g
                                for x, g in zip(wanted, gradients, strict=True)]

    (value, gradients), (slow_value, slow_gradients) = run(loss), run(reference)
    assert value.dtype == torch.float64
    torch.testing.assert_close(value, slow_value, rtol=rtol, atol=1e-12)
    for gradient, slow in zip(gradients, slow_gradients, strict=True):
        torch.testing.assert_close(gradient, slow, rtol=1e-8, atol=1e-12)


def assert_full_precision(loss, *inputs, **options):
    """Half-precision inputs inside autocast: a float32 loss, equal to that of the same numbers in float64, finite
    gradients."""
    for dtype in (torch.bfloat16, torch.float16):
        leaves = [x.to(dtype).requires_grad_() if x.is_floating_point() else x for x in inputs]
        exact = loss(*(x.detach().double() if x.is_floating_point() else x for x in leaves), **options)
        with torch.autocast("cpu", dtype=dtype):
            value = loss(*leaves, **options)
        value, exact = (v["loss"] if isinstance(v, dict) else v for v in (value, exact))
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-5)
        value.backward()
        for x in leaves:
            assert x.grad is None or x.grad.isfinite().all()
