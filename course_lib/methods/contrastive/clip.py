"""CLIP: which caption belongs to which picture? (Radford et al. 2021)"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from course_lib import augment
from course_lib.data.types import Images
from course_lib.methods.base import Batch, Method
from course_lib.parts import batch_info_nce, full_precision, gather
from course_lib.parts.text import PADDING, count_words, numbers


@full_precision
def clip_loss(image_z: Float[Tensor, "n d"], text_z: Float[Tensor, "n d"], logit_scale: Float[Tensor, ""]
              ) -> Float[Tensor, ""]:
    """Cross-entropy of each picture over the captions and of each caption over the pictures, mean of both (figure 3).

    Both are L2-normalised here. logit_scale: one over the temperature, that by which cosines are multiplied.
    log N for a blind guess.
    """
    return (batch_info_nce(image_z, text_z, 1 / logit_scale) + batch_info_nce(text_z, image_z, 1 / logit_scale)) / 2


class TextEncoder(nn.Module):
    """Captions to one vector each: a small transformer over their words, and the mean of what it makes of them.

    words: all that it knows. length: of the longest caption. It sees where a word stands, by learned positions.
    """

    def __init__(self, words: Sequence[str], dim: int = 128, depth: int = 2, heads: int = 4, length: int = 24):
        super().__init__()
        self.words, self.dim, self.length = tuple(words), dim, length
        self.embed = nn.Embedding(len(self.words), dim)
        self.positions = nn.Parameter(0.02 * torch.randn(length, dim))
        layer = nn.TransformerEncoderLayer(dim, heads, 4 * dim, dropout=0.0, activation="gelu", batch_first=True,
                                           norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, depth, nn.LayerNorm(dim), enable_nested_tensor=False)

    def forward(self, captions: Sequence[str]) -> Float[Tensor, "n d"]:
        """Raises ValueError for words that it does not know, or a caption that is too long."""
        found = numbers(captions, self.words, self.positions.device)
        if found.shape[1] > self.length:
            raise ValueError(f"this encoder reads captions of up to {self.length} words, got one of {found.shape[1]}: "
                             "build it with a larger length")
        absent = found == PADDING
        x = self.embed(found.clamp(min=0)) + self.positions[: found.shape[1]]
        x = self.blocks(x, src_key_padding_mask=absent)
        present = (~absent)[:, :, None]
        return (x * present).sum(1) / present.sum(1).clamp(min=1)


class CLIP(Method):
    """A picture's encoder and a caption's, and `clip_loss` between their projections into one space.

    words: the vocabulary, which comes from the captions. scale: one over the temperature at the start; it is learned,
    and held below 100 (section 2.5). Captions that come twice in a batch count as wrong answers for each other.
    """

    needs = frozenset({"captions"})

    def __init__(self, encoder: nn.Module, *, words: Sequence[str], dim: int = 128, depth: int = 2, scale: float = 14.3,
                 views: nn.Module | None = None):
        super().__init__(encoder, views or augment.weak())
        if not 0 < scale <= 100:
            raise ValueError(f"scale is one over a temperature and must lie in (0, 100], got {scale}: the paper begins "
                             "with 14.3")
        self.text_encoder = TextEncoder(words, dim, depth)
        self.image_head = nn.Linear(encoder.dim, dim, bias=False)
        self.text_head = nn.Linear(dim, dim, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    @classmethod
    def build(cls, encoder: nn.Module, images: Images, **options) -> CLIP:
        return super().build(encoder, images, words=list(count_words(images.captions)), **options)

    def objective(self, image_z: Float[Tensor, "n d"], text_z: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
        """The loss of pictures and their captions: the line to override for another loss."""
        return clip_loss(image_z, text_z, self.log_scale.exp())

    def embed_images(self, x: Tensor) -> Float[Tensor, "n d"]:
        """Pictures in the common space, of length 1."""
        return F.normalize(self.image_head(self.encoder(x)).float(), dim=1)

    def embed_texts(self, captions: Sequence[str]) -> Float[Tensor, "n d"]:
        """Captions in the common space, of length 1. Raises ValueError for words that were not learned."""
        return F.normalize(self.text_head(self.text_encoder(captions)).float(), dim=1)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        image_z, text_z = self.embed_images(self.view(batch.x)), self.embed_texts(batch.captions)
        return {"loss": self.objective(gather(image_z), gather(text_z)), "scale": self.log_scale.detach().exp()}

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        self.log_scale.clamp_(max=math.log(100))
