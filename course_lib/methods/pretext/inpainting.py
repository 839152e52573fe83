"""Context encoder: paint what was cut out of a picture (Pathak et al. 2016)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from course_lib import augment
from course_lib.methods.base import Batch, Method
from course_lib.methods.reconstruction.autoencoder import decoder_for
from course_lib.nets import Encoder
from course_lib.parts import full_precision


def center_mask(n: int, height: int, width: int, device="cpu") -> Bool[Tensor, "n 1 h w"]:
    """One hole in the middle, half as high and half as wide as the picture: a quarter of the area. True is hidden."""
    mask = torch.zeros(n, 1, height, width, dtype=torch.bool, device=device)
    top, left = height // 4, width // 4
    mask[:, :, top : top + height // 2, left : left + width // 2] = True
    return mask


def block_mask(n: int, height: int, width: int, device="cpu", blocks: int = 5) -> Bool[Tensor, "n 1 h w"]:
    """Holes a quarter as high and wide as the picture, anywhere and overlapping; five hide a quarter of it.

    True is hidden. Why: features may settle on the border of a hole that stays in one place (section 3.3).
    """
    def inside(length: int) -> Bool[Tensor, "n blocks length"]:
        """Which rows, or which columns, each block covers."""
        size = length // 4
        start = (torch.rand(n, blocks, 1, device=device) * (length - size + 1)).long()
        place = torch.arange(length, device=device)
        return (place >= start) & (place < start + size)

    rows, columns = inside(height), inside(width)
    covered = rows[:, :, :, None] & columns[:, :, None, :]  # [N, blocks, H, W]
    return covered.any(1, keepdim=True)


MASKS = {"center": center_mask, "blocks": block_mask}


@full_precision
def hole_loss(output: Float[Tensor, "n 3 h w"], target: Float[Tensor, "n 3 h w"],
              mask: Bool[Tensor, "n 1 h w"]) -> Float[Tensor, ""]:
    """Mean squared error over the hidden pixels of the batch alone, on the scale of pictures in [0, 1] (equation 1)."""
    if output.shape != target.shape or mask.shape != (len(output), 1, *output.shape[2:]):
        raise ValueError("pictures [N, 3, H, W] and a mask [N, 1, H, W] are needed, got "
                         f"{list(output.shape)}, {list(target.shape)} and {list(mask.shape)}")
    if not mask.any():
        raise ValueError("the mask hides nothing, so there is nothing to paint: set some of it to True")
    hidden = mask.sum() * output.shape[1]  # numbers, three a pixel
    return ((output - target).square() * mask).sum() / hidden


@full_precision
def discriminator_loss(real: Float[Tensor, " n"], painted: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """−log D(real) − log(1 − D(painted)) of logits (equation 2), each the mean over pictures.

    2 log 2 = 1.386 where it guesses.
    """
    return F.softplus(-real).mean() + F.softplus(painted).mean()


@full_precision
def adversarial_loss(painted: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """−log D(painted), the painter's side; log 2 = 0.693 where the discriminator guesses.

    Equation 2 has log(1 − D(painted)), whose gradient vanishes just when the painter is found out.
    """
    return F.softplus(-painted).mean()


def discriminator(width: int = 32) -> nn.Sequential:
    """Holes `[N, 3, H, W]` to logits `[N]`: real or painted? No BatchNorm, which would compare pictures of a batch."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, width), (width, 2 * width), (2 * width, 4 * width)):
        layers += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, 1), nn.Flatten(0))


class ContextEncoder(Method):
    """The encoder sees a picture with a hole, a decoder paints all of it, and only the hole counts.

    mask: "center" or "blocks". adversarial: the weight of the adversary, 1 minus that being the weight of the squared
    error (equation 3); with 0 there is no discriminator at all.

    The logged "loss" is the sum of both players' losses: it says little, look at "l2" and "discriminator".
    """

    objective = staticmethod(hole_loss)  # the painter's loss beside the adversary: a subclass may name another

    def __init__(self, encoder: Encoder, *, mask: str = "blocks", adversarial: float = 0.001,
                 views: nn.Module | None = None):
        super().__init__(encoder, views or augment.weak())
        if mask not in MASKS:
            raise ValueError(f"mask must be 'center' or 'blocks', got {mask!r}")
        if not 0 <= adversarial < 1:
            raise ValueError(f"adversarial, one of two weights that sum to 1, must lie in [0, 1), got {adversarial}")
        self.mask, self.adversarial = MASKS[mask], adversarial
        self.decoder = decoder_for(encoder, self.views)
        self.discriminator = discriminator() if adversarial else None

    def generate(self, x: Float[Tensor, "n 3 h w"], mask: Bool[Tensor, "n 1 h w"]) -> Float[Tensor, "n 3 h w"]:
        """The decoder's whole picture. Hidden pixels are filled with the encoder's mean colour: a constant, since the
        mean of the picture would give away some of what is hidden.
        """
        with_hole = torch.where(mask, self.encoder.mean, x)
        return self.decoder(self.encoder(with_hole))

    def inpaint(self, x: Float[Tensor, "n 3 h w"], mask: Bool[Tensor, "n 1 h w"]) -> Float[Tensor, "n 3 h w"]:
        """Pictures in [0, 1] with the hidden pixels painted and the others as they are."""
        return torch.where(mask, self.generate(x, mask).clamp(0, 1), x)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        x = self.view(batch.x)
        mask = self.mask(len(x), *x.shape[2:], device=x.device)
        painted = self.generate(x, mask)
        l2 = self.objective(painted, x, mask)
        if self.discriminator is None:
            return {"loss": l2, "l2": l2}

        def hole(picture):
            """The hole with the mean colour around it: judged for itself, not by its seam (section 3.2)."""
            return self.encoder.normalize(picture) * mask

        # One optimizer serves two players, since neither loss reaches the other's weights: the discriminator judges
        # painted holes cut off from the painter, and the painter is judged by a discriminator of detached weights.
        real, fake = self.discriminator(hole(x)), self.discriminator(hole(painted.detach()))
        found = discriminator_loss(real, fake)
        weights = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        judged = torch.func.functional_call(self.discriminator, weights, hole(painted))
        fooled = adversarial_loss(judged)
        loss = (1 - self.adversarial) * l2 + self.adversarial * fooled + found
        return {"loss": loss, "l2": l2, "adversarial": fooled, "discriminator": found}
