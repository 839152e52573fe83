"""Relative patches: on which side of the middle patch was this one cut? (Doersch, Gupta and Efros 2015)"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from course_lib import augment
from course_lib.methods.base import Batch, Method
from course_lib.nets import Encoder, Enlarged, mlp
from course_lib.parts import full_precision, grid_crops

MIDDLE, NEIGHBOURS = 4, (0, 1, 2, 3, 5, 6, 7, 8)  # of a 3×3 grid in reading order


def drop_channels(patches: Float[Tensor, "n t 3 s s"]) -> Float[Tensor, "n t 3 s s"]:
    """Each patch keeps one of red, green and blue, drawn by itself, and shows it in place of all three.

    A lens magnifies one colour more than another, so by how much they are out of line tells where in the picture a
    patch was cut (section 3.1, chromatic aberration). A single channel has nothing to be out of line with. The paper
    puts noise in place of the other two; with copies the encoder sees grey pictures, whose mean and contrast are those
    of the whole pictures that it is measured on.
    """
    n, t, channels, s, _ = patches.shape
    kept = torch.randint(channels, (n, t, 1, 1, 1), device=patches.device)
    return patches.gather(2, kept.expand(-1, -1, -1, s, s)).expand_as(patches)


@full_precision
def position_loss(logits: Float[Tensor, "n 8 8"]) -> Float[Tensor, ""]:
    """Eight-way cross-entropy, mean over pictures and neighbours; log 8 = 2.079 for a blind guess.

    logits: for each picture and each of its neighbours in reading order, a score for each of the eight places in
    reading order. So the right place of neighbour k is k.
    Raises ValueError for another shape.
    """
    if logits.ndim != 3 or logits.shape[1:] != (8, 8):
        raise ValueError("the loss needs a score for each of 8 places for each of 8 neighbours, [N, 8, 8], "
                         f"got {list(logits.shape)}: give all neighbours of a picture, in reading order")
    return F.cross_entropy(logits.mT, torch.arange(8, device=logits.device).expand(len(logits), -1))


class RelativePatch(Method):
    """The encoder sees nine patches of a picture, each by itself. From the middle one's vector and a neighbour's, a
    head says on which of eight sides the neighbour lies: nine vectors make eight questions.

    encoder: for pictures of 32 pixels `nets.Enlarged(encoder)`, since patches are small and must be seen at the scale
    of whole pictures.
    patch: side of a patch in pixels of the view. jitter: pixels by which a patch may lie off its cell's middle.
    gap: False lets the patches touch without jitter, so that lines that run across a border give the answer away.
    drop_color: False keeps the colours, so that a lens's fault gives the answer away; see `drop_channels`.
    """

    objective = staticmethod(position_loss)  # the loss: a subclass may name another

    def __init__(self, encoder: nn.Module, *, patch: int = 8, jitter: int = 1, gap: bool = True,
                 drop_color: bool = True, views: nn.Module | None = None):
        super().__init__(encoder, views or augment.weak(size=36))
        self.patch, self.jitter, self.gap, self.drop_color = patch, jitter, gap, drop_color
        self.head = mlp(2 * encoder.dim, encoder.dim, 8)

    @staticmethod
    def default_encoder(backbone: Encoder) -> Enlarged:
        return Enlarged(backbone)

    def patches(self, x: Tensor) -> Float[Tensor, "n 9 3 s s"]:
        """What the encoder sees of each picture: nine patches in reading order."""
        layout = {"jitter": self.jitter} if self.gap else {"cell": self.patch}
        patches = grid_crops(self.view(x), self.patch, **layout)
        return drop_channels(patches) if self.drop_color else patches

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        h = self.encoder(self.patches(batch.x).flatten(0, 1)).unflatten(0, (-1, 9))
        neighbours = h[:, NEIGHBOURS]
        pairs = torch.cat([h[:, MIDDLE, None].expand_as(neighbours), neighbours], 2)
        logits = self.head(pairs.flatten(0, 1)).unflatten(0, (-1, 8))
        right = logits.argmax(2) == torch.arange(8, device=logits.device)
        return {"loss": self.objective(logits), "accuracy": right.float().mean()}
