"""Toybox: a small painted world with exact ground truth, drawn by the library itself.

Measured by `tests/bench/toybox_figures.py`, 18,000 training and 4,000 test pictures of 32×32: kNN on raw pixels
(cosine, k = 20) finds the class of 41.4 % of the test pictures, a linear probe on an untrained convnet that of 53.2 %,
and a convnet trained with labels for 12 epochs that of 99.6 %. Two slow cores draw 6,400 pictures a second.

factors, each `[N]`:
    class       int64   as `y`
    hue         int64   the main colour, a place in `COLORS`
    size        float   width of the thing's frame, as a fraction of the picture
    x, y        float   centre of the frame, as fractions of the picture from its left and upper edge
    tilt        float   degrees, anticlockwise
    background  int64   a place in `BACKGROUNDS`
    light       float   where the light comes from, -1 (left) to 1 (right); always from above
    facing      int64   0 left, 1 right
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from course_lib.data.toybox.paint import Dice, wave
from course_lib.data.toybox.places import PLACES
from course_lib.data.toybox.scene import BACKGROUNDS, CLASSES, COLORS, feet, paint_scene, roll_factors
from course_lib.data.types import Batch, Dataset, Images, check_needs

__all__ = ["BACKGROUNDS", "CLASSES", "COLORS", "Clips", "captions", "clips", "dataset", "draw", "factors", "paint"]

CHUNK = 640 * 32 * 32  # pixels painted at a time: many more would fall out of the cache, many fewer wait for Python
LABELLED, TEST = 20_000, 4_000  # pictures in train and val together, and in test
TEST_FROM, CLIPS_FROM = 1_000_000, 2_000_000  # the first number of each kind of picture: none is ever two of them
SMALL, BIG = 0.55, 0.67  # the sizes below and above which a caption says so


def draw(
    index: int | Iterable[int] | Int64[Tensor, " n"], *, size: int = 32, seed: int = 0, aberration: float = 0.0
) -> Images:
    """Pictures by their numbers, with everything that is known about them.

    index: how many pictures, from number 0, or which: `range(100, 200)`, a list, an int64 tensor.
    size: height and width in pixels, a multiple of 8, at least 16. The same picture at another size is the same scene.
    seed: another seed is another world of pictures.
    aberration: by how many pixels red lies further out, and blue further in, at the middle of each edge: the fault of
        a cheap lens, from which a network can tell where a patch was cut (Doersch et al. 2015, section 3.1).

    Raises TypeError or ValueError where an argument does not fit.
    """
    index = _numbers(index, seed)
    return paint(index, factors(index, seed=seed), size=size, seed=seed, aberration=aberration)


def factors(index: int | Iterable[int] | Int64[Tensor, " n"], *, seed: int = 0) -> dict[str, Tensor]:
    """What the pictures of these numbers show; see the module's docstring."""
    return roll_factors(_numbers(index, seed), seed)


def paint(
    index: int | Iterable[int] | Int64[Tensor, " n"],
    factors: Mapping[str, Tensor],
    *,
    size: int = 32,
    seed: int = 0,
    aberration: float = 0.0,
) -> Images:
    """As `draw`, with factors of your own: change one and see what an encoder makes of it."""
    index = _numbers(index, seed)
    _check_factors(factors, len(index))
    x, masks = _paint(index, factors, torch.zeros(len(index)), size, seed)
    if aberration:
        x = _aberrate(x, aberration)
    return Images(x, factors["class"], CLASSES, dict(factors), masks, captions(factors))


