"""What every drawing takes, checked in one place: pictures, and encoders or the features taken from them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_lib.data.types import Dataset, Images
from course_lib.evaluate.checks import check_features
from course_lib.evaluate.features import features


def as_images(pictures: Images | Tensor) -> Images:
    """Pictures as `Images`: uint8, or float in [0, 1]; `[N, 3, H, W]` or grey `[N, 1, H, W]`, or one `[C, H, W]`.

    A decoder overshoots a little, so floats just outside [0, 1] are clamped. Floats far outside are standardised
    pictures or pictures in 0..255, and drawing them would mislead.

    Raises TypeError or ValueError for anything else, for NaN, and where there is no picture at all.
    """
    if isinstance(pictures, Dataset):
        raise TypeError("wanted pictures, got a whole Dataset: pass one of its parts, such as data.test")
    if isinstance(pictures, Tensor):
        pictures = Images(_as_uint8(pictures))
    if not isinstance(pictures, Images):
        raise TypeError(f"wanted Images or a tensor [N, 3, H, W], got {type(pictures).__name__}: "
                        "pass data.test, or a batch of pictures")
    if len(pictures) == 0:
        raise ValueError("wanted at least one picture, got none: check how the pictures were chosen")
    return pictures


def _as_uint8(x: Tensor) -> Tensor:
    x = x.detach().cpu()
    x = x[None] if x.ndim == 3 else x
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise ValueError(f"wanted pictures [N, 3, H, W] or [N, 1, H, W], got shape {list(x.shape)}: "
                         "put the channels second with x.permute(0, 3, 1, 2)")
    if x.is_floating_point():
        if not x.isfinite().all():
            raise ValueError("wanted pictures in [0, 1], got NaN or infinity: look where they came from before drawing")
        if x.numel() and not -1 <= float(x.min()) <= float(x.max()) <= 2:
            raise ValueError(f"wanted pictures in [0, 1], got {float(x.min()):.3g} to {float(x.max()):.3g}: "
                             "undo the normalisation, or divide by 255")
        x = (x.clamp(0, 1) * 255).round().to(torch.uint8)
    return x.expand(-1, 3, -1, -1)


def some(images: Images, limit: int, seed: int) -> Int64[Tensor, " n"]:
    """The numbers of at most `limit` pictures, drawn by the seed: data often come sorted by class."""
    if len(images) <= limit:
        return torch.arange(len(images))
    return torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:limit].sort().values


def features_of(encoder: nn.Module | Tensor, images: Images, index: Int64[Tensor, " n"]) -> Float[Tensor, "n d"]:
    """Features of the chosen pictures, float32 on the CPU: from an encoder, or from a tensor with one row a picture.

    Raises TypeError or ValueError where it is neither, or the tensor is not `[N, D]` and finite.
    """
    if isinstance(encoder, nn.Module):
        return features(encoder, images[index])
    if not isinstance(encoder, Tensor):
        raise TypeError(f"wanted an encoder or a tensor of features [N, D], got {type(encoder).__name__}: "
                        "pass method.encoder")
    check_features(encoder, "features")
    if len(encoder) != len(images):
        raise ValueError(f"wanted one row of features for each of the {len(images)} pictures, got {len(encoder)}: "
                         "take them from the same pictures, or pass the encoder itself")
    return encoder.detach()[index.to(encoder.device)].float().cpu()


def named(encoders: Mapping[str, object]) -> Mapping[str, object]:
    """A dict from a name to something, with at least one entry; TypeError or ValueError otherwise."""
    if not isinstance(encoders, Mapping):
        raise TypeError(f'wanted a dict from names to what is drawn, such as {{"SimCLR": ...}}, '
                        f"got {type(encoders).__name__}")
    if not encoders:
        raise ValueError("wanted at least one entry to draw, got an empty dict")
    return encoders


def class_name(images: Images, i: int) -> str:
    """The name of the class of picture i, or nothing where labels are hidden."""
    return "" if images.y is None else images.classes[int(images.y[i])]
