"""What views share and what is left of it: histograms, cosines between views, and factors read from features."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from torch import Tensor, nn

from course_lib.data.types import Images
from course_lib.devices import repeatable
from course_lib.viz import style
from course_lib.viz.inputs import as_images, named
from course_lib.viz.pictures import pixels_of


def histograms(kinds: Mapping[str, nn.Module], images: Images | Tensor, *, bins: int = 10, seed: int = 0,
               title: str | None = None) -> Figure:
    """Two views of each picture, one row a picture and one block a kind of views, and how their pixels' intensities,
    over all channels, are spread: filled for the first view, a line for the second.

    kinds: name -> module that draws one view of each picture. The number is how much of the two histograms overlaps.
    """
    kinds, images = named(kinds), as_images(images)
    rows, columns = len(images), 3 * len(kinds)
    figure = style.Drawing(style.WIDTH, 90 + 150 * rows, title or "Two views, and the histograms of their intensities")
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.05)
    figure.suptitle(figure.title, x=0.02, ha="left", fontsize=style.LARGE, weight="bold", color=style.INK)
    panels = figure.subplots(rows, columns, squeeze=False, width_ratios=[1, 1, 1.5] * len(kinds))
    for k, (name, views) in enumerate(kinds.items()):
        with repeatable(seed):
            seen = [as_images(views(images.x)) for _ in range(2)]
        for r in range(rows):
            left, right, spread = panels[r, 3 * k:3 * k + 3]
            for axes, view in zip((left, right), seen, strict=True):
                axes.imshow(pixels_of(view)[r])
                axes.axis("off")
            first, second = (_shares(view.x[r], bins) for view in seen)
            edges = torch.linspace(0, 1, bins + 1)
            spread.stairs(first, edges, fill=True, color=style.LINES[5])
            spread.stairs(second, edges, lw=2.5, color=style.INK)
            spread.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, None))
            spread.set_title(f"overlap {100 * torch.minimum(first, second).sum():.0f} %", fontsize=style.SMALL)
            spread.spines[["top", "right"]].set_visible(False)
        panels[0, 3 * k].set_title(name, fontsize=style.MEDIUM, weight="bold", loc="left")
        panels[-1, 3 * k + 2].set_xlabel("dark to bright\nfilled: first view, line: second", fontsize=style.SMALL)
    return figure


def _shares(view: UInt8[Tensor, "3 h w"], bins: int) -> Float[Tensor, " bins"]:
    return torch.histc(view.float(), bins, 0, 256) / view.numel()


def pairs(z1: Float[Tensor, "n 2"], z2: Float[Tensor, "n 2"], *, title: str | None = None) -> Figure:
    """Views of n pictures as arrows on the unit circle, and the matrix of all their cosines, the partners framed.

    Rows of z1, then of z2: view i and view i + n show one picture.
    Raises ValueError for other shapes: more numbers than two cannot be drawn on a circle.
    """
    if z1.shape != z2.shape or z1.ndim != 2 or z1.shape[1] != 2:
        raise ValueError(f"wanted two tensors [N, 2] of one shape, got {list(z1.shape)} and {list(z2.shape)}: a circle "
                         "has room for two numbers a view")
    n, z = len(z1), F.normalize(torch.cat([z1, z2]).detach().cpu(), dim=1)
    figure, (round_, square) = style.plot(style.WIDTH, 470, title or "Each row is a question: where is my partner?", 2)
    round_.add_patch(Circle((0, 0), 1, fill=False, color="#8a8a8a"))
    for i, (x, y) in enumerate(z.tolist()):
        color = style.LINES[i % n % len(style.LINES)]
        round_.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "-|>", "lw": 2.5, "color": color,
                                                        "ls": "-" if i < n else "--"})
        round_.text(1.16 * x, 1.16 * y, f"{i}", ha="center", va="center", fontsize=style.LARGE, color=color)
    round_.spines[:].set_visible(False)
    round_.set(xlim=(-1.35, 1.35), ylim=(-1.35, 1.35), aspect="equal", xticks=[], yticks=[])
    round_.set_xlabel(f"0 to {n - 1}: first views; dashed, {n} to {2 * n - 1}: second views")
    cosines = z @ z.T
    shown = square.imshow(cosines.clone().fill_diagonal_(torch.nan).numpy(), cmap="RdBu_r", vmin=-1, vmax=1)
    for i in range(2 * n):
        for k in range(2 * n):
            dark = i != k and cosines[i, k].abs() > 0.6
            square.text(k, i, "–" if i == k else f"{cosines[i, k]:.2f}", ha="center", va="center",
                        fontsize=style.SMALL, color="white" if dark else style.INK)
        square.add_patch(Rectangle(((i + n) % (2 * n) - 0.46, i - 0.46), 0.92, 0.92, fill=False, lw=3))
    square.set(xlabel="candidate", ylabel="anchor", xticks=range(2 * n), yticks=range(2 * n))
    figure.colorbar(shown, ax=square, label="cosine", shrink=0.8)
    return figure


def agreement(embedded: Mapping[str, tuple[Tensor, Tensor]], first: Float[Tensor, "n 3 h w"],
              second: Float[Tensor, "n 3 h w"], *, title: str | None = None) -> Figure:
    """One panel a name: the cosine of every first view (rows) with every second view (columns), the views at the edges.

    embedded: name -> embeddings `[N, D]` of the first views and of the second. Below each panel stand two means, of the
    cosines of partners, on the diagonal, and of all others; and in how many rows the partner's is the largest.
    """
    embedded, (first, second) = named(embedded), (as_images(v) for v in (first, second))
    n, edge = len(first), 1 / len(first)
    left, top = (pixels_of(v) for v in (first, second))
    title = title or "Cosines of first views (rows) with second views (columns)"
    figure, panels = style.plot(style.WIDTH, 560, title, len(embedded))
    for axes, (name, (z1, z2)) in zip(panels, embedded.items(), strict=True):
        if len(z1) != n or len(z2) != n:
            raise ValueError(f"wanted an embedding for each of {n} views, got {len(z1)} and {len(z2)} of {name}")
        cosines = (F.normalize(z1, dim=1) @ F.normalize(z2, dim=1).T).detach().cpu()
        axes.inset_axes((-1.1 * edge, 0, edge, 1)).imshow(np.concatenate(list(left)))
        axes.inset_axes((0, 1 + 0.1 * edge, 1, edge)).imshow(np.concatenate(list(top), axis=1))
        for inset in (axes, *axes.child_axes):
            inset.set(xticks=[], yticks=[])
        shown = axes.imshow(cosines.numpy(), cmap="RdBu_r", vmin=-1, vmax=1)
        partners, rest = cosines.diagonal().mean(), (cosines.sum() - cosines.trace()) / (n * n - n)
        first_of_all = int((cosines.argmax(1) == torch.arange(n)).sum())
        axes.set_xlabel(f"{name}: mean of partners {partners:.2f}, of others {rest:.2f}\n"
                        f"the partner comes first in {first_of_all} of {n} rows", fontsize=style.MEDIUM)
    figure.colorbar(shown, ax=panels, label="cosine", shrink=0.7)
    return figure


def factors(read: Mapping[str, Mapping[str, float]], chance: Mapping[str, float], *, hollow: Collection[str] = (),
            title: str | None = None) -> Figure:
    """One row a factor: how much of it is read from each representation, one mark a name, and a bar where chance is.

    read: name -> factor -> percent, as `evaluate.factor_probe` gives; rows stand in the order of the first. chance:
    factor -> what a guess reads. hollow: names whose marks are hollow, in the colours of the others in turn, such as
    what was never trained. Marks below -5 are drawn there.
    """
    read, full = named(read), [name for name in read if name not in hollow]
    order, looks = list(next(iter(read.values()))), {}
    for names in (full, [name for name in read if name in hollow]):
        for i, name in enumerate(names):
            color, marker = style.LINES[i % len(style.LINES)], style.MARKERS[i % len(style.MARKERS)]
            looks[name] = {"color": color, "marker": marker, "mfc": "white" if name in hollow else color, "mew": 2}
    figure, (axes,) = style.plot(940, 130 + 44 * len(order), title or "What a linear map reads")
    for row, factor in enumerate(order):
        axes.plot([chance[factor]] * 2, [row - 0.36, row + 0.36], color=style.INK, lw=3, zorder=2,
                  label=None if row else "chance")
        for i, (name, values) in enumerate(read.items()):
            y = row + 0.6 * ((i + 0.5) / len(read) - 0.5)
            axes.plot(max(values[factor], -5), y, ms=9, zorder=3, ls="none", label=None if row else name, **looks[name])
    axes.set_yticks(range(len(order)), order, fontsize=style.MEDIUM)
    axes.set(xlim=(-8, 104), ylim=(len(order) - 0.5, -0.5),
             xlabel="classes: accuracy, %; quantities: explained variance, %")
    axes.grid(axis="x", color="#e4e4e4", zorder=0)
    for row in range(1, len(order)):
        axes.axhline(row - 0.5, color="#e4e4e4", lw=1, zorder=0)
    axes.tick_params(axis="y", length=0)
    axes.legend(fontsize=style.MEDIUM, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