def captions(factors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """One sentence a picture, such as "a small red house on green grass under a blue sky"."""
    colors, places = tuple(COLORS), [phrase for _, phrase in PLACES.values()]
    columns = (factors[name].tolist() for name in ("class", "hue", "background", "size"))
    sentences = []
    for y, hue, background, size in zip(*columns, strict=True):
        words = "small " * (size < SMALL) + "big " * (size > BIG) + f"{colors[hue]} {CLASSES[y]} {places[background]}"
        sentences.append(("an " if words[0] in "aeiou" else "a ") + words)
    return tuple(sentences)


def dataset(*, size: int = 32, limit: int | None = None, seed: int = 0) -> Dataset:
    """The Toybox as a data set: 18,000 pictures in train and, without labels, in pretrain, 2,000 in val, 4,000 in test.

    limit: at most this many pictures in train and val together, and at most as many in test.
    """
    if limit is not None and limit < 10:
        raise ValueError(f"the Toybox needs a limit of at least 10 pictures, one of each class, got {limit}: raise it")
    labelled = min(limit or LABELLED, LABELLED)
    images = draw(range(labelled), size=size, seed=seed)
    test = draw(range(TEST_FROM, TEST_FROM + min(labelled, TEST)), size=size, seed=seed)
    cut = labelled - labelled // 10
    train = images[:cut]
    return Dataset("toybox", train.without_labels(), train, images[cut:], test,
                   clips=lambda n, world: clips(n, size=size, seed=seed + world))


@dataclasses.dataclass(frozen=True)
class Clips:
    """Short films of one thing that hops across a place. Slicing and `.to(device)` give `Clips` again.

    x: uint8 `[N, T, 3, H, W]`. masks: uint8 `[N, T, H, W]`, 1 where the thing is. y: int64 `[N]`, its class, or None
    where that is hidden. factors: as for pictures, but `[N, T]`.
    """

    x: UInt8[Tensor, "n t 3 h w"]
    masks: UInt8[Tensor, "n t h w"]
    y: Int64[Tensor, " n"] | None
    classes: tuple[str, ...]
    factors: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index) -> Clips:
        """Slice, integer or boolean tensor, or list of ints; a single int gives one clip, still as `Clips`."""
        return self._each(lambda t: t[[index] if isinstance(index, int) else index])

    def to(self, device) -> Clips:
        """The same clips on another device."""
        return self._each(lambda t: t.to(device))

    def batch(self, index: Int64[Tensor, " n"]) -> Batch:
        """The clips of these numbers as a method sees them."""
        pick = index.to(self.x.device)
        return Batch(self.x[pick], pick, None if self.y is None else self.y[pick])

    def only(self, needs: Collection[str]) -> Clips:
        """The clips, with their masks, which are read by measures alone, and with labels where `needs` names them."""
        check_needs(needs)
        if "captions" in needs:
            raise ValueError("captions are needed, and clips have none: take pictures of the Toybox")
        return self if "labels" in needs else dataclasses.replace(self, y=None)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Clips:
        parts = {name: change(t) for name in ("x", "masks", "y") if (t := getattr(self, name)) is not None}
        return dataclasses.replace(self, **parts, factors={name: change(t) for name, t in self.factors.items()})


def clips(n: int, frames: int = 8, *, size: int = 32, seed: int = 0) -> Clips:
    """The first `n` films of so many frames: a thing hops across a place that stands still, and rocks a little.

    Raises ValueError where an argument does not fit.
    """
    for what, value, least in (("clips", n, 1), ("frames", frames, 2)):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"the number of {what} must be whole and at least {least}, got {value!r}: ask for more")
    index = torch.arange(CLIPS_FROM, CLIPS_FROM + n)
    still = {name: t[:, None].expand(n, frames) for name, t in factors(index, seed=seed).items()}
    way = Dice.of(_numbers(index, seed), seed)("way", (0.25, 0.45), (0.06, 0.14), (1, 2), (0, 1), (2, 6))
    far, high, hops, phase, rock = (t.squeeze(2) for t in way)
    t = torch.linspace(0, 1, frames)
    size_now = 0.75 * still["size"]  # smaller than in pictures, for room to move
    ground = still["y"] + (still["size"] - size_now) * feet(still["class"])
    end = torch.where(still["x"] < 0.5, still["x"] + far, still["x"] - far)
    end = torch.minimum(torch.maximum(end, size_now / 2), 1 - size_now / 2)
    beat = (hops * t + phase) % 1
    lift = 4 * beat * (1 - beat) * torch.minimum(high, ground - size_now / 2)  # thrown up, it falls in a parabola
    moved = {**still, "size": size_now, "x": still["x"] + (end - still["x"]) * t, "y": ground - lift,
             "tilt": still["tilt"] + rock * wave(hops * t + phase)}
    flat = {name: values.flatten() for name, values in moved.items()}
    x, masks = _paint(index.repeat_interleave(frames), flat, lift.flatten(), size, seed)
    shape = (n, frames)
    return Clips(x.unflatten(0, shape), masks.unflatten(0, shape), still["class"][:, 0].clone(), CLASSES,
                 {name: values.unflatten(0, shape) for name, values in flat.items()})


