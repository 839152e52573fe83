"""Pictures as sequences of patches: side by side, some of them hidden, or cut from a grid with gaps."""

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


def grid_crops(
    x: Float[Tensor, "n c h w"], size: int, *, jitter: int = 0, tiles: int = 3, cell: int | None = None
) -> Float[Tensor, "n t c s s"]:
    """One square crop of `size` pixels from each cell of a grid of T = tiles × tiles cells, in reading order.

    cell: the cells' side in pixels; by default the largest that fits. The grid lies in the middle of the picture.
    jitter: how many pixels a crop may lie off its cell's middle, in each direction; drawn for every crop by itself.
    Two neighbours are cell − size pixels apart on average, and cell − size − 2·jitter at least. A cell that is an odd
    number of pixels wider than its crop has its middle half a pixel up and to the left.

    Raises ValueError where the grid does not fit the picture, or a crop its cell.
    """
    n, _, h, w = x.shape
    cell = cell or max(1, min(h, w) // tiles)
    if tiles * cell > min(h, w):
        raise ValueError(f"a grid of {tiles}×{tiles} cells of {cell} pixels does not fit a picture of {h}×{w}: "
                         f"choose cells of at most {min(h, w) // tiles}")
    if size < 1 or jitter < 0 or size + 2 * jitter > cell:
        raise ValueError(f"a crop of {size} pixels that moves by {jitter} either way does not fit a cell of {cell}: "
                         "make the crop or the jitter smaller, or the picture larger")
    first = torch.arange(tiles, device=x.device) * cell + (cell - size) // 2
    top = (h - tiles * cell) // 2 + first.repeat_interleave(tiles)
    left = (w - tiles * cell) // 2 + first.repeat(tiles)
    move = torch.randint(-jitter, jitter + 1, (2, n, tiles**2), device=x.device)
    pixel = torch.arange(size, device=x.device)
    rows = (top + move[0])[:, :, None, None] + pixel[:, None]
    columns = (left + move[1])[:, :, None, None] + pixel
    picture = torch.arange(n, device=x.device)[:, None, None, None]
    return x.permute(0, 2, 3, 1)[picture, rows, columns].permute(0, 1, 4, 2, 3)
