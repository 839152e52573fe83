"""What every measure asks of what it is given, in one sentence where it is not so, and the settings they all run in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from course_lib.data.types import Dataset
from course_lib.devices import plain_modes

PATIENCE = 5.0  # seconds before a progress bar shows, so that what is over in a moment leaves no trace


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """The same numbers wherever a measure is called: no autocast, no inference mode, no gradients, float32 by default.

    Inference mode is left because its tensors cannot be used where gradients are taken, as the probe's fit does.
    `@undisturbed()` above a function runs each call of it so.
    """
    default = torch.get_default_dtype()
    with plain_modes(grad=False):
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(default)


def check_encoder(encoder: nn.Module) -> None:
    """Raises TypeError where this is no encoder that can be measured: no module, a whole method, not in float32."""
    if not isinstance(encoder, nn.Module):
        raise TypeError(f"an encoder must be a torch.nn.Module, got {type(encoder).__name__}: give method.encoder, or "
                        "build one with cl.nets")
    if callable(getattr(encoder, "loss", None)) and isinstance(getattr(encoder, "encoder", None), nn.Module):
        raise TypeError(f"only an encoder can be measured, got the whole method {type(encoder).__name__}: "
                        "give method.encoder")
    for name, weight in encoder.named_parameters():
        if weight.is_floating_point() and weight.dtype != torch.float32:
            raise TypeError(f"an encoder is measured in float32, but its {name} is {weight.dtype}: convert it first "
                            "with encoder.float()")


def check_dataset(dataset: Dataset) -> None:
    """Raises TypeError for anything but a `Dataset`, ValueError for one without classes."""
    if not isinstance(dataset, Dataset):
        raise TypeError(f"an encoder is evaluated on a Dataset with train, val and test, got {type(dataset).__name__}: "
                        "give what cl.load returned; for one set of pictures there is features(encoder, images)")
    if dataset.train.y is None:
        raise ValueError("an encoder is measured by how well it tells classes apart, and the pictures of "
                         f"{dataset.name} have none: put them in one folder a class, or look at them with viz")


def check_features(z: Tensor, what: str, *, rows: int = 1) -> None:
    """`z` must be floats `[n, d]`, finite, with at least `rows` rows; `what` names it in the sentence that is raised.

    Raises TypeError where it is no float tensor, ValueError where shape, length or values do not fit.
    """
    if not isinstance(z, Tensor) or not z.is_floating_point():
        got = z.dtype if isinstance(z, Tensor) else type(z).__name__
        raise TypeError(f"{what} must be a tensor of floats, got {got}: take them with features(encoder, images)")
    if z.ndim != 2 or z.shape[1] == 0:
        raise ValueError(f"{what} must have shape [n, d], got {list(z.shape)}: give one feature vector a picture")
    if len(z) < rows:
        raise ValueError(f"{what} must have at least {rows} {'row' if rows == 1 else 'rows'}, got {len(z)}: "
                         "give more pictures")
    bad = ~z.isfinite().all(dim=1)
    if bad.any():
        raise ValueError(f"{what} must be finite, but {int(bad.sum())} of {len(z)} rows hold NaN or infinity: the "
                         "encoder has diverged (train it with a lower learning rate) or its pictures hold NaN")


def check_same_width(first: Tensor, second: Tensor, what: str) -> None:
    """Raises ValueError where two sets of features differ in dimension."""
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"{what} must have the same dimension, got {first.shape[1]} and {second.shape[1]}: "
                         "take both from the same encoder")


def check_labels(y: Tensor, z: Tensor, what: str, classes: int | None = None) -> None:
    """`y` must be int64 `[n]`, one label for each row of `z`, each from 0 to `classes` - 1 where that is given.

    Raises TypeError where it is no int64 tensor, ValueError where length or values do not fit.
    """
    if not isinstance(y, Tensor) or y.dtype != torch.int64:
        got = y.dtype if isinstance(y, Tensor) else type(y).__name__
        raise TypeError(f"{what} must be an int64 tensor, got {got}: convert them with y.long()")
    if y.shape != (len(z),):
        raise ValueError(f"{what} must be one label a feature vector, [{len(z)}], got {list(y.shape)}: "
                         "take features and labels from the same pictures")
    if int(y.min()) < 0 or (classes is not None and int(y.max()) >= classes):
        wanted = "0 or more" if classes is None else f"0 to {classes - 1}"
        raise ValueError(f"{what} must be {wanted}, got {int(y.min())} to {int(y.max())}: number the classes from 0")
