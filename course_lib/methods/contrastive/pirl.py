"""PIRL: a picture and its shuffled tiles shall have one embedding: ignore what jigsaw predicts (Misra and Maaten 2020)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from course_lib import augment
from course_lib.data.types import Images
from course_lib.methods.base import Batch, Method
from course_lib.nets import mlp
from course_lib.parts import MemoryBank, grid_crops, info_nce


class PIRL(Method):
    """Two questions with one right answer, the picture's slot in a memory bank: which slot is this picture's, and which
    is that of these nine tiles? Slots of other pictures are the wrong answers.

    The loss is weight · (of the tiles) + (1 − weight) · (of the picture) (equation 5). Here each is an InfoNCE; the
    paper's equation 4 also pushes each negative away in a term of its own.
    pictures: how many there are. negatives: how many slots of others are drawn for each. tile, jitter: as in `Jigsaw`.
    enlarge: how many times tiles are enlarged before the encoder sees them, since of 8 pixels it leaves one place.
    momentum: of the slots, which follow the picture's embedding and not the tiles'.
    """

    remembers_pictures = True
    not_shipped = ("bank.",)

    def __init__(self, encoder: nn.Module, *, pictures: int, dim: int = 128, negatives: int = 1024,
                 temperature: float = 0.07, weight: float = 0.5, tile: int = 8, jitter: int = 1, enlarge: int = 2,
                 momentum: float = 0.5, views: nn.Module | None = None):
        super().__init__(encoder, views or augment.simclr(size=36))
        if not 0 <= weight <= 1:
            raise ValueError(f"weight is the share of the tiles' loss and must lie in [0, 1], got {weight}: "
                             "0.5 is usual")
        self.head = mlp(encoder.dim, dim, norm=False)
        self.tile_head, self.order_head = nn.Linear(encoder.dim, dim), nn.Linear(9 * dim, dim)
        self.bank = MemoryBank(pictures, dim, momentum)
        self.negatives, self.temperature, self.weight = negatives, temperature, weight
        self.tile, self.jitter, self.enlarge = tile, jitter, enlarge

    @classmethod
    def build(cls, encoder: nn.Module, images: Images, **options) -> PIRL:
        return super().build(encoder, images, pictures=len(images), **options)

    def objective(self, z: Float[Tensor, "n d"], slot: Float[Tensor, "n d"], negatives: Float[Tensor, "n k d"]
                  ) -> Float[Tensor, ""]:
        """The loss of embeddings, their pictures' slots and those of others: the line to override for another loss."""
        return info_nce(z, slot, negatives, self.temperature)

    def embed_tiles(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """One embedding of nine tiles: each seen by itself, then all together in an order of chance."""
        tiles = grid_crops(x, self.tile, jitter=self.jitter).flatten(0, 1)
        tiles = F.interpolate(tiles, scale_factor=self.enlarge, mode="bilinear")
        z = self.tile_head(self.encoder(tiles)).unflatten(0, (-1, 9))
        order = torch.rand(z.shape[:2], device=z.device).argsort(1)
        return self.order_head(z.gather(1, order[:, :, None].expand_as(z)).flatten(1))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        slot, negatives = self.bank.get(batch.index), self.bank.others(batch.index, self.negatives)
        z = self.head(self.encoder(self.view(batch.x)))
        self.newest = batch.index, z.detach()
        of_picture = self.objective(z, slot, negatives)
        of_tiles = self.objective(self.embed_tiles(self.view(batch.x)), slot, negatives)
        return {"loss": self.weight * of_tiles + (1 - self.weight) * of_picture,
                "loss_tiles": of_tiles, "loss_picture": of_picture}

    def after_step(self, progress: float) -> None:
        self.bank.write(*self.newest)
