"""Jigsaw: in which order do nine tiles lie that were shuffled? (Noroozi and Favaro 2016)"""

from __future__ import annotations

import functools
import itertools
import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_lib import augment
from course_lib.methods.base import Batch, Method
from course_lib.nets import Encoder, Enlarged, mlp
from course_lib.parts import full_precision, grid_crops


@functools.cache
def permutation_set(n: int, tiles: int = 9) -> Int64[Tensor, "n t"]:
    """n permutations of the tiles, as unlike each other as a greedy search finds; always the same ones.

    It starts with the tiles in order. Each step takes the permutation whose smallest Hamming distance to those chosen
    is largest; of equals, the one with the largest sum of distances; of equals, the first by number. Algorithm 1 of the
    paper takes the largest sum alone. The puzzle is to be solved from all tiles, and two permutations that are alike
    but for two tiles hang on those two.
    The smallest distance of nine tiles: 9 for up to 9 permutations, 8 for 16, 7 for 64, 6 for 256.

    Raises ValueError where there are not so many permutations, or too many to search.
    """
    if not 2 <= tiles <= 9:
        raise ValueError(f"permutations are searched for 2 to 9 tiles, got {tiles}: 10 already have 3.6 million")
    if not 2 <= n <= math.factorial(tiles):
        raise ValueError(f"{tiles} tiles have {math.factorial(tiles)} permutations, of which 2 or more make a puzzle, "
                         f"got {n}: choose a number between the two")
    every = bytearray(itertools.chain.from_iterable(itertools.permutations(range(tiles))))
    places = torch.frombuffer(every, dtype=torch.uint8).view(-1, tiles).T.contiguous()
    chosen, smallest, total = [0], torch.full_like(places[0], tiles), torch.zeros_like(places[0], dtype=torch.int32)
    while len(chosen) < n:
        distance = torch.zeros_like(smallest)
        for tile in places:  # nine times a comparison of one tile is far faster than one of all nine
            distance += tile != tile[chosen[-1]]
        torch.minimum(smallest, distance, out=smallest)
        total += distance
        best = (smallest == smallest.max()).nonzero().squeeze(1)
        chosen.append(best[total[best].argmax()].item())
    return places[:, chosen].T.long()


def normalize_tiles(tiles: Float[Tensor, "n t 3 s s"]) -> Float[Tensor, "n t 3 s s"]:
    """Give each tile, channel by channel, the mean and deviation of all tiles of its picture together, in [0, 1].

    Else neighbours are told by their brightness and colour alone, the paper's shortcut by low-level statistics. There
    each tile gets mean 0 and deviation 1. An encoder here takes pictures in [0, 1] and normalises itself, so those are
    mapped back to the picture's own mean and deviation: they are the same for all tiles and say nothing of their order,
    and the encoder sees colours and contrasts as in the whole pictures that it is measured on. What then lies outside
    [0, 1] is clamped. A nearly flat tile stays so: 0.01 is added to its deviation, or its noise would fill the range.
    """
    std, mean = torch.std_mean(tiles, (3, 4), correction=0, keepdim=True)
    whole_std, whole_mean = torch.std_mean(tiles, (1, 3, 4), correction=0, keepdim=True)
    return (whole_mean + whole_std * (tiles - mean) / (std + 0.01)).clamp(0, 1)


@full_precision
def permutation_loss(logits: Float[Tensor, "n p"], permutation: Int64[Tensor, " n"]) -> Float[Tensor, ""]:
    """Cross-entropy over the P permutations of the set, mean over puzzles; log P for a blind guess."""
    return F.cross_entropy(logits, permutation)


class Jigsaw(Method):
    """Siamese-ennead (section 3): the encoder sees each tile by itself, a small layer shortens its vector, and a head
    reads the nine in shuffled order and says which permutation it was.

    encoder: for pictures of 32 pixels `nets.Enlarged(encoder)`, since tiles are small and must be seen at the scale of
    whole pictures.
    permutations: how many there are to tell apart. tile: side of a tile in pixels of the view. jitter: pixels by which
    a tile may lie off its cell's middle. normalize: False leaves each tile its brightness and colour, see
    `normalize_tiles`. puzzles: how many permutations of a picture are asked for at a time. They cost little: no tile's
    vector depends on its place, so it is the vectors that are shuffled.
    """

    objective = staticmethod(permutation_loss)  # the loss: a subclass may name another

    def __init__(self, encoder: nn.Module, *, permutations: int = 64, tile: int = 8, jitter: int = 1,
                 normalize: bool = True, puzzles: int = 4, views: nn.Module | None = None):
        super().__init__(encoder, views or augment.weak(size=36))
        self.tile, self.jitter, self.normalize, self.puzzles = tile, jitter, normalize, puzzles
        # Saved with the weights, which mean nothing without it; a copy, since the set itself is shared.
        self.register_buffer("permutations", permutation_set(permutations).clone())
        self.shorten = nn.Sequential(nn.Linear(encoder.dim, 64), nn.ReLU())
        self.head = mlp(9 * 64, 512, permutations)

    @staticmethod
    def default_encoder(backbone: Encoder) -> Enlarged:
        return Enlarged(backbone)

    def tiles(self, x: Tensor) -> Float[Tensor, "n 9 3 s s"]:
        """What the encoder sees of each picture: nine tiles, still in reading order."""
        tiles = grid_crops(self.view(x), self.tile, jitter=self.jitter)
        return normalize_tiles(tiles) if self.normalize else tiles

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        h = self.shorten(self.encoder(self.tiles(batch.x).flatten(0, 1))).unflatten(0, (-1, 9))
        h = h.repeat(self.puzzles, 1, 1)
        answer = torch.randint(len(self.permutations), (len(h),), device=h.device)
        shuffled = h.gather(1, self.permutations[answer, :, None].expand_as(h))
        logits = self.head(shuffled.flatten(1))
        return {"loss": self.objective(logits, answer), "accuracy": (logits.argmax(1) == answer).float().mean()}
