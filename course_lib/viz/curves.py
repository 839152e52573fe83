"""Training curves: is it learning, has it stopped, has it collapsed?"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from course_lib.viz import style
from course_lib.viz.inputs import named


class HasLogs(Protocol):
    """What `fit` returns: one dict of numbers a logged step, with "epoch", "loss" and whatever else the method logs."""

    logs: Sequence[Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a panel, and the name at its end."""

    name: str
    x: Float[Tensor, " n"]
    y: Float[Tensor, " n"]
    color: str
    dash: str = "-"


def curves(history: HasLogs | Mapping[str, HasLogs], *, keys: Sequence[str] = ("loss",), smooth: int | None = None,
           lines: Mapping[str, float] | None = None, title: str | None = None) -> Figure:
    """What training logged against epochs: one panel a key, one line a history, named at the line's end.

    A line ends, with a cross, where its key stopped being a finite number; its name says so.

    history: what `fit` returned, or a dict from a name to that; a history without a key has no line in its panel.
    smooth: how many logged steps a running mean covers, with the raw values pale behind it; 1 for the raw values alone;
        by default one in forty.
    lines: label -> value, dashed across the first panel, such as {"log(2N−1)": 6.2}.

    Raises ValueError where nothing was logged or no history has one of the keys.
    """
    histories = named(history) if isinstance(history, Mapping) else {"": history}
    figure, panels = style.plot(min(style.WIDTH, 760 + 240 * (len(keys) - 1)), 470, title or "Training", len(keys))
    for p, (key, axes) in enumerate(zip(keys, panels, strict=True)):
        if not any(key in log for h in histories.values() for log in h.logs):
            logged = sorted({k for h in histories.values() for log in h.logs for k in log})
            raise ValueError(f"wanted {key!r} in what training logged, found {logged or 'nothing'}: "
                             "choose keys from those, or train first")
        drawn, never = [], []
        colors, dashes = style.line_colors(len(histories)), style.line_styles(len(histories))
        for (name, h), color, dash in zip(histories.items(), colors, dashes, strict=True):
            logs = [log for log in h.logs if key in log]
            if not logs:
                continue
            x = torch.tensor([float(log["epoch"]) for log in logs], dtype=torch.float64)
            y = torch.tensor([float(log[key]) for log in logs], dtype=torch.float64)
            name = name or key
            broken = (~y.isfinite()).nonzero().flatten()
            if len(broken):
                end = int(broken[0])
                name = f"{name}, {'NaN' if y[end].isnan() else 'infinite'} from epoch {x[end]:.3g} on"
                x, y = x[:end], y[:end]
                if end == 0:
                    never.append((name, color))
                    continue
            window = max(1, len(y) // 40) if smooth is None else smooth
            if window > 1:
                axes.plot(x, y, lw=1, alpha=0.3, color=color, zorder=1)
            line = Line(name, x, running_mean(y, window), color, dash)
            if len(broken):
                axes.plot(line.x[-1:], line.y[-1:], marker="X", ms=13, color=color, zorder=4, clip_on=False)
            drawn.append(line)
        axes.set(xlabel="epoch", ylabel=key)
        axes.ticklabel_format(useOffset=False)
        for i, (name, color) in enumerate(never):
            axes.text(0.97, 0.95 - 0.08 * i, name, transform=axes.transAxes, color=color, fontsize=style.MEDIUM,
                      ha="right", va="top", weight="bold")
        if drawn:
            draw_lines(axes, drawn, levels=lines if p == 0 else None)
    return figure


def running_mean(y: Float[Tensor, " n"], window: int) -> Float[Tensor, " n"]:
    """The mean of the `window` values around each one, of fewer at the two ends."""
    total = torch.cat([y.new_zeros(1), (y - y[0]).cumsum(0)])  # less the first, so that a constant stays exact
    i = torch.arange(len(y))
    low, high = (i - (window - 1) // 2).clamp(min=0), (i + window // 2 + 1).clamp(max=len(y))
    return y[0] + (total[high] - total[low]) / (high - low)


def draw_lines(axes: Axes, lines: Sequence[Line], levels: Mapping[str, float] | None = None, first: float = 0) -> None:
    """Thick lines with their names at the right, in each line's colour, moved apart where they would overlap.

    levels: name -> height of a dashed line. first: where x starts. Set other limits and scales of the axes before.
    """
    ends = []
    for line in lines:
        axes.plot(line.x, line.y, lw=2.5, color=line.color, ls=line.dash, zorder=3,
                  marker="o" if len(line.x) == 1 else None)
        ends.append((line.name, float(line.x[-1]), float(line.y[-1]), line.color))
    last = max(x for _, x, _, _ in ends)
    for name, value in (levels or {}).items():
        axes.axhline(value, lw=2, ls=(0, (4, 3)), color=style.INK, zorder=2)
        ends.append((f"{name} = {value:.3g}", last, value, style.INK))
    axes.set_xlim(first, last)
    axes.grid(axis="y", color="#e4e4e4", zorder=0)
    # Where the ends are on the page is known once limits and letters are laid out.
    axes.figure.draw_without_rendering()
    to_axes = axes.transData + axes.transAxes.inverted()
    points = [to_axes.transform((x, y)) for _, x, y, _ in ends]
    apart = style.line_height(style.MEDIUM) / axes.bbox.height
    heights = style.spread([float(min(max(y, 0), 1)) for _, y in points], apart, 0.0, 1.0)
    for (name, _, _, color), (x, y), height in zip(ends, points, heights, strict=True):
        axes.plot([x, 1.03], [min(max(y, 0), 1), height], transform=axes.transAxes, color=color, lw=1.2,
                  ls=":", clip_on=False)
        axes.text(1.04, height, name, transform=axes.transAxes, color=color, fontsize=style.MEDIUM, va="center",
                  weight="bold")
