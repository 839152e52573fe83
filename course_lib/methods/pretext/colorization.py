"""Colourization: which colours has this grey picture? (Zhang, Isola and Efros 2016)"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_lib import augment
from course_lib.methods.base import Batch, Method
from course_lib.methods.reconstruction.autoencoder import reconstruction_loss
from course_lib.nets import Encoder
from course_lib.parts import full_precision
from course_lib.parts.lab import gray, lab_to_rgb, rgb_to_lab

SCALE = 50  # the unit in which a regression predicts ab: targets are then about as large as 1


def color_bins(grid: float = 20) -> Float[Tensor, "q 2"]:
    """Centres (a, b) of the squares of side `grid` in which sRGB has a colour (section 2.1): 75 for a side of 20."""
    levels = torch.linspace(0, 1, 33, dtype=torch.float64)
    colors = torch.cartesian_prod(levels, levels, levels)  # 35,937 of them, [K, 3]
    picture = colors.T[None, :, :, None]  # one column of pixels, [1, 3, K, 1]
    ab = rgb_to_lab(picture)[0, 1:, :, 0].T
    squares = (ab / grid).round().unique(dim=0)
    return squares.float() * grid


@full_precision
def nearest_bin(values: Float[Tensor, "n c h w"], bins: Float[Tensor, "q c"]) -> Int64[Tensor, "n h w"]:
    """Which bin lies nearest to the values at each place.

    Half of |v − b|² is |v|² / 2 + |b|² / 2 − v · b, whose first term is the same for every bin b.
    """
    products = values.permute(0, 2, 3, 1) @ bins.mT  # [N, H, W, Q]
    return (bins.square().sum(1) / 2 - products).argmin(3)


def rebalance(share: Float[Tensor, " q"], uniform: float = 0.5) -> Float[Tensor, " q"]:
    """Weights of bins that occur with these shares: 1 / ((1 − λ) · share + λ / Q), with a mean of 1 (equation 4)."""
    if not 0 < uniform <= 1:
        raise ValueError(f"uniform must be above 0 and at most 1, got {uniform}: the paper takes 0.5")
    weights = 1 / ((1 - uniform) * share + uniform / len(share))
    return weights / (share * weights).sum()


@full_precision
def bin_loss(logits: Float[Tensor, "n q h w"], target: Int64[Tensor, "n h w"], uniform=0.5) -> Float[Tensor, ""]:
    """Cross-entropy with the nearest bin, rebalanced by the shares in this batch, mean over places (equation 2)."""
    rows, target = logits.permute(0, 2, 3, 1).flatten(0, 2), target.flatten()  # one row a place is faster
    share = torch.bincount(target, minlength=rows.shape[1]).to(rows.dtype) / len(target)
    weights = rebalance(share, uniform)[target]
    return (weights * F.cross_entropy(rows, target, reduction="none")).mean()


@full_precision
def annealed_mean(logits: Float[Tensor, "n q h w"], bins: Float[Tensor, "q c"], temperature: float = 0.38
                  ) -> Float[Tensor, "n c h w"]:
    """The mean bin under softmax(logits / T): the mode as T goes to 0, the mean at T = 1 (equation 5)."""
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}: 0.01 gives about the mode")
    return torch.einsum("nqhw,qc->nchw", (logits / temperature).softmax(1), bins)


class Lightness(Encoder):
    """An encoder that is given pictures in colour and never sees their colours."""

    see = staticmethod(gray)

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder, self.dim = encoder, encoder.dim

    @property
    def channels(self) -> list[int]:
        return self.encoder.channels

    def stages(self, x: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n c h w"]]:
        return self.encoder.stages(self.see(x))

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        return self.encoder(self.see(x))


def without_color(encoder: nn.Module, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """What to show an encoder that must see no colours: `Lightness` turns pictures grey itself, others need it done."""
    return x if isinstance(encoder, Lightness) else gray(x)


class Painter(nn.Sequential):
    """From an encoder's last map to `outputs` numbers at each place of a map four times as high and wide."""

    def __init__(self, dim: int, outputs: int, width: int = 32):
        super().__init__(nn.Conv2d(dim, 16 * width, 1, bias=False), nn.PixelShuffle(4),
                         nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, outputs, 1))


class Colorizer(Method):
    """The encoder is given grey pictures alone, and a small head says their colours.

    encoder: `Lightness(encoder)`, so that it turns pictures grey by itself where it is evaluated on colour.
    target: "bins" for a distribution of colours at each place, "regression" for one colour and its squared error.
    grid: the side of a bin in ab; the paper's is 10. uniform: λ of `rebalance`, above 0; at 1 all bins weigh the same.
    """

    def __init__(self, encoder: nn.Module, *, target: str = "bins", grid: float = 20, uniform: float = 0.5,
                 views: nn.Module | None = None):
        super().__init__(encoder, views or augment.weak())
        if target not in ("bins", "regression"):
            raise ValueError(f"target must be 'bins' or 'regression', got {target!r}: choose one of the two")
        self.target, self.uniform = target, uniform
        self.register_buffer("bins", color_bins(grid))
        self.painter = Painter(encoder.dim, len(self.bins) if target == "bins" else 2)

    @staticmethod
    def default_encoder(backbone: Encoder) -> Lightness:
        return Lightness(backbone)

    def predict(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k p q"]:
        """Logits of the bins, or ab in units of SCALE, from the grey picture alone, whatever the encoder."""
        return self.painter(self.encoder.maps(without_color(self.encoder, x)))

    def objective(self, output: Float[Tensor, "n k p q"], ab: Float[Tensor, "n 2 p q"],
                  right: Int64[Tensor, "n p q"]) -> Float[Tensor, ""]:
        """The loss of what `predict` gave, for the true colours and their bins: the method to override for another."""
        if self.target == "bins":
            return bin_loss(output, right, self.uniform)
        return reconstruction_loss(output, ab / SCALE)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        x = self.view(batch.x)
        output = self.predict(x)
        ab = F.adaptive_avg_pool2d(rgb_to_lab(x)[:, 1:], output.shape[2:])
        right = nearest_bin(ab, self.bins)
        guess = output.argmax(1) if self.target == "bins" else nearest_bin(SCALE * output, self.bins)
        return {"loss": self.objective(output, ab, right), "accuracy": (guess == right).float().mean()}

    def distribution(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k p q"]:
        """How likely each of `bins` is at each place."""
        if self.target != "bins":
            raise ValueError("a regression predicts one colour and no distribution: build it with target='bins'")
        return self.predict(x).float().softmax(1)

    def colorize(self, x: Float[Tensor, "n 3 h w"], temperature: float = 0.38) -> Float[Tensor, "n 3 h w"]:
        """The pictures in colours of the network's own; nothing but their L is read."""
        output = self.predict(x)
        if self.target == "bins":
            ab = annealed_mean(output, self.bins, temperature)
        else:
            ab = SCALE * output.float()
        lightness = rgb_to_lab(x)[:, :1]
        ab = F.interpolate(ab, x.shape[2:], mode="bilinear")
        return lab_to_rgb(torch.cat([lightness, ab], 1))
