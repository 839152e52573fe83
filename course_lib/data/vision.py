"""Real pictures, wherever they come from: how they are split into parts, cut short and resized."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor
from torch.nn import functional as F

from course_lib.data.types import Dataset, Images

VAL_SHARE = 0.1  # of the training pictures, where a source has no val
TEST_SHARE = 0.2  # of the training pictures, where a source has no test


@dataclasses.dataclass(frozen=True)
class Pictures:
    """What a source holds, before anything is split, cut short or resized. All parts have labels, or none has.

    source: what it was read from, so that a re-encoded copy is never taken for the original.
    val, test: None where the source has no such part.
    unlabelled: more pictures to pretrain on (STL-10 only).
    """

    source: str
    train: Images
    val: Images | None = None
    test: Images | None = None
    unlabelled: Images | None = None


def dataset(name: str, pictures: Pictures, *, size: int | None, limit: int | None, seed: int) -> Dataset:
    """The four parts of a data set.

    Without a `test` of its own, a fifth of each class of the training pictures becomes one, always the same fifth.
    The pictures of each part then stand in rounds: every class once a round, in a shuffled order that is always the
    same, so the first n of them are balanced; `limit` takes the first `limit` of each part. Without a `val` of its
    own, a tenth of each class of what is left for training becomes one, drawn by `seed`. `pretrain` is `train` without
    labels, and the unlabelled pictures where there are any: nothing is ever trained on `val` or `test`.

    Raises ValueError where a class has no picture for train, or none for a part that is split off.
    """
    train, val, test = pictures.train, pictures.val, pictures.test
    needed = ["train"] + ["val"] * (val is None) + ["test"] * (test is None)
    _check_counts(train, needed, "add pictures")
    if test is None:
        train, test = _split(train, TEST_SHARE, seed=0)
        needed.remove("test")
    train, test = _first(train, size, limit), _first(test, size, limit)
    _check_counts(train, needed, f"raise limit={limit}")
    if val is None:
        train, val = _split(train, VAL_SHARE, seed)
    else:
        val = _first(val, size, limit)
    pretrain = train.without_labels()
    if pictures.unlabelled is not None:
        more = resize(pictures.unlabelled.x[:limit], size)
        pretrain = Images(torch.cat([pretrain.x, more]), classes=train.classes)
    return Dataset(name, pretrain, train, val, test, source=pictures.source)


def _check_counts(train: Images, needed: list[str], advice: str) -> None:
    """Every class must have a training picture for each part that is needed. Raises ValueError."""
    counts = [len(train)] if train.y is None else train.y.bincount(minlength=len(train.classes)).tolist()
    for number, count in enumerate(counts):
        if count < len(needed):
            what = f"every class ({train.classes[number]} too)" if train.classes else "a data set"
            raise ValueError(f"{what} needs a picture for each of {', '.join(needed)}, got {count}: {advice}")


def _first(images: Images, size: int | None, limit: int | None) -> Images:
    """The first `limit` pictures, classes balanced, resized."""
    rank = torch.zeros(len(images), dtype=torch.float64)
    if images.y is not None:
        for number in range(len(images.classes)):
            members = images.y == number
            rank[members] = torch.arange(int(members.sum()), dtype=torch.float64)
    shuffle = torch.rand(len(images), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    images = images[(rank + shuffle).argsort()[:limit]]
    return dataclasses.replace(images, x=resize(images.x, size))


def _split(images: Images, share: float, seed: int) -> tuple[Images, Images]:
    """What stays, and what is split off."""
    mask = stratified(images, share, seed)
    return images[~mask], images[mask]


def stratified(images: Images, share: float, seed: int) -> Bool[Tensor, " n"]:
    """A mask of `share` of every class, drawn by `seed`: at least one picture of each class that has two.

    Pictures without labels count as one class.
    """
    y = torch.zeros(len(images)) if images.y is None else images.y
    generator = torch.Generator().manual_seed(seed)
    mask = torch.zeros(len(y), dtype=torch.bool)
    for number in y.unique():
        members = (y == number).nonzero().squeeze(1)
        wanted = max(1, round(share * len(members))) if len(members) > 1 else 0
        mask[members[torch.randperm(len(members), generator=generator)[:wanted]]] = True
    return mask


def resize(x: UInt8[Tensor, "n 3 h w"], size: int | None) -> UInt8[Tensor, "n 3 s s"]:
    """The central square of each picture at `size` × `size`, antialiased; None leaves the pictures as they are."""
    if size is None or x.shape[2:] == (size, size):
        return x
    side = min(x.shape[2:])
    top, left = (x.shape[2] - side) // 2, (x.shape[3] - side) // 2
    x = x[:, :, top : top + side, left : left + side]
    shrink = (F.interpolate(part, (size, size), mode="bilinear", antialias=True) for part in x.split(1000))
    return torch.cat(list(shrink))
