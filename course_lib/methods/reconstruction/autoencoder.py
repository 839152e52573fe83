"""The autoencoder: squeeze a picture through one vector and paint it again (Hinton and Salakhutdinov 2006)."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from course_lib import augment
from course_lib.methods.base import Batch, Method
from course_lib.nets import Decoder
from course_lib.parts import full_precision


@full_precision
def reconstruction_loss(output: Float[Tensor, "n 3 h w"], target: Float[Tensor, "n 3 h w"]) -> Float[Tensor, ""]:
    """Mean squared error over all pixels and channels, on the scale of pictures in [0, 1].

    Always painting the mean picture costs the pixels' variance, about 0.06 on natural pictures.
    Raises ValueError where shapes differ, since broadcasting would hide it.
    """
    if output.shape != target.shape:
        raise ValueError(f"a reconstruction must have its target's shape {list(target.shape)}, "
                         f"got {list(output.shape)}: build the decoder for the size of the views")
    return F.mse_loss(output, target)


def decoder_for(encoder: nn.Module, views: nn.Module) -> Decoder:
    """A decoder from the encoder's vectors to pictures as large as the views.

    Raises TypeError for views without one size.
    """
    if not hasattr(views, "size"):
        raise TypeError(f"a decoder paints pictures as large as the views, and {type(views).__name__} has no `size`: "
                        "give views=augment.weak(), or other `Views`")
    return Decoder(encoder.dim, views.size)


class Autoencoder(Method):
    """decoder(encoder(x)) should be x. The vector in between, `[N, encoder.dim]`, is what is learned.

    decoder: `[N, dim]` to `[N, 3, size, size]`; by default one for views of `views.size` pixels.
    """

    objective = staticmethod(reconstruction_loss)  # the loss: a subclass may name another

    def __init__(self, encoder: nn.Module, decoder: nn.Module | None = None, *, views: nn.Module | None = None):
        super().__init__(encoder, views or augment.weak())
        self.decoder = decoder or decoder_for(encoder, self.views)

    def reconstruct(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        """Pictures in [0, 1] as the network paints them."""
        return self.decoder(self.encoder(x))

    def loss(self, batch: Batch) -> Tensor:
        x = self.view(batch.x)
        return self.objective(self.reconstruct(x), x)
