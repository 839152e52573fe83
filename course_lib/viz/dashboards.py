"""Several encoders at once: the same queries answered by each, their results as bars, their spectra."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from course_lib.data.types import Images
from course_lib.evaluate.collapse import rankme
from course_lib.viz import style
from course_lib.viz.curves import Line, draw_lines
from course_lib.viz.inputs import as_images, features_of, named, some
from course_lib.viz.neighbours import APART, FRAMED, caption, choose, draw_rows, search
from course_lib.viz.pictures import EDGE, Sheet, cell_size, pixels_of


def side_by_side(encoders: Mapping[str, nn.Module | Tensor], images: Images | Tensor, *, queries: int = 4, k: int = 5,
                 seed: int = 0, title: str | None = None) -> Figure:
    """The same queries for several encoders, one block an encoder, marked as in `neighbours`.

    encoders: name -> module, or features `[N, D]` taken from the same pictures.

    Raises as `neighbours`, and where `encoders` is no dict or empty.
    """
    images = as_images(images)
    encoders = named(encoders)
    index, shown = choose(images, queries, k, seed)
    searched = images[index]
    between, side = 24, pixels_of(searched[:1]).shape[1]

    def size_of_a_picture(columns: int) -> int:
        across = (style.WIDTH - 2 * EDGE - (columns - 1) * between) / columns - APART
        return cell_size(side, min(across / (k + 1) - FRAMED, 96))

    # Two blocks beside each other, unless their pictures would be too small to be seen.
    columns = 2 if size_of_a_picture(2) >= 48 else 1
    size = size_of_a_picture(columns)
    columns = min(columns, len(encoders))
    block = (APART + (k + 1) * (size + FRAMED), 34 + len(shown) * (size + FRAMED) + 12)
    lines = -(-len(encoders) // columns)
    width = max(2 * EDGE + columns * block[0] + (columns - 1) * between, 620)
    sheet = Sheet(width, lines * block[1] + EDGE, title or "The same queries, asked of each encoder",
                  caption(images, index, k))
    for b, (name, encoder) in enumerate(encoders.items()):
        found = search(encoder, images, index, shown, k)
        x, y = EDGE + 2 + (b % columns) * (block[0] + between), sheet.top + (b // columns) * block[1]
        score = "" if found.precision is None else f"precision@{k} {found.precision:.1f} %"
        sheet.text(x, y + 18, name, size=style.MEDIUM + 1, weight="bold", ha="left")
        sheet.text(x + block[0] - FRAMED, y + 18, score, ha="right")
        draw_rows(sheet, searched, shown, found.rows, x, y + 36, size)
    return sheet.figure


def bars(table: Mapping[str, float], *, lines: Mapping[str, float] | None = None, unit: str = "%",
         colors: Mapping[str, str] | None = None, title: str | None = None) -> Figure:
    """One horizontal bar a name, its value printed at its end, with dashed lines for what it is compared with.

    table: name -> value, drawn in the order given. lines: label -> value, such as {"raw pixels": 39.0}.
    colors: name -> colour of its bar, where a name has one in other figures too; all others are blue.

    Raises ValueError where there is nothing to draw or a value is not finite.
    """
    table, lines = dict(named(table)), dict(lines or {})
    values = torch.tensor([*table.values(), *lines.values()], dtype=torch.float64)
    if not values.isfinite().all():
        raise ValueError(f"wanted finite values, got {table | lines}: look at the run that gave them")
    low = min(0.0, float(values.min()))
    wide, names = 760, list(table)
    figure, (axes,) = style.plot(wide, 120 + 34 * len(table) + 24 * len(lines), title or "Compared")

    def say(value: float) -> str:
        return f"{value:.1f} %" if unit == "%" else f"{value:.3g} {unit}".strip()

    room = wide - 60 - max(style.text_width(name) for name in names)
    labels = {name: f"{name} {say(value)}" for name, value in lines.items()}
    # The label of a line far to the right stands at its left, where there is room for it.
    leftward = {name for name, value in lines.items()
                if value > 0.6 * float(values.max()) and style.text_width(labels[name]) < room / 2}
    # The axis goes on to the right until every text that starts at a value has its room.
    texts = [(value, say(value)) for value in table.values()]
    texts += [(value, labels[name]) for name, value in lines.items() if name not in leftward]
    right = 1.02 * float(values.max())
    for value, text in texts:
        share_left_of_text = max(0.2, 1 - (style.text_width(text) + 24) / room)
        right = max(right, low + (max(value, 0) - low) / share_left_of_text)
    right = right or 1.0  # where all values are 0
    step = 8 / room * (right - low)
    axes.barh(range(len(names)), list(table.values()), height=0.68, zorder=2,
              color=[(colors or {}).get(name, style.LINES[0]) for name in names])
    for i, value in enumerate(table.values()):
        axes.text(max(value, 0) + step, i, say(value), va="center", fontsize=style.MEDIUM, zorder=4,
                  bbox={"fc": "white", "ec": "none", "pad": 1})
    # Labels of the lines stand above the bars, the leftmost highest, so that no line crosses another's label.
    for i, (name, value) in enumerate(sorted(lines.items(), key=lambda item: -item[1])):
        level = -0.95 - 0.75 * i
        axes.plot([value, value], [len(names) - 0.5, level - 0.3], ls="--", lw=2, color=style.INK, zorder=3)
        x, side = (value - step, "right") if name in leftward else (value + step, "left")
        axes.text(x, level, labels[name], fontsize=style.MEDIUM, color=style.INK, va="center", ha=side, zorder=4,
                  bbox={"fc": "white", "ec": "none", "pad": 1})
    axes.set_yticks(range(len(names)), names, fontsize=style.MEDIUM)
    axes.set(xlim=(low, right), ylim=(len(names) - 0.5, -0.6 - 0.75 * len(lines)), xlabel=unit)
    if unit == "%":
        axes.set_xticks([tick for tick in axes.get_xticks() if low <= tick <= min(right, 100)])
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def spectrum(encoders: Mapping[str, nn.Module | Tensor], images: Images | Tensor | None = None, *, seed: int = 0,
             title: str | None = None) -> Figure:
    """Singular values of each encoder's features, the largest set to 1: collapse at a glance.

    A line that stays up uses all its directions; one that falls off a cliff has collapsed to few. Features are not
    centred, as in RankMe, the effective number of directions, which stands beside each name.

    encoders: name -> features `[N, D]`, or modules where `images` are given; at most 5,000 pictures are used.

    Raises ValueError where a module comes without pictures.
    """
    encoders = named(encoders)
    images = None if images is None else as_images(images)
    lines = []
    colors, dashes = style.line_colors(len(encoders)), style.line_styles(len(encoders))
    for (name, encoder), color, dash in zip(encoders.items(), colors, dashes, strict=True):
        if isinstance(encoder, nn.Module) and images is None:
            raise ValueError(f"wanted pictures to take the features of {name} from, got none: "
                             "pass images, or features [N, D] in place of the encoder")
        if images is not None:
            encoder = features_of(encoder, images, some(images, 5000, seed))
        rank = rankme(encoder)
        singular = torch.linalg.svdvals(encoder.detach().cpu().double())
        largest = singular[0].clamp(min=torch.finfo(torch.float64).tiny)  # of features that are all zero
        direction = torch.arange(1, len(singular) + 1)
        lines.append(Line(f"{name} (RankMe {rank:.0f})", direction, singular / largest, color, dash))
    figure, (axes,) = style.plot(900, 520, title or "How many directions do the features use?")
    axes.set_yscale("log")
    axes.set(xlabel="direction, the strongest first", ylabel="singular value, the largest = 1",
             ylim=(1e-4, 1.3))
    draw_lines(axes, lines, first=1)
    return figure
