"""Maps: many pictures as points of the plane, near each other where the encoder thinks them alike."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from torch import Tensor, nn
from tqdm import tqdm

from course_lib.data.types import Images
from course_lib.progress import bar
from course_lib.viz import style
from course_lib.viz.inputs import as_images, features_of, named, some
from course_lib.viz.pictures import EDGE, Sheet, cell_size, pixels_of

HEIGHT = 640  # of a map, in pixels
THUMBNAILS = 18  # at most, or they hide the points
FEWEST = 10  # pictures that make a map
NAMES = 20  # classes at most whose names stand on the map, or they hide the points; the legend has the rest
STEP = 27  # from one line of a legend to the next, in pixels

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels


def umap(encoder: nn.Module | Tensor, images: Images | Tensor, *, n: int = 2000, seed: int = 0, thumbnails: bool = True,
         title: str | None = None) -> Figure:
    """The features of n pictures in the plane, by UMAP with cosine distance: a point a picture, coloured by its class.

    Near means alike. Distances between far groups, and the sizes of groups, mean nothing. The same seed, pictures and
    encoder give the same map on one machine.

    encoder: a module, or features `[N, D]` taken from the same pictures. n: at most so many, drawn by the seed.

    Raises ValueError for fewer than 10 pictures.
    """
    images = as_images(images)
    index = some(images, n, seed)
    shown = images[index]
    z = features_of(encoder, images, index)
    with _waiting(1, len(z)) as done:
        points = place(z, seed)
        done.update()
    return scatter2d(points, shown.y, classes=shown.classes, pictures=shown if thumbnails else None, seed=seed,
                     title=title or "UMAP of the features", subtitle=_caption(images, index))


def umap_grid(encoders: Mapping[str, nn.Module | Tensor], images: Images | Tensor, *, n: int = 1000, seed: int = 0,
              title: str | None = None) -> Figure:
    """One small map an encoder, of the same pictures, with one legend for all; two alone are half a page wide each.

    Each is a UMAP of its own: what lies together can be compared, where it lies can not.

    Raises as `umap`, and where `encoders` is no dict or empty.
    """
    images = as_images(images)
    encoders = named(encoders)
    index = some(images, n, seed)
    y = None if images.y is None else images.y.cpu()[index]
    columns = min(3, len(encoders))
    side = (style.WIDTH - 2 * EDGE) / (2 if columns == 2 else 3)
    shape = (side - 8, side * 0.92)
    lines = -(-len(encoders) // columns)
    legend = _legend_entries(y, images.classes)
    width = max(columns * side, 2 * side) + 2 * EDGE
    places, below = _legend_below(legend, width - 2 * EDGE)
    below += 10
    sheet = Sheet(width, lines * (shape[1] + 34) + below, title or "UMAP of each encoder's features",
                  _caption(images, index) + " Each map is turned its own way.")
    with _waiting(len(encoders), len(index)) as done:
        for i, (name, encoder) in enumerate(encoders.items()):
            left, top = EDGE + 4 + (i % columns) * side, sheet.top + (i // columns) * (shape[1] + 34) + 26
            sheet.text(left, top - 13, name, size=style.MEDIUM + 1, weight="bold", ha="left")
            axes = _map_axes(sheet, left, top, *shape)
            points = place(features_of(encoder, images, index), seed)
            _fit(axes, points, *shape)
            _points(axes, points, y, images.classes, size=18 if columns == 2 else 9)
            done.update()
    top = sheet.height - below + 4
    _legend(sheet, legend, [(EDGE + x, top + y) for x, y in places])
    return sheet.figure


def place(z: Float[Tensor, "n d"], seed: int) -> Float[Tensor, "n 2"]:
    """UMAP to two dimensions: cosine, 15 neighbours (fewer for few pictures), on one thread so that the seed decides.

    Raises ValueError for fewer than 10 rows.
    """
    if len(z) < FEWEST:
        raise ValueError(f"wanted at least {FEWEST} pictures for a map, got {len(z)}: give more, or a larger n")
    from umap import UMAP

    threads = torch.get_num_threads()
    reducer = UMAP(metric="cosine", n_neighbors=min(15, len(z) - 1), random_state=seed, n_jobs=1)
    try:
        points = reducer.fit_transform(z.numpy())
    finally:
        torch.set_num_threads(threads)  # numba's threads share OpenMP with torch's, and change their number
    return torch.from_numpy(np.ascontiguousarray(points, dtype=np.float32))


def _waiting(maps: int, points: int) -> tqdm:
    """A bar that shows at once where a map takes more than a moment: UMAP tells nothing while it works."""
    first = "umap" not in sys.modules  # it compiles itself when it is imported and first run
    compiles = ", the first of a session, which compiles for up to a minute" if first else ""
    return bar(total=maps, desc=f"UMAP of {points:,} pictures{compiles}", unit="map", quiet=not first and points < 500)


def scatter2d(points: Float[Tensor, "n 2"], labels: Int64[Tensor, " n"] | None = None, *, classes: Sequence[str] = (),
              pictures: Images | Tensor | None = None, seed: int = 0, title: str | None = None,
              subtitle: str = "") -> Figure:
    """Points of the plane: colour and marker by class, the class's name at its median, some pictures at their points.

    pictures: one a point; those shown are drawn by the seed, spread out so that none covers another or a name.

    Raises ValueError where shapes or numbers of points, labels and pictures do not fit.
    """
    points = torch.as_tensor(points).detach().float().cpu()
    labels = None if labels is None else labels.cpu()
    if points.ndim != 2 or points.shape[1] != 2 or len(points) == 0:
        raise ValueError(f"wanted points [N, 2], got shape {list(points.shape)}: reduce features with viz.umap first")
    if not points.isfinite().all():
        raise ValueError("wanted finite points, got NaN or infinity: look where they came from")
    if labels is not None and (len(labels) != len(points) or int(labels.max()) >= len(classes)):
        raise ValueError(f"wanted a label for each of the {len(points)} points and a name for each class, got "
                         f"{len(labels)} labels up to {int(labels.max())} and {len(classes)} names: "
                         "pass images.y and images.classes")
    pictures = None if pictures is None else as_images(pictures)
    if pictures is not None and len(pictures) != len(points):
        raise ValueError(f"wanted a picture for each of the {len(points)} points, got {len(pictures)}: "
                         "pass the pictures that the points were made from")
    legend = _legend_entries(labels, classes)
    # The legend stands at the right where all its lines fit there, and below the map otherwise.
    aside, below, places = 0.0, 0.0, []
    if 0 < STEP * len(legend) <= HEIGHT:
        aside = max(style.text_width(name) for name, *_ in legend) + 50
    elif legend:
        places, below = _legend_below(legend, style.WIDTH - 2 * EDGE)
    shape = (style.WIDTH - 2 * EDGE - aside, max(HEIGHT - below, 400))
    sheet = Sheet(style.WIDTH, shape[1] + below + EDGE, title or f"{len(points):,} points", subtitle)
    axes = _map_axes(sheet, EDGE, sheet.top, *shape)
    _fit(axes, points, *shape)
    _points(axes, points, labels, classes, size=22)
    at = axes.transData.transform(points.numpy())
    at[:, 1] = sheet.height - at[:, 1]  # the sheet's y runs down
    inside = (EDGE, sheet.top, EDGE + shape[0], sheet.top + shape[1])
    taken = _names(sheet, at, labels, classes, inside)
    if pictures is not None:
        _thumbnails(sheet, at, pictures, labels, classes, taken, inside, seed)
    if aside:
        left = style.WIDTH - EDGE - aside + 24
        _legend(sheet, legend, [(left, sheet.top + 16 + STEP * i) for i in range(len(legend))])
    else:
        _legend(sheet, legend, [(EDGE + x, sheet.top + shape[1] + 6 + y) for x, y in places])
    return sheet.figure


def _caption(images: Images, index: Tensor) -> str:
    among = f" of {len(images):,}" if len(index) < len(images) else ""
    what = "Each point is a picture" + ("." if images.y is None else ", colour and marker its class.")
    return f"{what} {len(index):,}{among} pictures, cosine distance. Near means alike; far says little."


def _map_axes(sheet: Sheet, left: float, top: float, width: float, height: float) -> Axes:
    """Axes without ticks at a place on the sheet, below the sheet's own text and pictures."""
    box = (left / sheet.width, 1 - (top + height) / sheet.height, width / sheet.width, height / sheet.height)
    axes = sheet.figure.add_axes(box, zorder=-1, xticks=[], yticks=[])
    axes.spines[:].set_color("#cccccc")
    return axes


