"""SimCLR: two views of a picture should agree more than views of different pictures (Chen et al. 2020)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from course_lib import augment
from course_lib.methods.base import Batch, Method
from course_lib.nets import mlp
from course_lib.parts import check_pair, full_precision, gather


@full_precision
def nt_xent(z1: Float[Tensor, "n d"], z2: Float[Tensor, "n d"], temperature: float = 0.5) -> Float[Tensor, ""]:
    """The normalised temperature-scaled cross-entropy, mean over 2N anchors (equation 1).

    Row i of z1 and row i of z2 are views of one picture. For each anchor the other view is the right answer among
    2N − 1: itself is no candidate, and the 2N − 2 views of other pictures are the negatives.
    Random embeddings of many dimensions give log(2N − 1).
    Raises ValueError for other shapes, fewer than 2 pictures or a temperature that is not positive.
    """
    check_pair(z1, z2)
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    logits = z @ z.T / temperature
    # Minus infinity, not a large number: exp(-inf) is exactly 0 in every precision.
    logits = logits.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), float("-inf"))
    positive = torch.arange(len(z), device=z.device).roll(len(z1))
    return F.cross_entropy(logits, positive)


class SimCLR(Method):
    """Two views, one encoder, a projector that is thrown away afterwards, and `nt_xent` between the projections.

    projector: "mlp", or the weaker "linear" and "none" of the paper's section 4.2, to see what it is good for.
    group: how many pictures of a batch are held against each other; all of them by default. With fewer, a view meets
    2·group − 2 negatives in the very same batch: to see what negatives are good for while steps, BatchNorm and views
    stay as they are.
    Raises ValueError for another projector, or a group of fewer than 2 pictures.
    """

    def __init__(self, encoder: nn.Module, *, dim: int = 128, temperature: float = 0.5, projector: str = "mlp",
                 group: int | None = None, views: nn.Module | None = None):
        super().__init__(encoder, views or augment.simclr())
        widths = {"mlp": (encoder.dim, encoder.dim, dim), "linear": (encoder.dim, dim), "none": None}
        if projector not in widths:
            raise ValueError(f"projector must be one of {', '.join(widths)}, got {projector!r}")
        if group is not None and group < 2:
            raise ValueError(f"a group needs at least 2 pictures to tell apart, got {group}: None takes all")
        self.projector = mlp(*widths[projector]) if widths[projector] else nn.Identity()
        self.temperature, self.group = temperature, group
        self.smallest_batch = group or 2

    def objective(self, z1: Float[Tensor, "n d"], z2: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
        """The loss of the projections of every process's pictures: the one line to override for another loss."""
        groups = max(1, len(z1) // self.group) if self.group else 1  # what is left over makes some of them larger
        pairs = zip(z1.tensor_split(groups), z2.tensor_split(groups), strict=True)
        return torch.stack([nt_xent(a, b, self.temperature) for a, b in pairs]).mean()

    def loss(self, batch: Batch) -> Tensor:
        z1, z2 = (gather(self.projector(self.encoder(self.view(batch.x)))) for _ in range(2))
        return self.objective(z1, z2)
