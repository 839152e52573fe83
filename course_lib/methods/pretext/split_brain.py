"""Split-brain: one half predicts the colours from the lightness, the other the reverse (Zhang, Isola and Efros 2017)"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from course_lib import augment
from course_lib.methods.base import Batch, Method
from course_lib.methods.pretext.colorization import Lightness, Painter, bin_loss, color_bins, nearest_bin
from course_lib.nets import Encoder, halves
from course_lib.parts.lab import rgb_to_lab


def colors(x: Tensor) -> Float[Tensor, "n 3 h w"]:
    """Pictures, uint8 or in [0, 1], as (1/2, a, b), with a and b from -110..110 to [0, 1]: their colours without L."""
    lab = rgb_to_lab(x)
    return 0.5 + torch.cat([torch.zeros_like(lab[:, :1]), lab[:, 1:] / 220], 1)


class Colors(Lightness):
    """An encoder that is given pictures in colour and sees the colours alone."""

    see = staticmethod(colors)


class SplitEncoder(Encoder):
    """Two encoders side by side, each with its own part of the picture; their channels one after the other.

    Two of half the weights, such as `nets.convnet((24, 48, 136), 256)`, are as large as one `nets.convnet()`.
    """

    def __init__(self, lightness_half: Encoder, color_half: Encoder):
        super().__init__()
        self.lightness, self.colors = Lightness(lightness_half), Colors(color_half)
        self.dim = self.lightness.dim + self.colors.dim

    @property
    def channels(self) -> list[int]:
        return [a + b for a, b in zip(self.lightness.channels, self.colors.channels, strict=True)]

    def stages(self, x: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n c h w"]]:
        pairs = zip(self.lightness.stages(x), self.colors.stages(x), strict=True)
        return [torch.cat(pair, 1) for pair in pairs]


class SplitBrain(Method):
    """Each half predicts, in bins, what the other half sees. The sum of both losses trains them, with no weight shared.

    encoder: a `SplitEncoder`. grid: the side of a bin of ab. uniform: λ of `colorization.rebalance` for the bins of ab;
        at 1 all weigh the same. levels: how many bins L has; they are not rebalanced. The paper has 50 of them, but
        between neighbours of two units colours cannot decide, and few pictures teach sooner with fewer.
    """

    objective = staticmethod(bin_loss)  # the loss of each half: a subclass may name another

    def __init__(self, encoder: SplitEncoder, *, grid: float = 20, uniform: float = 0.5, levels: int = 12,
                 views: nn.Module | None = None):
        super().__init__(encoder, views or augment.weak())
        if not isinstance(encoder, SplitEncoder):
            raise TypeError("split-brain needs SplitEncoder(lightness_half, color_half), "
                            f"got {type(encoder).__name__}: give it two encoders of half the size")
        if levels < 2:
            raise ValueError(f"L needs at least 2 bins to tell apart, got levels={levels}: 12 is usual here")
        self.uniform = uniform
        self.register_buffer("color_bins", color_bins(grid))
        self.register_buffer("lightness_bins", (100 * (torch.arange(levels) + 0.5) / levels)[:, None])
        self.color_painter = Painter(encoder.lightness.dim, len(self.color_bins))
        self.lightness_painter = Painter(encoder.colors.dim, len(self.lightness_bins))

    @staticmethod
    def default_encoder(backbone: Encoder) -> SplitEncoder:
        return SplitEncoder(*halves(backbone))

    def predict(self, x: Float[Tensor, "n 3 h w"]) -> tuple[Float[Tensor, "n q p p"], Float[Tensor, "n k p p"]]:
        """Logits of the bins of ab, from L alone, and logits of the bins of L, from ab alone."""
        to_ab = self.color_painter(self.encoder.lightness.maps(x))
        to_lightness = self.lightness_painter(self.encoder.colors.maps(x))
        return to_ab, to_lightness

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        x = self.view(batch.x)
        to_ab, to_lightness = self.predict(x)
        lab = F.adaptive_avg_pool2d(rgb_to_lab(x), to_ab.shape[2:])
        ab = nearest_bin(lab[:, 1:], self.color_bins)
        lightness = nearest_bin(lab[:, :1], self.lightness_bins)
        loss_colors = self.objective(to_ab, ab, self.uniform)
        loss_lightness = self.objective(to_lightness, lightness, 1.0)
        return {"loss": loss_colors + loss_lightness, "loss_colors": loss_colors, "loss_lightness": loss_lightness,
                "accuracy": (to_ab.argmax(1) == ab).float().mean(),
                "accuracy_lightness": (to_lightness.argmax(1) == lightness).float().mean()}