def _fit(axes: Axes, points: Tensor, width: float, height: float) -> None:
    """Limits that show every point, with one scale for both directions."""
    low, high = points.min(0).values, points.max(0).values
    middle = (low + high) / 2
    scale = max(float(high[0] - low[0]) / width, float(high[1] - low[1]) / height, 1e-9) * 1.08
    x, y = middle.tolist()
    axes.set(xlim=(x - scale * width / 2, x + scale * width / 2), ylim=(y - scale * height / 2, y + scale * height / 2))


def _points(axes: Axes, points: Tensor, labels: Tensor | None, classes: Sequence[str], size: float) -> None:
    """One scatter a class, so that each has its marker."""
    if labels is None:
        axes.scatter(*points.T, s=size, color=style.LINES[0], alpha=0.6, lw=0)
        return
    for c, (name, color, marker) in enumerate(_legend_entries(labels, classes)):
        axes.scatter(*points[labels == c].T, s=size, color=color, marker=marker, alpha=0.75, lw=0, label=name)


def _legend_entries(labels: Tensor | None, classes: Sequence[str]) -> list[tuple[str, str, str]]:
    """(name, colour, marker) of each class."""
    if labels is None:
        return []
    return list(zip(classes, style.class_colors(len(classes)), style.class_markers(len(classes)), strict=True))


