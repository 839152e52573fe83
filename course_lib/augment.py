"""Random views of pictures, a whole batch at once, on whatever device the pictures are on.

A view is three linear maps and a clamp, which is what makes it fast:

* Crop, flip, resize and blur only mix pixels of one row or of one column. Together they are two small matrices a
  picture, `rows @ picture @ columns`, where each matrix holds the weights of a bilinear resize with a low-pass filter
  whenever the picture shrinks.
* Brightness, contrast, saturation, hue and grey only mix the three channels of one pixel. Together they are one 3×4
  matrix a picture. In YIQ they commute, so their order drops out. The last column holds the contrast's mean.

torchvision clamps after each colour operation; here there is one clamp at the end.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from course_lib.pictures import as_float

# torchvision's weights for grey, so that saturation, contrast and grey agree with it digit by digit.
LUMA = (0.2989, 0.587, 0.114)
RGB_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
YIQ_TO_RGB = RGB_TO_YIQ.inverse()  # once and here: a GPU would wait each time to see whether there is an inverse


@dataclasses.dataclass(frozen=True)
class Draw:
    """What was drawn for each of N pictures: enough to make the very same view again, by us or by another library."""

    box: Int64[Tensor, "n 4"]  # top, left, height, width, in pixels of the picture
    flip: Bool[Tensor, " n"]
    brightness: Float[Tensor, " n"]  # factors, 1 leaves the picture as it is
    contrast: Float[Tensor, " n"]
    saturation: Float[Tensor, " n"]
    hue: Float[Tensor, " n"]  # turns around the colour circle, 0 leaves the picture as it is
    gray: Bool[Tensor, " n"]
    sigma: Float[Tensor, " n"]  # of the blur, in pixels of the view; 0 is no blur
    solarize: Bool[Tensor, " n"]


class Views(nn.Module):
    """One random view of each picture. Call it twice for two views.

    size: height and width of the view, in pixels.
    crop: smallest and largest share of the picture's area that is kept.
    ratio: smallest and largest width / height of the crop.
    flip: probability of a left-right flip.
    jitter: strengths of brightness, contrast, saturation (factors in 1 ± strength) and hue (turns in ± strength).
    p_jitter, p_gray, blur, solarize: probability of each for a picture.
    sigma: smallest and largest deviation of the blur, in pixels of a view of `size`; smaller views blur in proportion.
    early_size, early: while less than the share `early` of a training is done, views have `early_size` pixels, which
        is quicker. Whoever trains says where it stands, see `follow`; until then, and always after it, `size` counts.

    In: uint8 `[N, 3, H, W]`, or floats in [0, 1]. Out: float32 `[N, 3, size, size]` in [0, 1].
    Source: SimCLR (Chen et al. 2020), appendix A; solarization from BYOL (Grill et al. 2020), appendix B.
    """

    def __init__(self, size=32, crop=(0.2, 1.0), ratio=(3 / 4, 4 / 3), flip=0.5, jitter=(0.4, 0.4, 0.4, 0.1),
                 p_jitter=0.8, p_gray=0.2, blur=0.0, sigma=(0.1, 2.0), solarize=0.0,
                 early_size=None, early=0.0):
        super().__init__()
        for name, pixels in {"size": size, "early_size": size if early_size is None else early_size}.items():
            if pixels != int(pixels) or pixels < 1:
                raise ValueError(f"{name} must be a whole number of pixels, at least 1, got {pixels}")
        if not 0 <= early <= 1:
            raise ValueError(f"early is a share of the training and must lie in [0, 1], got {early}")
        if early and early_size is None:
            raise ValueError(f"views cannot be smaller early on without a size, got early={early} alone: "
                             "give early_size too, in pixels")
        if not 0 < crop[0] <= crop[1] <= 1:
            raise ValueError(f"crop must be two shares of the area with 0 < smallest <= largest <= 1, got {crop}")
        if not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f"ratio must be 0 < smallest <= largest, got {ratio}")
        if not 0 < sigma[0] <= sigma[1]:
            raise ValueError(f"sigma must be 0 < smallest <= largest, in pixels of the view, got {sigma}")
        chances = {"flip": flip, "p_jitter": p_jitter, "p_gray": p_gray, "blur": blur, "solarize": solarize}
        for name, p in chances.items():
            if not 0 <= p <= 1:
                raise ValueError(f"{name} is a probability and must lie in [0, 1], got {p}")
        if len(jitter) != 4 or min(jitter) < 0 or max(jitter[:3]) > 1 or jitter[3] > 0.5:
            raise ValueError("jitter must be four strengths (brightness, contrast and saturation at most 1, "
                             f"hue at most 0.5 turns), got {jitter}")
        self.size, self.crop, self.ratio, self.flip, self.jitter = size, crop, ratio, flip, jitter
        self.p_jitter, self.p_gray, self.blur, self.sigma, self.solarize = p_jitter, p_gray, blur, sigma, solarize
        self.early_size, self.early = early_size, early
        self.progress = 1.0  # as at the end of a training, so that what is drawn or measured has its full size

    def extra_repr(self) -> str:
        early = f", early_size={self.early_size}, early={self.early}" if self.early else ""
        return (f"size={self.size}, crop={self.crop}, flip={self.flip}, jitter={self.jitter}, "
                f"p_jitter={self.p_jitter}, p_gray={self.p_gray}, blur={self.blur}, solarize={self.solarize}{early}")

    def set_progress(self, progress: float) -> None:
        """Say how much of a training is done, in [0, 1], which decides between `early_size` and `size`."""
        if not 0 <= progress <= 1:
            raise ValueError(f"progress is the share of a training that is done and must lie in [0, 1], got {progress}")
        self.progress = progress

    @property
    def current_size(self) -> int:
        """Height and width of the next view, in pixels."""
        return self.early_size if self.progress < self.early else self.size

    @torch.no_grad()
    def forward(self, x: Tensor) -> Float[Tensor, "n 3 s s"]:
        x = as_float(x).float()
        return self._view(x, self.draw(len(x), *x.shape[2:], device=x.device))

    def draw(self, n: int, height: int, width: int, device="cpu") -> Draw:
        """Draw the random numbers of n views of pictures of height × width pixels."""
        def uniform(low, high):
            return torch.empty(n, device=device).uniform_(low, high)

        def chance(p):
            return torch.rand(n, device=device) < p

        jittered = chance(self.p_jitter)
        brightness, contrast, saturation = (torch.where(jittered, uniform(1 - s, 1 + s), 1.0) for s in self.jitter[:3])
        return Draw(
            box=self._draw_box(n, height, width, device),
            flip=chance(self.flip),
            brightness=brightness,
            contrast=contrast,
            saturation=saturation,
            hue=torch.where(jittered, uniform(-self.jitter[3], self.jitter[3]), 0.0),
            gray=chance(self.p_gray),
            sigma=torch.where(chance(self.blur), uniform(*self.sigma) * (self.current_size / self.size), 0.0),
            solarize=chance(self.solarize),
        )

    def _draw_box(self, n, height, width, device):
        # As torchvision's RandomResizedCrop: up to ten tries a picture, then the whole picture; all tries at once.
        area = torch.empty(n, 10, device=device).uniform_(*self.crop) * height * width
        ratio = torch.empty(n, 10, device=device).uniform_(math.log(self.ratio[0]), math.log(self.ratio[1])).exp()
        h, w = (area / ratio).sqrt().round().long(), (area * ratio).sqrt().round().long()
        fits = (h >= 1) & (w >= 1) & (h <= height) & (w <= width)
        first = fits.int().argmax(1, keepdim=True)
        found = fits.any(1)
        h = torch.where(found, h.gather(1, first).squeeze(1), height)
        w = torch.where(found, w.gather(1, first).squeeze(1), width)
        top = (torch.rand(n, device=device) * (height - h + 1)).long()
        left = (torch.rand(n, device=device) * (width - w + 1)).long()
        return torch.stack([top, left, h, w], 1)

    @torch.no_grad()
    def apply_draw(self, x: Tensor, draw: Draw) -> Float[Tensor, "n 3 s s"]:
        """The views that `draw` describes, without any new randomness."""
        return self._view(as_float(x).float(), draw)

    def _view(self, x, draw):
        height, width = x.shape[2:]
        size = self.current_size
        top, left, h, w = draw.box.unbind(1)
        # Matrix products stay in float32 even inside autocast: eight bits of colour need more than bf16 has.
        with torch.autocast(x.device.type, enabled=False):
            rows = resize_matrix(top, h, height, size)
            columns = resize_matrix(left, w, width, size, flip=draw.flip)
            if self.blur > 0:
                smooth = blur_matrix(draw.sigma, size)
                rows, columns = smooth @ rows, smooth @ columns
            x = (x.reshape(len(x), 3 * height, width) @ columns.mT).view(len(x), 3, height, size)
            x = rows[:, None] @ x
            matrix, shift = color_matrix(draw, x.mean((2, 3)))
            x = torch.baddbmm(shift, matrix, x.flatten(2)).clamp_(0, 1).view_as(x)
        if self.solarize > 0:
            x = torch.where(draw.solarize[:, None, None, None] & (x >= 0.5), 1 - x, x)
        return x


def resize_matrix(start: Int64[Tensor, " n"], length: Int64[Tensor, " n"], source: int, size: int,
                  flip: Bool[Tensor, " n"] | None = None) -> Float[Tensor, "n size source"]:
    """Weights that resample `length` of `source` pixels, from `start` on, to `size` pixels: one row an output pixel.

    Bilinear; where pixels get fewer, the triangle widens to `length / size` pixels, which is the low-pass filter of
    torchvision's `antialias=True`. Pixels outside the crop never leak in.
    """
    i = torch.arange(size, device=start.device).expand(len(start), -1)
    if flip is not None:
        i = torch.where(flip[:, None], size - 1 - i, i)
    scale = length[:, None] / size
    center = start[:, None] + (i + 0.5) * scale - 0.5
    j = torch.arange(source, device=start.device)
    weights = (1 - (j - center[:, :, None]).abs() / scale.clamp(min=1)[:, :, None]).clamp_(min=0)
    inside = (j >= start[:, None]) & (j < (start + length)[:, None])
    weights = weights * inside[:, None]
    return weights / weights.sum(2, keepdim=True)


def blur_matrix(sigma: Float[Tensor, " n"], size: int) -> Float[Tensor, "n size size"]:
    """A Gaussian blur along one direction as a matrix: rows sum to 1, also at the border. Sigma 0 is the identity."""
    i = torch.arange(size, device=sigma.device)
    weights = torch.exp(-0.5 * ((i - i[:, None]) / sigma.clamp(min=1e-3)[:, None, None]) ** 2)
    return weights / weights.sum(2, keepdim=True)


def color_matrix(draw: Draw, mean: Float[Tensor, "n 3"]) -> tuple[Float[Tensor, "n 3 3"], Float[Tensor, "n 3 1"]]:
    """Brightness b, contrast c, saturation s and a hue rotation H as `matrix @ pixel + shift`.

    matrix = b·c·(s·H + (1 − s)·grey) and shift = b·(1 − c)·(luma of the mean pixel), grey being a saturation of 0.
    mean: the mean pixel of each cropped picture.
    """
    luma = torch.tensor(LUMA, device=mean.device)
    angle = 2 * math.pi * draw.hue
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], 1).view(-1, 3, 3)
    hue = YIQ_TO_RGB.to(mean.device) @ turn @ RGB_TO_YIQ.to(mean.device)
    saturation = torch.where(draw.gray, 0.0, draw.saturation)[:, None, None]
    gain = (draw.brightness * draw.contrast)[:, None, None]
    matrix = gain * (saturation * hue + (1 - saturation) * luma.expand(3, 3))
    shift = draw.brightness * (1 - draw.contrast) * (mean @ luma)
    return matrix, shift[:, None, None].expand(-1, 3, 1)


class MultiCrop(nn.Module):
    """Several views of each picture: `global_views` called twice, then `local_views` called `locals_` times.

    Returns a list of float32 `[N, 3, s, s]`, global views first. Source: SwAV (Caron et al. 2020), section 3.3.
    """

    def __init__(self, global_views: Views, local_views: Views, locals_: int = 4):
        super().__init__()
        self.global_views, self.local_views, self.locals_ = global_views, local_views, locals_

    def set_progress(self, progress: float) -> None:
        """Say to both kinds of views how much of a training is done, in [0, 1]."""
        self.global_views.set_progress(progress)
        self.local_views.set_progress(progress)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.global_views(x) for _ in range(2)] + [self.local_views(x) for _ in range(self.locals_)]


def follow(views: nn.Module, progress: float) -> None:
    """Tell `views`, and every module in it that has `set_progress`, how much of the training is done, in [0, 1]."""
    for module in views.modules():
        if hasattr(module, "set_progress"):
            module.set_progress(progress)


def simclr(size: int = 32, **changes) -> Views:
    """SimCLR's views for small pictures: appendix B.9 uses crops, flips and colour at half strength, and no blur."""
    return Views(size, **changes)


