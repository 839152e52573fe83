"""Seeing every process's embeddings, with gradients."""

from __future__ import annotations

import torch
import torch.distributed as dist
from jaxtyping import Float, Int64
from torch import Tensor


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        ctx.rows, z = len(z), z.contiguous()
        parts = [torch.empty_like(z) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, z)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, grad):
        # Every process computes the loss of all rows, so a row's gradient is the sum of what each process sends it.
        # Keeping only one's own part would be W times too small after DDP has taken its mean over W processes.
        # A clone, since autograd may hand the same tensor to others too and all_reduce writes into it.
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        start = dist.get_rank() * ctx.rows
        return grad[start : start + ctx.rows]


def gather(z: Float[Tensor, "n *d"] | Int64[Tensor, "n *d"]) -> Float[Tensor, "wn *d"] | Int64[Tensor, "wn *d"]:
    """The rows of all W processes, in the order of their ranks; in a single process, z itself.

    With every process computing the same loss of all rows, and DDP averaging, the gradient is exactly that of one
    process with the whole batch. Every process must bring the same number of rows. Integers, such as the numbers of the
    pictures or their labels, are gathered alike and have no gradient.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return z
    return _Gather.apply(z)