def _numbers(index: int | Iterable[int] | Int64[Tensor, " n"], seed: int) -> Int64[Tensor, " n"]:
    if not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(f"the seed must be a whole number from 0 to 2**63 - 1, got {seed!r}")
    if not isinstance(index, Tensor):
        index = torch.tensor(range(index) if isinstance(index, int) else list(index))
    if index.ndim != 1 or not len(index) or index.dtype != torch.int64 or index.min() < 0:
        raise ValueError("index must say which pictures to draw, as a number of them, a range, or a list of numbers "
                         f"from 0 on; got {index.dtype} {list(index.shape)}: try draw(100) or draw(range(100, 200))")
    return index


def _check_factors(factors: Mapping[str, Tensor], n: int):
    known = {"class": len(CLASSES), "hue": len(COLORS), "background": len(BACKGROUNDS), "facing": 2}
    wanted = {"class", "hue", "size", "x", "y", "tilt", "background", "light", "facing"}
    if set(factors) != wanted:
        raise ValueError(f"factors must be {sorted(wanted)}, got {sorted(factors)}: begin with toybox.factors(index)")
    for name, values in factors.items():
        if values.shape != (n,):
            raise ValueError(f"factor {name} must have one value a picture, [{n}], got {list(values.shape)}")
        if name in known and (values.dtype != torch.int64 or values.min() < 0 or values.max() >= known[name]):
            raise ValueError(f"factor {name} must be int64 from 0 to {known[name] - 1}, got {values.dtype} from "
                             f"{values.min()} to {values.max()}: change it within that range")


def _aberrate(x: UInt8[Tensor, "n 3 h w"], pixels: float) -> UInt8[Tensor, "n 3 h w"]:
    """Red magnified and blue made smaller about the centre, linearly interpolated; rows first, then columns."""
    size = x.shape[-1]
    if not 0 <= abs(pixels) < size / 4:
        raise ValueError(f"aberration must be below {size // 4} pixels, a quarter of the picture, got {pixels}: try 1")
    at = torch.arange(size) - (size - 1) / 2
    x = x.clone()
    for channel, outward in ((0, pixels), (2, -pixels)):
        source = (at * (1 - 2 * outward / size) + (size - 1) / 2).clamp(0, size - 1)
        first = source.long().clamp(max=size - 2)
        part = source - first
        plane = x[:, channel].float()
        plane = plane[:, first] * (1 - part)[:, None] + plane[:, first + 1] * part[:, None]
        plane = plane[:, :, first] * (1 - part) + plane[:, :, first + 1] * part
        x[:, channel] = plane.round().to(torch.uint8)
    return x


def _paint(index: Tensor, factors: Mapping[str, Tensor], lift: Tensor, size: int, seed: int) -> tuple[Tensor, Tensor]:
    if not isinstance(size, int) or size < 16 or size % 8:
        raise ValueError(f"a picture's size must be a multiple of 8, at least 16, got {size!r}: try 32 or 64")
    x = torch.empty(len(index), 3, size, size, dtype=torch.uint8)
    masks = torch.empty(len(index), size, size, dtype=torch.uint8)
    step = max(1, CHUNK // size**2)
    for a in range(0, len(index), step):
        rows = slice(a, a + step)
        some = {name: values[rows] for name, values in factors.items()}
        x[rows], masks[rows] = paint_scene(Dice.of(index[rows], seed), some, size, lift[rows])
    return x, masks
