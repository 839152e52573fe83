"""How well is a thing followed through a clip? Region and contour of its mask, as in DAVIS (Perazzi et al. 2016)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from course_lib.data.toybox import Clips
from course_lib.evaluate.checks import undisturbed


@undisturbed()
def region_similarity(masks: Tensor, truth: Tensor) -> Float[Tensor, "*batch"]:
    """J, the intersection of two masks over their union; 1 where both are empty, 0 where one of them is.

    masks, truth: `[..., H, W]`, of any dtype; a soft mask counts from one half on.
    Raises ValueError where shapes differ.
    """
    masks, truth = _as_bool(masks, truth)
    union = (masks | truth).sum((-2, -1))
    return torch.where(union == 0, 1.0, (masks & truth).sum((-2, -1)) / union.clamp(min=1))


@undisturbed()
def contour_accuracy(masks: Tensor, truth: Tensor, *, tolerance: float = 1.0) -> Float[Tensor, "*batch"]:
    """F, the harmonic mean of precision (how much of the mask's contour lies on the true one) and recall (the reverse).

    A contour's pixel counts as lying on the other contour where that comes within `tolerance` pixels of it: the other
    one is dilated by a disc, as DAVIS does in place of matching pixels one to one. 1 pixel is what its 0.8 % of the
    diagonal, rounded up, gives up to 88×88. Masks without a contour, empty or full: 1 where neither has one, 0 where
    one of them has none.
    Raises ValueError where shapes differ or the tolerance is negative.
    """
    if not tolerance >= 0:
        raise ValueError(f"the tolerance must be 0 pixels or more, got {tolerance}: 1 is usual for small pictures")
    mine, true = (contour(mask) for mask in _as_bool(masks, truth))
    precision, recall = _share(mine, _dilate(true, tolerance)), _share(true, _dilate(mine, tolerance))
    f = 2 * precision * recall / (precision + recall).clamp(min=1e-9)
    return torch.where(mine.any(-1).any(-1) | true.any(-1).any(-1), f, 1.0)


def contour(mask: Bool[Tensor, "*batch h w"]) -> Bool[Tensor, "*batch h w"]:
    """Pixels whose right, lower or lower right neighbour is on the other side; a picture's edge is no contour."""
    next_row = torch.cat([mask[..., 1:, :], mask[..., -1:, :]], -2)
    right, lower_right = (torch.cat([m[..., 1:], m[..., -1:]], -1) for m in (mask, next_row))
    return (mask != right) | (mask != next_row) | (mask != lower_right)


@undisturbed()
def evaluate_clips(track: Callable[[Tensor, Tensor], Tensor], clips: Clips, *, tolerance: float = 1.0,
                   batch_size: int = 32) -> dict[str, float | list[float]]:
    """Follow the thing from its mask in the first frame, and compare with not following it at all.

    track: frames uint8 `[N, T, 3, H, W]` and first masks `[N, H, W]` to masks `[N, T, H, W]`, soft or not.

    Returns J and F, means over clips and over all frames but the first, which was given; copy_J and copy_F, the same of
    the first mask held still; J_by_frame and copy_J_by_frame, how J drifts: entry d − 1 is d frames after the first.
    Raises ValueError where the masks that `track` returns have another shape.
    """
    scores: dict[str, list[Tensor]] = {"J": [], "F": [], "copy_J": [], "copy_F": []}
    for start in range(0, len(clips), batch_size):
        x, truth = (t[start:start + batch_size] for t in (clips.x, clips.masks))
        for name, masks in (("", track(x, truth[:, 0])), ("copy_", truth[:, :1].expand_as(truth))):
            _as_bool(masks, truth)
            scores[name + "J"].append(region_similarity(masks[:, 1:], truth[:, 1:]))
            scores[name + "F"].append(contour_accuracy(masks[:, 1:], truth[:, 1:], tolerance=tolerance))
    found = {name: torch.cat(parts) for name, parts in scores.items()}
    return {name: values.mean().item() for name, values in found.items()} | {
        f"{name}_by_frame": found[name].mean(0).tolist() for name in ("J", "copy_J")}


def _as_bool(masks: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    if masks.ndim < 2 or masks.shape != truth.shape:
        raise ValueError("masks and true masks must have one shape [..., H, W], "
                         f"got {list(masks.shape)} and {list(truth.shape)}: give one mask for each true one")
    return masks >= 0.5, truth >= 0.5


def _dilate(mask: Bool[Tensor, "*batch h w"], radius: float) -> Bool[Tensor, "*batch h w"]:
    """Every pixel whose centre lies within `radius` of the centre of one in the mask."""
    reach = int(radius)
    at = torch.arange(-reach, reach + 1, device=mask.device)
    disc = (at[:, None] ** 2 + at**2 <= radius**2).float()
    flat = mask.reshape(-1, 1, *mask.shape[-2:]).float()
    return (F.conv2d(flat, disc[None, None], padding=reach) > 0.5).view_as(mask)


def _share(part: Bool[Tensor, "*batch h w"], of: Bool[Tensor, "*batch h w"]) -> Float[Tensor, "*batch"]:
    return (part & of).sum((-2, -1)) / part.sum((-2, -1)).clamp(min=1)