def _legend_below(entries: list[tuple[str, str, str]], width: float) -> tuple[list[tuple[float, float]], float]:
    """Where the entries of a legend of this width stand, in lines from left to right, and its height."""
    if not entries:
        return [], 0.0
    across = max(style.text_width(name) for name, *_ in entries) + 46
    columns = max(1, int(width // across))
    down = 23
    lines = -(-len(entries) // columns)
    places = [(12 + (i % columns) * across, down * (i // columns) + down / 2) for i in range(len(entries))]
    return places, down * lines + 6.0


def _legend(sheet: Sheet, entries: list[tuple[str, str, str]], places: list[tuple[float, float]]) -> None:
    for (name, color, marker), (x, y) in zip(entries, places, strict=True):
        sheet.axes.add_line(Line2D([x], [y], marker=marker, ms=10, color=color, ls=""))
        sheet.text(x + 14, y, name, ha="left")


def _names(sheet: Sheet, at: np.ndarray, labels: Tensor | None, classes: Sequence[str],
           inside: Box) -> list[Box]:
    """Each class's name at the median of its points, moved off other names; the boxes that the names take."""
    present = [] if labels is None else labels.unique().tolist()
    if not 0 < len(present) <= NAMES:
        return []
    medians = np.array([np.median(at[labels.numpy() == c], axis=0) for c in present])
    half = np.array([[style.text_width(classes[c], style.MEDIUM, "bold") / 2 + 4, 11] for c in present])
    centers = _apart(medians, half, inside)
    for c, (x, y), (mx, my) in zip(present, centers, medians, strict=True):
        if np.hypot(x - mx, y - my) > 14:
            sheet.axes.plot([x, mx], [y, my], color=style.INK, lw=1, zorder=4)
            sheet.axes.plot([mx], [my], marker="o", ms=4, color=style.INK, zorder=4)
        halo = [withStroke(linewidth=4, foreground="white")]
        sheet.text(x, y, classes[c], weight="bold", zorder=6, path_effects=halo)
    return [(x - w, y - h, x + w, y + h) for (x, y), (w, h) in zip(centers, half, strict=True)]


def _apart(centers: np.ndarray, half: np.ndarray, inside: Box) -> np.ndarray:
    """Boxes pushed apart, each pair along the direction where it overlaps less, until none overlap."""
    centers = centers.copy()
    low, high = np.array(inside[:2]) + half, np.array(inside[2:]) - half
    for _ in range(300):
        moved = False
        for i in range(len(centers)):
            for j in range(i):
                gap = centers[i] - centers[j]
                over = half[i] + half[j] - np.abs(gap)
                if (over > 0).all():
                    axis = int(over[1] <= over[0])
                    push = (over[axis] / 2 + 0.5) * (1 if gap[axis] >= 0 else -1)
                    centers[i, axis] += push
                    centers[j, axis] -= push
                    moved = True
        centers = np.clip(centers, low, high)
        if not moved:
            break
    return centers


def _thumbnails(sheet: Sheet, at: np.ndarray, pictures: Images, labels: Tensor | None, classes: Sequence[str],
                taken: list[Box], inside: Box, seed: int) -> None:
    """Pictures at their points, framed in their class's colour, none over another or over a name."""
    size = cell_size(max(pictures.x.shape[2:]), 64)
    colors = style.class_colors(len(classes))
    for i in torch.randperm(len(at), generator=torch.Generator().manual_seed(seed)).tolist():
        # At the edge of the map a picture moves inwards; its point stays under it.
        x, y = np.clip(np.round(at[i] - size / 2), np.array(inside[:2]) + 4, np.array(inside[2:]) - size - 4)
        box = (x - 10, y - 10, x + size + 10, y + size + 10)
        if not all(box[2] < t[0] or t[2] < box[0] or box[3] < t[1] or t[3] < box[1] for t in taken):
            continue
        taken.append(box)
        sheet.picture(pixels_of(pictures[i])[0], x, y, size, frame=style.INK if labels is None else colors[labels[i]])
        if len(taken) >= THUMBNAILS + len(classes):
            break
