"""Ranges: how far repetitions lie apart, and differences with their intervals around 0, as rows or as curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from course_lib.viz import style
from course_lib.viz.curves import Line, draw_lines
from course_lib.viz.inputs import named

APART = 1.03  # neighbouring curves stand so much to the right of each other, so that no interval hides another
STEP = 0.06  # and so much where places are one, two, three


class HasAccuracy(Protocol):
    """What `few.curve` gives: numbers of labels a class, and accuracies for each of them and each draw."""

    per_class: Sequence[int]
    accuracy: Float[Tensor, "budgets draws"]


class HasInterval(Protocol):
    """What `evaluate.paired` gives, in percentage points."""

    points: float
    low: float
    high: float


def ranges(found: Mapping[str, HasAccuracy], *, lines: Mapping[str, float] | None = None,
           xlabel: str = "labels a class", ylabel: str = "top-1 on val, %", title: str | None = None) -> Figure:
    """The mean of the repetitions against how many labels a class there are, a logarithmic axis, one curve a name;
    upright lines reach from the lowest to the highest repetition.

    lines: label -> height of a dashed line, such as {"chance": 10.0}.

    Raises ValueError where there is nothing to draw, a number is not finite, or shapes do not fit.
    """
    found = named(found)
    figure, (axes,) = style.plot(900, 540, title or "What few labels are worth")
    axes.set_xscale("log")
    drawn, colors, dashes = [], style.line_colors(len(found)), style.line_styles(len(found))
    markers = style.class_markers(len(found))
    every = sorted({int(n) for one in found.values() for n in one.per_class})
    for i, (name, one) in enumerate(found.items()):
        values = torch.as_tensor(one.accuracy).double().cpu()
        x = torch.tensor(one.per_class, dtype=torch.float64)
        if values.ndim != 2 or len(values) != len(x) or 0 in values.shape or not values.isfinite().all():
            raise ValueError(f"wanted finite values [{len(x)}, repetitions] of {name}, got {list(values.shape)}: "
                             "give what few.curve gave")
        x = x * APART ** (i - (len(found) - 1) / 2)
        axes.vlines(x, values.amin(1), values.amax(1), color=colors[i], lw=2, alpha=0.6, zorder=2)
        axes.plot(x, values.mean(1), ls="none", marker=markers[i], ms=9, color=colors[i], mec="white", zorder=4)
        drawn.append(Line(name, x, values.mean(1), colors[i], dashes[i]))
    axes.set_xticks(every, [f"{n:,}" for n in every])
    axes.minorticks_off()
    axes.set(xlabel=xlabel, ylabel=ylabel)
    draw_lines(axes, drawn, levels=lines, first=every[0] / 1.25)
    axes.set_xlim(every[0] / 1.25, max(float(line.x[-1]) for line in drawn) * 1.08)
    return figure


def differences(table: Mapping[str, HasInterval], *, xlabel: str = "percentage points", title: str | None = None
                ) -> Figure:
    """One row a difference: a point, its 95 % interval, and both in figures, around a line at 0.

    Blue and filled where the whole interval is above 0, orange and filled where it is below, grey and hollow where it
    holds 0, so that there is no difference that we can measure.

    table: name -> what `evaluate.paired` gave, drawn in the order given.

    Raises ValueError where there is nothing to draw or a number is not finite.
    """
    table = named(table)
    numbers = torch.tensor([[d.low, d.points, d.high] for d in table.values()], dtype=torch.float64)
    if not numbers.isfinite().all():
        raise ValueError(f"wanted finite differences and intervals, got {numbers.tolist()}: look at what gave them")
    wide, names = 860, list(table)
    figure, (axes,) = style.plot(wide, 130 + 40 * len(table), title or "Differences, with their 95 % intervals")
    axes.axvline(0, color=style.INK, lw=1.5, zorder=1)
    for row, (low, middle, high) in enumerate(numbers.tolist()):
        color = style.AGREE if low > 0 else style.DISAGREE if high < 0 else "#555555"
        axes.plot([low, high], [row, row], color=color, lw=3, solid_capstyle="butt", zorder=2)
        axes.plot([middle], [row], marker="o", ms=10, color=color, mfc=color if low > 0 or high < 0 else "white", mew=2,
                  zorder=3)
        axes.text(1.02, row, f"{middle:+.1f} ({low:.1f} to {high:.1f})", transform=axes.get_yaxis_transform(),
                  va="center", fontsize=style.MEDIUM, color=color)
    left, right = min(float(numbers.min()), 0.0), max(float(numbers.max()), 0.0)
    edge = 0.05 * (right - left) or 1.0
    axes.set(xlim=(left - edge, right + edge), ylim=(len(names) - 0.5, -0.5), xlabel=xlabel)
    axes.set_yticks(range(len(names)), names, fontsize=style.MEDIUM)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e4e4e4", zorder=0)
    axes.set_axisbelow(True)
    return figure


def gains(table: Mapping[str, Mapping[str, HasInterval]], *, ylabel: str = "points above untrained",
          title: str | None = None) -> Figure:
    """Differences along an order, such as the stages of an encoder: one curve a name, upright lines for the 95 %
    intervals, around a line at 0. A point is hollow where its interval holds 0: no difference that we can measure.

    table: name -> place -> what `evaluate.paired` gave; every name has the same places, drawn in their order.

    Raises ValueError where there is nothing to draw, places differ, or a number is not finite.
    """
    table = named(table)
    places = list(next(iter(table.values())))
    figure, (axes,) = style.plot(900, 500, title or "Gains, with their 95 % intervals")
    axes.axhline(0, color=style.INK, lw=1.5, zorder=1)
    colors, dashes = style.line_colors(len(table)), style.line_styles(len(table))
    markers, drawn = style.class_markers(len(table)), []
    for i, (name, row) in enumerate(table.items()):
        if list(row) != places or not places:
            raise ValueError(f"wanted the same places for every name, got {places} and, of {name}, {list(row)}")
        low, middle, high = torch.tensor([[d.low, d.points, d.high] for d in row.values()], dtype=torch.float64).T
        if not torch.stack([low, middle, high]).isfinite().all():
            raise ValueError(f"wanted finite differences and intervals of {name}: look at what gave them")
        x = torch.arange(len(places), dtype=torch.float64) + STEP * (i - (len(table) - 1) / 2)
        axes.vlines(x, low, high, color=colors[i], lw=2.5, zorder=2)
        for place, value, shown in zip(x.tolist(), middle.tolist(), ((low > 0) | (high < 0)).tolist(), strict=True):
            axes.plot([place], [value], ls="none", marker=markers[i], ms=10, color=colors[i], mew=2,
                      mfc=colors[i] if shown else "white", zorder=4)
        drawn.append(Line(name, x, middle, colors[i], dashes[i]))
    axes.set_xticks(range(len(places)), places, fontsize=style.MEDIUM)
    axes.set(ylabel=ylabel)
    draw_lines(axes, drawn, first=-0.3)
    axes.set_xlim(-0.3, len(places) - 0.7)
    return figure
