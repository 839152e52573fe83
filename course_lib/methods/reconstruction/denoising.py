"""The denoising autoencoder: repair a picture that was spoilt (Vincent et al. 2008, 2010).

Copying the input no longer brings the loss to zero. Whether repair asks for more than a look at what is near depends on
the noise: single hidden pixels are filled in well by their visible neighbours (notebook 01, section 6).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_lib import augment
from course_lib.methods.base import Batch, Method
from course_lib.methods.reconstruction.autoencoder import decoder_for, reconstruction_loss

KINDS = ("gaussian", "masking", "salt_and_pepper")


def check_noise(noise: float, kind: str) -> None:
    """Raise ValueError for a kind of noise that does not exist or a strength outside [0, 1]."""
    if kind not in KINDS:
        raise ValueError(f"the kind of noise must be one of {', '.join(KINDS)}, got {kind!r}")
    if not 0 <= noise <= 1:
        raise ValueError(f"noise must lie in [0, 1], got {noise}: it is a deviation on the scale of pictures for "
                         "gaussian, a share of the pixels for the other kinds")


def corrupt(x: Float[Tensor, "n 3 h w"], noise: float, kind: str = "gaussian") -> Float[Tensor, "n 3 h w"]:
    """Spoil pictures in [0, 1], each pixel by itself, in one of the three ways of Vincent et al. 2010.

    gaussian: add normal noise of deviation `noise` to every channel.
    masking: turn a share of `noise` of the pixels black. salt_and_pepper: turn them black or white, by a fair coin.
    Both spoil whole pixels, or a network would copy a lost channel from the other two.

    The result is clipped to [0, 1], which the paper does not do: everything here that takes a picture wants that range,
    and so what is drawn in a figure is what the encoder saw.
    Raises ValueError for an unknown kind and for noise outside [0, 1].
    """
    check_noise(noise, kind)
    if kind == "gaussian":
        return (x + noise * torch.randn_like(x)).clamp(0, 1)
    hit = torch.rand_like(x[:, :1]) < noise
    white = torch.rand_like(x[:, :1]) < 0.5 if kind == "salt_and_pepper" else torch.zeros_like(hit)
    return torch.where(hit, white.to(x.dtype), x)


class DenoisingAutoencoder(Method):
    """decoder(encoder(spoilt picture)) should be the clean picture.

    decoder: `[N, dim]` to `[N, 3, size, size]`; by default one for views of `views.size` pixels.
    noise, kind: see `corrupt`.
    """

    objective = staticmethod(reconstruction_loss)  # the loss: a subclass may name another

    def __init__(self, encoder: nn.Module, decoder: nn.Module | None = None, *, noise: float = 0.3,
                 kind: str = "gaussian", views: nn.Module | None = None):
        super().__init__(encoder, views or augment.weak())
        check_noise(noise, kind)
        self.decoder = decoder or decoder_for(encoder, self.views)
        self.noise, self.kind = noise, kind

    def reconstruct(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        """Pictures in [0, 1], spoilt or clean, as the network paints them."""
        return self.decoder(self.encoder(x))

    def loss(self, batch: Batch) -> Tensor:
        x = self.view(batch.x)
        return self.objective(self.reconstruct(corrupt(x, self.noise, self.kind)), x)
