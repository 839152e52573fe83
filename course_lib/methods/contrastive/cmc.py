"""CMC: lightness and colours are two views of one scene; an encoder each, and they must agree (Tian et al. 2020)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from course_lib import augment
from course_lib.methods.base import Batch, Method
from course_lib.methods.pretext.split_brain import SplitEncoder
from course_lib.nets import Encoder, halves
from course_lib.parts import batch_info_nce, gather


class CMC(Method):
    """Which colours belong to this lightness, and which lightness to these colours, among those of a batch? No weight
    is shared between the two halves, and the vector that is kept has both, one after the other.

    encoder: a `SplitEncoder`, as for split-brain, which predicts what CMC only matches. The paper has a memory bank for
    more negatives; here they are the others of the batch. views: without colour jitter, since colours are a view.
    """

    def __init__(self, encoder: SplitEncoder, *, dim: int = 128, temperature: float = 0.1,
                 views: nn.Module | None = None):
        super().__init__(encoder, views or augment.simclr(p_jitter=0.0, p_gray=0.0))
        if not isinstance(encoder, SplitEncoder):
            raise TypeError("CMC needs SplitEncoder(lightness_half, color_half), "
                            f"got {type(encoder).__name__}: give it two encoders of half the size")
        self.lightness_head = nn.Linear(encoder.lightness.dim, dim)
        self.color_head = nn.Linear(encoder.colors.dim, dim)
        self.temperature = temperature

    @staticmethod
    def default_encoder(backbone: Encoder) -> SplitEncoder:
        return SplitEncoder(*halves(backbone))

    def objective(self, lightness: Float[Tensor, "n d"], colors: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
        """The loss of two embeddings of the same pictures (equation 5, both ways): the line to override for another."""
        return (batch_info_nce(lightness, colors, self.temperature)
                + batch_info_nce(colors, lightness, self.temperature)) / 2

    def loss(self, batch: Batch) -> Tensor:
        x = self.view(batch.x)  # the same view for both, or they would have less in common than lightness and colours
        lightness = gather(self.lightness_head(self.encoder.lightness(x)))
        colors = gather(self.color_head(self.encoder.colors(x)))
        return self.objective(lightness, colors)
