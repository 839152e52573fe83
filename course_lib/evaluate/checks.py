"""What every measure asks of the features and labels it is given, said in one sentence where it is not so."""

from __future__ import annotations

import torch
from torch import Tensor


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