def byol(size: int = 32, **changes) -> Views:
    """BYOL's views (appendix B, table 6): gentler saturation, and solarization in one view of ten on average.

    The paper blurs one view always and the other seldom; at 32 pixels a blur hides the object, so there is none.
    """
    return Views(size, **{"jitter": (0.4, 0.4, 0.2, 0.1), "solarize": 0.1, **changes})


def multicrop(size: int = 32, local_size: int = 16, locals_: int = 4, global_changes: Mapping[str, Any] = {},
              local_changes: Mapping[str, Any] = {}) -> MultiCrop:
    """SwAV's two large and several small views: crops of 0.3 to 1 and of 0.05 to 0.3 of the area.

    global_changes, local_changes: other options of `Views` for the large and for the small ones.
    """
    return MultiCrop(Views(**{"size": size, "crop": (0.3, 1.0), **global_changes}),
                     Views(**{"size": local_size, "crop": (0.05, 0.3), **local_changes}), locals_)


def weak(size: int = 32, **changes) -> Views:
    """A gentle crop and a flip, colours untouched: for methods whose idea is not in the views."""
    return Views(size, **{"crop": (0.6, 1.0), "p_jitter": 0.0, "p_gray": 0.0, **changes})


def none(size: int = 32) -> Views:
    """No randomness: the whole picture, resized."""
    return Views(size, crop=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, p_jitter=0.0, p_gray=0.0)
