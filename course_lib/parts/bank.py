"""Embeddings that are remembered from step to step: the latest of any pictures, or one of each picture.

Both are buffers: saved with the method, restored by a resumed run. On several processes all hold the same rows, since
what they are given is gathered first. **Read, compute the loss, and only then write**: a positive that is written
before is its own negative. `Method.after_step` is the place to write, and is not called where a method is only
measured.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_lib.parts.gather import gather


def directions(n: int, dim: int) -> Float[Tensor, "n d"]:
    """Random unit vectors."""
    return F.normalize(torch.randn(n, dim), dim=1)


class Queue(nn.Module):
    """The last `size` embeddings, L2-normalised, the oldest replaced first (He et al. 2020, section 3.2).

    It begins with random directions; `full` says when the last of them is gone.
    """

    def __init__(self, size: int, dim: int):
        super().__init__()
        if size < 1:
            raise ValueError(f"a queue holds at least 1 embedding, got size={size}: 4096 is usual")
        self.size = size
        self.register_buffer("rows", directions(size, dim))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    @property
    def full(self) -> bool:
        """Whether every row has been pushed, so that no random direction is left."""
        return self.seen.item() >= self.size

    def get(self) -> Float[Tensor, "size d"]:
        """What it holds now: a copy, so that a later push does not change what a gradient still needs."""
        return self.rows.clone()

    def pushed(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "size d"]:
        """What it would hold after `push(z)`, for a method that looks into a queue with its own batch in it."""
        rows, _ = self._after(z)
        return rows

    def push(self, z: Float[Tensor, "n d"]) -> None:
        """Put the rows of every process in, in the order of the ranks. Of more than `size`, the last stay."""
        rows, pushed = self._after(z)
        self.rows.copy_(rows)
        self.seen += pushed

    @torch.no_grad()
    def _after(self, z):
        if z.ndim != 2 or z.shape[1] != self.rows.shape[1]:
            raise ValueError(f"this queue holds embeddings [N, {self.rows.shape[1]}], got {list(z.shape)}: "
                             "build it with the dim of what is pushed")
        z = gather(F.normalize(z.detach().to(self.rows.dtype), dim=1))
        last = torch.arange(len(z), device=z.device)[-self.size :]
        rows = self.rows.clone()
        rows[(self.seen + last) % self.size] = z[last]
        return rows, len(z)


class MemoryBank(nn.Module):
    """One embedding for each of n pictures, L2-normalised (Wu et al. 2018, section 3.2).

    momentum: how much of the old slot stays when a picture's new embedding is written; the paper's code has 0.5.
    """

    def __init__(self, n: int, dim: int, momentum: float = 0.5):
        super().__init__()
        if n < 1:
            raise ValueError(f"a memory bank has a slot for each picture, at least 1, got n={n}: give len(images)")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum is the share of an old slot that stays and must lie in [0, 1), got {momentum}: "
                             "0.5 is usual")
        self.momentum = momentum
        self.register_buffer("rows", directions(n, dim))

    def get(self, index: Int64[Tensor, " n"] | None) -> Float[Tensor, "n d"]:
        """The slots of these pictures, a copy. Raises ValueError for pictures that have none."""
        return self.rows[self._check(index)]

    @torch.no_grad()
    def write(self, index: Int64[Tensor, " n"] | None, z: Float[Tensor, "n d"]) -> None:
        """slot ← momentum · slot + (1 − momentum) · z, normalised again, for the pictures of every process.

        Raises ValueError for pictures without a slot, or embeddings of another shape.
        """
        self._check(index)
        if z.shape != (len(index), self.rows.shape[1]):
            raise ValueError(f"{len(index)} slots take embeddings [{len(index)}, {self.rows.shape[1]}], "
                             f"got {list(z.shape)}")
        # The numbers too: without them each process would write its own pictures alone, and the banks would differ.
        index, z = gather(index), gather(F.normalize(z.detach().to(self.rows.dtype), dim=1))
        self.rows[index] = F.normalize(self.momentum * self.rows[index] + (1 - self.momentum) * z, dim=1)

    def others(self, index: Int64[Tensor, " n"], k: int) -> Float[Tensor, "n k d"]:
        """For each of these pictures k slots, drawn at random with replacement from all but its own.

        Raises ValueError where there is no other picture.
        """
        n = len(self.rows)
        if n < 2 or k < 1:
            raise ValueError(f"negatives come from other pictures: {n} slots and k={k} give none")
        self._check(index)
        draw = torch.randint(n - 1, (len(index), k), device=self.rows.device)
        return self.rows[draw + (draw >= index[:, None])]  # one further from the own slot on, so that it is never hit

    def _check(self, index):
        if index is None:
            raise ValueError("a memory bank knows the pictures that it was trained on by their numbers, and this batch "
                             "has none: take images.batch(index) of those pictures")
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(self.rows):
            raise ValueError(f"this memory bank has slots 0 to {len(self.rows) - 1}, got pictures {int(index.min())} "
                             f"to {int(index.max())}: build the method with the pictures it is trained on")
        return index
