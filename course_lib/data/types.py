"""What a data set is: `Images`, a batch of pictures with what is known about them, and `Dataset`, four of those."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

PARTS = ("pretrain", "train", "val", "test")


@dataclasses.dataclass(frozen=True)
class Images:
    """Pictures and what is known about them. Slicing and `.to(device)` give `Images` again.

    x: uint8 `[N, 3, H, W]`, red, green, blue in 0..255.
    y: int64 `[N]`, or None where the labels are hidden.
    classes: the name of each class, in the order of the numbers in `y`.
    factors: what a picture was drawn from (Toybox only): name -> `[N]`.
    masks: uint8 `[N, H, W]`, 0 for background (Toybox only).
    captions: one sentence a picture (Toybox only).

    Raises TypeError or ValueError where dtypes, shapes or lengths do not fit.
    """

    x: UInt8[Tensor, "n 3 h w"]
    y: Int64[Tensor, " n"] | None = None
    classes: tuple[str, ...] = ()
    factors: Mapping[str, Tensor] | None = None
    masks: UInt8[Tensor, "n h w"] | None = None
    captions: tuple[str, ...] | None = None

    def __post_init__(self):
        if not isinstance(self.x, Tensor) or self.x.dtype != torch.uint8:
            got = self.x.dtype if isinstance(self.x, Tensor) else type(self.x).__name__
            raise TypeError(f"pictures must be a uint8 tensor with values 0..255, got {got}: "
                            "convert floats in [0, 1] with (x * 255).round().to(torch.uint8)")
        if self.x.ndim != 4 or self.x.shape[1] != 3:
            raise ValueError(f"pictures must have shape [N, 3, H, W], got {list(self.x.shape)}: "
                             "repeat the channel of grey pictures three times")
        if self.y is not None and (not isinstance(self.y, Tensor) or self.y.dtype != torch.int64):
            got = self.y.dtype if isinstance(self.y, Tensor) else type(self.y).__name__
            raise TypeError(f"labels must be an int64 tensor, got {got}: convert them with y.long()")
        if self.y is not None and len(self.y) and not 0 <= int(self.y.min()) <= int(self.y.max()) < len(self.classes):
            raise ValueError(f"labels run from {int(self.y.min())} to {int(self.y.max())} but there are "
                             f"{len(self.classes)} class names: number the classes from 0 and name each one")
        parts = {"y": self.y, "masks": self.masks, "captions": self.captions, **(self.factors or {})}
        for name, part in parts.items():
            if part is not None and len(part) != len(self.x):
                raise ValueError(f"{name} has {len(part)} entries for {len(self.x)} pictures: give one a picture")

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index) -> Images:
        """Slice, integer tensor, boolean tensor or list of ints; a single int gives one picture, still as `Images`."""
        if isinstance(index, slice):
            index = range(*index.indices(len(self)))
        index = torch.as_tensor([index] if isinstance(index, int) else index)
        if index.dtype == torch.bool:
            index = index.nonzero().squeeze(1)
        index = index.long()
        pick = index.to(self.x.device)
        return dataclasses.replace(
            self,
            x=self.x[pick],
            y=None if self.y is None else self.y[pick],
            factors=None if self.factors is None else {k: v[pick] for k, v in self.factors.items()},
            masks=None if self.masks is None else self.masks[pick],
            captions=None if self.captions is None else tuple(self.captions[i] for i in index.tolist()),
        )

    def to(self, device) -> Images:
        """The same pictures on another device: a whole data set fits, CIFAR-10 is 154 MB."""
        def move(t):
            return None if t is None else t.to(device)

        factors = None if self.factors is None else {k: move(v) for k, v in self.factors.items()}
        return dataclasses.replace(self, x=move(self.x), y=move(self.y), factors=factors, masks=move(self.masks))

    def without_labels(self) -> Images:
        """The pictures alone: no labels, factors, masks or captions, so no method can read one by accident."""
        return Images(self.x, classes=self.classes)

    @staticmethod
    def join(first: Images, second: Images) -> Images:
        """Two labelled sets of the same classes, one after the other, with pictures and labels only."""
        if first.classes != second.classes:
            raise ValueError(f"cannot join pictures of {first.classes} with pictures of {second.classes}: "
                             "both need the same classes in the same order")
        y = None if first.y is None or second.y is None else torch.cat([first.y, second.y])
        return Images(torch.cat([first.x, second.x]), y, first.classes)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One data set, in four parts.

    pretrain: pictures without labels, for self-supervised training.
    train: labelled pictures, for probes and for supervised training.
    val: labelled pictures split off the training labels, for choosing a probe's settings.
    test: labelled pictures, read once, for the number that is reported.
    source: what the pictures were read from, since a re-encoded copy gives results a little different.
    """

    name: str
    pretrain: Images
    train: Images
    val: Images
    test: Images
    source: str = ""

    def __post_init__(self):
        if self.pretrain.y is not None:
            raise ValueError("pretrain must have no labels, got some: use images.without_labels()")
        for part in ("train", "val", "test"):
            if getattr(self, part).y is None:
                raise ValueError(f"{part} must have labels, got none: a probe needs them")

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes

    def to(self, device) -> Dataset:
        return dataclasses.replace(self, **{p: getattr(self, p).to(device) for p in PARTS})

    def __repr__(self) -> str:
        sizes = ", ".join(f"{p} {len(getattr(self, p)):,}" for p in PARTS)
        shape = f"{self.train.x.shape[2]}×{self.train.x.shape[3]}, {len(self.classes)} classes"
        return f"Dataset({self.name}: {sizes}; {shape}{'; from ' + self.source if self.source else ''})"
