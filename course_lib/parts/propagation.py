"""Following things through clips with any encoder: attention points from each place to where it was before.

Vondrick et al. 2018, "Tracking emerges by colorizing videos", section 3.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from course_lib.parts.precision import full_precision


@full_precision
def similarity(target: Float[Tensor, "n d p"], references: Float[Tensor, "n d r"], temperature: float
               ) -> Float[Tensor, "n p r"]:
    """Cosine of each place of the target with each of the references, over the temperature; its softmax over the
    references is the attention (equation 2).

    The paper takes the inner product. A cosine keeps a place from being copied everywhere for its length alone.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}: 0.07 is usual, a lower one points sharper")
    return F.normalize(target, dim=1).mT @ F.normalize(references, dim=1) / temperature


def attention(logits: Float[Tensor, "n p r"], topk: int) -> Float[Tensor, "n p r"]:
    """Softmax over each row's `topk` largest logits, zero elsewhere."""
    best, where = logits.topk(min(topk, logits.shape[2]), 2)
    return torch.zeros_like(logits).scatter(2, where, best.softmax(2))


@torch.no_grad()
def propagate(embed: Callable[[Tensor], Tensor], frames: Tensor, first: Tensor, *, k_frames: int = 3,
              radius: float = 8.0, topk: int = 10, temperature: float = 0.07, keep_first: bool = True,
              truth: Tensor | None = None) -> Float[Tensor, "n t *c h w"]:
    """Carry masks or colours of the first frame through the clips, frame after frame.

    embed: pictures to maps of embeddings `[N, D, h, w]`. frames: `[N, T, 3, H, W]`. first: masks `[N, H, W]`, or
    anything else that can be mixed, `[N, C, H, W]`. Each place copies from the `topk` places most like it in the first
    frame and the last `k_frames` before its own, none of them further off than `radius` pixels.

    keep_first: whether the first frame stays among the references once it is more than `k_frames` back.
    truth: the true masks or values of all frames, `[N, T, H, W]` or `[N, T, C, H, W]`. Each place then copies from
    these, and not from what was carried before, so that no mistake is carried on.

    Returns `[N, T, H, W]` or `[N, T, C, H, W]`, soft: a mask counts from one half on.
    Raises ValueError where frames, first values or settings do not fit.
    """
    check_clips(frames, 2)
    if first.ndim not in (3, 4) or len(first) != len(frames) or first.shape[-2:] != frames.shape[-2:]:
        raise ValueError(f"clips {list(frames.shape)} need masks [N, H, W] or values [N, C, H, W] of their first "
                         f"frames, got {list(first.shape)}: give clips.masks[:, 0]")
    if k_frames < 1 or topk < 1 or not radius >= 0:
        raise ValueError("k_frames and topk must be at least 1 and radius at least 0, "
                         f"got {k_frames}, {topk} and {radius}: the defaults are 3, 10 and 8")
    if truth is not None and (truth.shape[:2] != frames.shape[:2] or truth.shape[2:] != first.shape[1:]):
        raise ValueError(f"the true values of {list(frames.shape[:2])} frames must be like those of the first, "
                         f"{list(first.shape[1:])} each, got {list(truth.shape)}: give clips.masks")
    values = (first[:, None] if first.ndim == 3 else first).float()
    z = embed(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
    grid = z.shape[3:]
    step = torch.tensor(frames.shape[3:], device=z.device) / torch.tensor(grid, device=z.device)
    at = torch.cartesian_prod(*(torch.arange(n, device=z.device) for n in grid)) * step
    far = (at[:, None] - at).square().sum(2) > radius**2
    carried, whole = [F.adaptive_avg_pool2d(values, grid).flatten(2)], [values]
    known = carried  # the same list: it grows with every frame
    if truth is not None:
        known = [F.adaptive_avg_pool2d(t.view_as(values).float(), grid).flatten(2) for t in truth.unbind(1)]
    for t in range(1, frames.shape[1]):
        memory = sorted({*([0] if keep_first else []), *range(max(0, t - k_frames), t)})
        logits = similarity(z[:, t].flatten(2), z[:, memory].transpose(1, 2).flatten(2), temperature)
        weights = attention(logits.masked_fill(far.repeat(1, len(memory)), -torch.inf), topk)
        carried.append(torch.cat([known[s] for s in memory], 2) @ weights.mT)
        whole.append(F.interpolate(carried[t].unflatten(2, grid), frames.shape[3:], mode="bilinear"))
    return torch.stack([v[:, 0] for v in whole] if first.ndim == 3 else whole, 1)


def check_clips(x: Tensor, least: int) -> None:
    """Raise ValueError unless `x` are clips `[N, T, 3, H, W]` of at least so many frames."""
    if x.ndim != 5 or x.shape[1] < least or x.shape[2] != 3:
        raise ValueError(f"clips [N, T, 3, H, W] of {least} frames or more are needed, got {list(x.shape)}: "
                         "draw some with toybox.clips(n, frames=8)")
