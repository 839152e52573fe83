"""What a data set is: `Images`, pictures with what is known about them, `Dataset`, four of those, and `Batch`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

PARTS = ("pretrain", "train", "val", "test")
NEEDS = ("labels", "captions", "clips")  # what a method may need besides pictures


@dataclasses.dataclass(frozen=True)
class Batch:
    """What a method sees of the data at one step.

    x: uint8 `[N, 3, H, W]`, the pictures as they are; clips `[N, T, 3, H, W]` for a method that needs those.
    index: int64 `[N]`, which pictures of the training set these are; None for pictures that are not trained on, so that
        none of them is looked up in a memory bank by mistake.
    y: int64 `[N]`, labels; captions: one sentence a picture. Each is None unless the method's `needs` names it.
    """

    x: UInt8[Tensor, "n 3 h w"]
    index: Int64[Tensor, " n"] | None = None
    y: Int64[Tensor, " n"] | None = None
    captions: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.x)


class Examples(Protocol):
    """What `fit` trains on: `Images`, `Clips`, or anything else that can do this."""

    def __len__(self) -> int: ...
    def to(self, device) -> Examples: ...
    def only(self, needs: Collection[str]) -> Examples: ...
    def batch(self, index: Int64[Tensor, " n"]) -> Batch: ...


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
            if index.shape != (len(self),):
                raise IndexError(f"a mask must say yes or no for each of the {len(self)} pictures, got "
                                 f"{list(index.shape)}: make one of shape [{len(self)}]")
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

    def batch(self, index: Int64[Tensor, " n"]) -> Batch:
        """The pictures of these numbers as a method sees them, with labels and captions where there are some."""
        pick = index.to(self.x.device)
        words = None if self.captions is None else tuple(self.captions[i] for i in index.tolist())
        return Batch(self.x[pick], pick, None if self.y is None else self.y[pick], words)

    def only(self, needs: Collection[str]) -> Images:
        """The pictures, and of labels and captions those that `needs` names: nothing else can be read by accident.

        Raises ValueError where these pictures lack what is needed, or `needs` names something unknown.
        """
        check_needs(needs)
        if "clips" in needs:
            raise ValueError("clips are needed, and these are single pictures: give toybox.clips(n)")
        for name, value, where in (("labels", self.y, "data.train, not data.pretrain"),
                                   ("captions", self.captions, "Toybox, whose pictures have some")):
            if name in needs and value is None:
                raise ValueError(f"{name} are needed, and these pictures have none: take {where}")
        return Images(self.x, self.y if "labels" in needs else None, self.classes,
                      captions=self.captions if "captions" in needs else None)

    def without_labels(self) -> Images:
        """The pictures, with their captions where they have some, which are not labels; no labels, factors, masks."""
        return Images(self.x, classes=self.classes, captions=self.captions)

    @staticmethod
    def join(first: Images, second: Images) -> Images:
        """Two labelled sets of the same classes, one after the other, with pictures and labels only."""
        if first.classes != second.classes:
            raise ValueError(f"cannot join pictures of {first.classes} with pictures of {second.classes}: "
                             "both need the same classes in the same order")
        y = None if first.y is None or second.y is None else torch.cat([first.y, second.y])
        return Images(torch.cat([first.x, second.x]), y, first.classes)


def check_needs(needs: Collection[str]) -> None:
    """Raise ValueError unless `needs` names nothing but labels, captions and clips."""
    if isinstance(needs, str) or set(needs) - set(NEEDS):
        raise ValueError(f"needs must be a set with some of {', '.join(NEEDS)}, got {needs!r}")


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One data set, in four parts. Nothing is ever trained on `val`, with labels or without.

    pretrain: the pictures of train without their labels, for self-supervised training. (STL-10 has more of them.)
    train: labelled pictures, for probes and for supervised training.
    val: labelled pictures apart from train, for every choice.
    test: labelled pictures, read once, for the number that is reported.
    source: what the pictures were read from, since a re-encoded copy gives results a little different.
    clips: `clips(n, seed)` gives n short films; None where a data set has none.

    Pictures without any classes have no labels in any part: they can be trained on and looked at, and not measured.
    """

    name: str
    pretrain: Images
    train: Images
    val: Images
    test: Images
    source: str = ""
    clips: Callable[[int, int], Examples] | None = None

    def __post_init__(self):
        if self.pretrain.y is not None:
            raise ValueError("pretrain must have no labels, got some: use images.without_labels()")
        labelled = [getattr(self, part).y is not None for part in ("train", "val", "test")]
        if any(labelled) != all(labelled):
            which = ("train", "val", "test")[labelled.index(False)]
            raise ValueError(f"{which} must have labels where other parts have some, got none: label all or none")

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes

    def seen_by(self, needs: Collection[str] = ()) -> Examples:
        """What a method with these needs is trained on: `pretrain`, `train` with its labels, or clips.

        Raises ValueError where this data set lacks what is needed.
        """
        return self._examples(needs, self.train if "labels" in needs else self.pretrain, clips_seed=0)

    def held_out(self, needs: Collection[str] = ()) -> Examples:
        """What a method with these needs is tried on: `val`, or clips that it was not trained on. Raises as `seen_by`.
        """
        return self._examples(needs, self.val, clips_seed=1)

    def _examples(self, needs: Collection[str], images: Images, clips_seed: int) -> Examples:
        check_needs(needs)
        if "clips" in needs:
            if self.clips is None:
                raise ValueError(f"clips are needed, and {self.name} has none: use toybox")
            return self.clips(max(1, len(images) // 10), clips_seed).only(needs)
        return images.only(needs)

    def to(self, device) -> Dataset:
        return dataclasses.replace(self, **{p: getattr(self, p).to(device) for p in PARTS})

    def __repr__(self) -> str:
        sizes = ", ".join(f"{p} {len(getattr(self, p)):,}" for p in PARTS)
        classes = f"{len(self.classes)} classes" if self.classes else "no classes"
        shape = f"{self.train.x.shape[2]}×{self.train.x.shape[3]}, {classes}"
        return f"Dataset({self.name}: {sizes}; {shape}{'; from ' + self.source if self.source else ''})"
