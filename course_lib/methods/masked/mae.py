"""MAE: hide most of the picture and paint what is missing (He et al. 2022)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from course_lib import augment
from course_lib.methods.base import Batch, Method
from course_lib.nets import TransformerBlock, ViT, sincos_positions
from course_lib.parts import full_precision, patchify, random_masking


def normalize_patches(patches: Float[Tensor, "n l p"]) -> Float[Tensor, "n l p"]:
    """Each patch with mean 0 and (unbiased) variance 1: texture counts as much in a flat patch as in a loud one."""
    return (patches - patches.mean(2, keepdim=True)) / (patches.var(2, keepdim=True) + 1e-6).sqrt()


@full_precision
def masked_loss(output: Float[Tensor, "n l p"], target: Float[Tensor, "n l p"],
                hidden: Bool[Tensor, "n l"]) -> Float[Tensor, ""]:
    """Mean squared error over the hidden patches alone; what the encoder saw is not asked for (section 3)."""
    if output.shape != target.shape or hidden.shape != output.shape[:2]:
        raise ValueError("patches [N, L, P] and a mask [N, L] are needed, got "
                         f"{list(output.shape)}, {list(target.shape)} and {list(hidden.shape)}")
    if not hidden.any():
        raise ValueError("no patch is hidden, so there is nothing to predict: raise the mask ratio")
    return (output - target).square().mean(2)[hidden].mean()


class MAE(Method):
    """The encoder sees the visible patches only; a light decoder sees them with a mask token in each hidden place.

    norm_pix_loss: predict patches normalised one by one. It makes a better encoder, but the output is then not pixels:
    to look at pictures, train with False.
    """

    smallest_batch = 1
    objective = staticmethod(masked_loss)  # the loss: a subclass may name another

    def __init__(self, encoder: ViT, *, mask_ratio: float = 0.75, norm_pix_loss: bool = True, width: int = 64,
                 depth: int = 2, heads: int = 4, views: nn.Module | None = None):
        super().__init__(encoder, views or augment.weak())
        if not isinstance(encoder, ViT):
            raise TypeError(f"MAE hides patches from a transformer and needs nets.vit(), got {type(encoder).__name__}")
        self.mask_ratio, self.norm_pix_loss = mask_ratio, norm_pix_loss
        self.narrow = nn.Linear(encoder.dim, width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.register_buffer("positions", sincos_positions(encoder.grid, encoder.grid, width), persistent=False)
        self.decoder = nn.Sequential(*(TransformerBlock(width, heads) for _ in range(depth)), nn.LayerNorm(width))
        self.predict = nn.Linear(width, encoder.patch**2 * 3)

    def decode(self, tokens: Float[Tensor, "n k d"], restore: Int64[Tensor, "n l"]) -> Float[Tensor, "n l p"]:
        """Class token and visible patches in, all patches out, in reading order."""
        x = self.narrow(tokens)
        blanks = self.mask_token.to(x.dtype).expand(len(x), restore.shape[1] - x.shape[1] + 1, -1)
        patches = torch.cat([x[:, 1:], blanks], 1).gather(1, restore[:, :, None].expand(-1, -1, x.shape[2]))
        x = torch.cat([x[:, :1], patches + self.positions], 1)
        return self.predict(self.decoder(x)[:, 1:])

    def predict_patches(self, x: Float[Tensor, "n 3 h w"]) -> tuple[Float[Tensor, "n l p"], Bool[Tensor, "n l"]]:
        """Predictions for all patches of pictures in [0, 1], and which patches were hidden.

        Raises ValueError for pictures of another size than the encoder's, since the decoder has positions for that one.
        """
        size = self.encoder.patch * self.encoder.grid
        if x.shape[2:] != (size, size):
            raise ValueError(f"this MAE takes pictures of {size}×{size} pixels, got {x.shape[2]}×{x.shape[3]}: "
                             f"give it views of {size} or build nets.vit(size={x.shape[2]})")
        keep, hidden, restore = random_masking(len(x), self.encoder.grid**2, self.mask_ratio, x.device)
        return self.decode(self.encoder.tokens(x, keep), restore), hidden

    def loss(self, batch: Batch) -> Tensor:
        x = self.view(batch.x)
        target = patchify(x, self.encoder.patch)
        if self.norm_pix_loss:
            target = normalize_patches(target)
        output, hidden = self.predict_patches(x)
        return self.objective(output, target, hidden)
