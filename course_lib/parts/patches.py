"""Pictures as sequences of patches, and which of them are hidden."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


def patchify(x: Float[Tensor, "n c h w"], patch: int) -> Float[Tensor, "n l p"]:
    """Cut pictures into L = (H/patch)·(W/patch) patches in reading order, each flattened as (row, column, channel).

    Raises ValueError where the patches do not tile the picture.
    """
    n, c, h, w = x.shape
    if h % patch or w % patch:
        raise ValueError(f"patches of {patch} pixels do not tile a picture of {h}×{w}: "
                         "choose a patch that divides both")
    x = x.reshape(n, c, h // patch, patch, w // patch, patch)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(n, -1, patch * patch * c)


def unpatchify(patches: Float[Tensor, "n l p"], patch: int, height: int, width: int) -> Float[Tensor, "n c h w"]:
    """The inverse of `patchify`, for pictures of height × width pixels."""
    n, length, numbers = patches.shape
    rows, columns = height // patch, width // patch
    if length != rows * columns or numbers % patch**2:
        raise ValueError(f"a picture of {height}×{width} has {rows * columns} patches of {patch}×{patch} pixels, "
                         f"got {length} patches of {numbers} numbers")
    x = patches.reshape(n, rows, columns, patch, patch, -1)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(n, -1, height, width)


def random_masking(
    n: int, length: int, ratio: float, device="cpu"
) -> tuple[Int64[Tensor, "n k"], Bool[Tensor, "n l"], Int64[Tensor, "n l"]]:
    """Hide a random `ratio` of each picture's patches, the same number in every picture.

    Returns `keep` (the visible patches' positions), `hidden` (True where hidden) and `restore`: where `s` are the
    visible patches followed by the hidden ones, `s.gather(1, restore)` is in reading order again.
    Source: MAE (He et al. 2022), section 3; shuffle by sorting noise.
    """
    visible = round(length * (1 - ratio))
    if not 0 < visible < length:
        raise ValueError(f"hiding {ratio:.0%} of {length} patches leaves {visible} visible: "
                         "both sides need at least one")
    shuffle = torch.rand(n, length, device=device).argsort(1)
    restore = shuffle.argsort(1)
    return shuffle[:, :visible], restore >= visible, restore
