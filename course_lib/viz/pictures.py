"""Pictures side by side: a plain grid, the random views of one picture, and labelled rows such as reconstructions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor, nn

from course_lib.data.types import Images
from course_lib.devices import repeatable
from course_lib.viz import style
from course_lib.viz.inputs import as_images, class_name, named

GAP = 4
EDGE = 10


class Sheet:
    """A page measured in pixels, x to the right and y down, on which pictures and text are put.

    `top` is where the space below the title begins.
    """

    def __init__(self, width: float, height: float, title: str, subtitle: str = ""):
        """A page of `height` pixels for what it holds, plus what the title and the subtitle need above it."""
        room = width - 2 * EDGE
        lines = [(line, style.LARGE, "bold") for line in style.wrap(title, room, style.LARGE, "bold")]
        lines += [(line, style.MEDIUM, "normal") for line in style.wrap(subtitle, room)]
        self.top = EDGE + sum(style.line_height(size) for _, size, _ in lines) + 9
        self.width, self.height = width, height + self.top
        self.figure = style.Drawing(self.width, self.height, f"{title} {subtitle}".strip())
        self.axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, self.width), ylim=(self.height, 0))
        self.axes.axis("off")
        y = EDGE
        for line, size, weight in lines:
            y += style.line_height(size)
            self.text(EDGE, y - 5, line, size=size, weight=weight, ha="left", va="baseline")

    def text(self, x: float, y: float, text: str, *, size: float = style.MEDIUM, ha: str = "center", va: str = "center",
             **more):
        return self.axes.text(x, y, text, fontsize=size, ha=ha, va=va, color=more.pop("color", style.INK), **more)

    def picture(self, pixels: np.ndarray, x: float, y: float, size: int, frame: str | None = None) -> None:
        """A picture `[H, W, 3]` in a square of `size` pixels, with a frame around the outside."""
        x, y = round(x), round(y)
        self.axes.imshow(enlarge(pixels, size), extent=(x, x + size, y + size, y), aspect="auto",
                         interpolation="nearest", zorder=1)
        if frame:
            self.axes.add_patch(Rectangle((x - 2, y - 2), size + 4, size + 4, fill=False, lw=3, ec=frame, zorder=2))
        # imshow would fit the page to the picture
        self.axes.set(xlim=(0, self.width), ylim=(self.height, 0))


def pixels_of(images: Images) -> np.ndarray:
    """The pictures as an array `[N, S, S, 3]`, the shorter side padded with white."""
    x = images.x.permute(0, 2, 3, 1).cpu().numpy()
    high, wide = (max(x.shape[1:3]) - s for s in x.shape[1:3])
    pads = ((0, 0), (high // 2, high - high // 2), (wide // 2, wide - wide // 2), (0, 0))
    return np.pad(x, pads, constant_values=255)


def enlarge(pixels: np.ndarray, size: int) -> np.ndarray:
    """Every pixel a crisp square where the size is a whole multiple; otherwise resampled smoothly."""
    crisp = size % len(pixels) == 0
    method = Image.Resampling.NEAREST if crisp else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(pixels).resize((size, size), method))


def cell_size(side: int, room: float) -> int:
    """The largest whole multiple of a picture's side that fits in `room` pixels, or the room for larger pictures."""
    room = max(40, int(room))
    return max(1, room // side) * side if side <= room else room


def wide_enough(content: float, title: str) -> float:
    """The width of a page for its content and its title; a title wider than a page is broken into lines."""
    letters = 1.1 * style.text_width(title, style.LARGE, "bold")
    return max(content, min(letters, style.WIDTH - 2 * EDGE)) + 2 * EDGE


def grid(pictures: Images | Tensor, *, columns: int | None = None, titles: Sequence[str] | None = None,
         title: str | None = None, n: int | None = None) -> Figure:
    """The first n pictures side by side, with a line of text under each: `titles`, or the class where it is known."""
    images = as_images(pictures)
    images = images[: min(len(images), n or len(images))]
    if titles is None:
        titles = [class_name(images, i) for i in range(len(images))]
    if len(titles) != len(images):
        raise ValueError(f"wanted a title for each of the {len(images)} pictures, got {len(titles)}")
    columns = min(len(images), columns or 8)
    lines = -(-len(images) // columns)
    pixels = pixels_of(images)
    size = cell_size(pixels.shape[1], (style.WIDTH - 2 * EDGE) / columns - GAP)
    below = style.line_height(style.SMALL) if any(titles) else 0
    # A long title needs its own width even where the pictures are small.
    across = max([size, *(style.text_width(t, style.SMALL) + 6 for t in titles)]) + GAP
    title = title or f"{len(images)} pictures"
    sheet = Sheet(wide_enough(columns * across, title), lines * (size + GAP + below) + EDGE, title)
    for i in range(len(images)):
        x = EDGE + (i % columns) * across + (across - size) / 2
        y = sheet.top + (i // columns) * (size + GAP + below)
        sheet.picture(pixels[i], x, y, size)
        sheet.text(x + size / 2, y + size + below / 2, titles[i], size=style.SMALL)
    return sheet.figure


def views(views_module: nn.Module, image: Images | Tensor, *, n: int = 8, seed: int = 0,
          title: str | None = None) -> Figure:
    """One picture, and n random views of it drawn by the seed: what the encoder is asked to see as the same thing.

    A module that returns a list of views of different sizes, such as `augment.multicrop()`, is called once and all of
    them are shown, whatever n is, at one scale: a view of half the size is drawn half as large.
    """
    images = as_images(image)
    if len(images) != 1:
        raise ValueError(f"wanted one picture, got {len(images)}: choose one, such as images[0]")
    if n < 1:
        raise ValueError(f"wanted at least one view, got n={n}")
    with repeatable(seed):
        seen = views_module(images.x.expand(n, -1, -1, -1))
    if isinstance(seen, list | tuple):
        seen = [pixels_of(as_images(view[:1]))[0] for view in seen]
    else:
        seen = list(pixels_of(as_images(seen)))
    columns = -(-len(seen) // 2)
    whole, largest = pixels_of(images)[0], max(len(pixels) for pixels in seen)
    size = cell_size(largest, min(96, (style.WIDTH - 2 * EDGE - 30) / (columns + 2) - GAP))
    large = 2 * size + GAP
    title = title or f"One picture, and {len(seen)} random views of it"
    below = style.line_height(style.MEDIUM)
    sheet = Sheet(wide_enough(large + 30 + columns * (size + GAP), title), large + below + EDGE, title)
    sheet.picture(whole, EDGE, sheet.top, large, frame=style.INK)
    sheet.text(EDGE + large / 2, sheet.top + large + below / 2 + 2, class_name(images, 0) or "the picture")
    for i, pixels in enumerate(seen):
        x = EDGE + large + 30 + (i % columns) * (size + GAP)
        own = size * len(pixels) // largest
        sheet.picture(pixels, x, sheet.top + (i // columns) * (size + GAP), own)
    sheet.text(EDGE + large + 30 + columns * (size + GAP) / 2, sheet.top + large + below / 2 + 2, "random views")
    return sheet.figure


def rows(pictures: Mapping[str, Images | Tensor], *, n: int = 8, captions: Sequence[str] = (),
         title: str | None = None) -> Figure:
    """Named rows of pictures under each other, such as {"picture": x, "masked": xm, "reconstruction": xr}.

    Each row shows its first n; column i is the same picture in every row, so every row needs equally many.
    captions: a few letters under each column, such as "✓ 93 %".

    Raises ValueError for rows of different numbers, or fewer captions than columns.
    """
    sets = {name: as_images(x) for name, x in named(pictures).items()}
    counts = {name: len(x) for name, x in sets.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"wanted equally many pictures in every row, got {counts}: "
                         "a column shows the same picture in every row")
    n = min(n, *counts.values())
    if captions and len(captions) < n:
        raise ValueError(f"wanted a caption for each of {n} columns, got {len(captions)}")
    pixels = {name: pixels_of(x[:n]) for name, x in sets.items()}
    label = max(style.text_width(name) for name in sets) + 16
    across, down = (style.WIDTH - 2 * EDGE - label) / n - GAP, style.HEIGHT / len(sets) - GAP
    size = min(cell_size(p.shape[1], min(across, down, 128)) for p in pixels.values())
    title = title or ", ".join(sets)
    below = style.line_height(style.MEDIUM) + GAP if captions else 0
    sheet = Sheet(wide_enough(label + n * (size + GAP), title), len(sets) * (size + GAP) + below + EDGE, title)
    for r, (name, row) in enumerate(pixels.items()):
        y = sheet.top + r * (size + GAP)
        sheet.text(EDGE + label - 12, y + size / 2, name, ha="right")
        for i in range(n):
            sheet.picture(row[i], EDGE + label + i * (size + GAP), y, size)
    y = sheet.top + len(sets) * (size + GAP) + below / 2
    for i, caption in enumerate(captions[:n]):
        sheet.text(EDGE + label + i * (size + GAP) + size / 2, y, caption)
    return sheet.figure
