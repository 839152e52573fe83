"""What every drawing takes, checked in one place: pictures, and encoders or the features taken from them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from course_lib.data.types import Dataset, Images
from course_lib.evaluate.checks import check_features
from course_lib.evaluate.features import features, some
from course_lib.pictures import as_float

__all__ = ["as_images", "class_name", "features_of", "named", "some"]


def as_images(pictures: Images | Tensor) -> Images:
    """Pictures as `Images`: uint8, or float in [0, 1]; `[N, 3, H, W]` or grey `[N, 1, H, W]`, or one `[C, H, W]`.

    A decoder overshoots, so floats from -1 to 2 are clamped to [0, 1]. Floats farther outside are standardised pictures
    or pictures in 0..255, and drawing them would mislead.

    Raises TypeError or ValueError as `as_float` does, and where there is no picture at all.
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


def _as_uint8(x: Tensor) -> UInt8[Tensor, "n 3 h w"]:
    """What is particular to drawing: one picture alone, grey ones, and what a decoder gives. The rest is `as_float`."""
    x = x.detach().cpu()
    if x.ndim == 3:
        x = x[None]
    if x.ndim == 4 and x.shape[1] not in (1, 3) and x.shape[3] in (1, 3):
        raise ValueError(f"wanted pictures [N, 3, H, W] or [N, 1, H, W], got shape {list(x.shape)}: "
                         "put the channels second with x.permute(0, 3, 1, 2)")
    if x.ndim == 4 and x.shape[1] == 1:
        x = x.expand(-1, 3, -1, -1)
    if x.dtype == torch.uint8:
        as_float(x[:1])
        return x
    if x.is_floating_point() and x.isnan().any():
        raise ValueError("wanted pictures in [0, 1], got NaN: look where they came from before drawing")
    if x.is_floating_point() and x.numel() and x.min() >= -1 and x.max() <= 2:
        x = x.clamp(0, 1)
    return (as_float(x) * 255).round().to(torch.uint8)


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
