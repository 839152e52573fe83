"""One look for every figure: colours, markers, letter sizes, and how a figure shows itself in a notebook.

Sizes are in pixels at 100 dots an inch, which is how a notebook shows them. Letters are 11 points or more, so that they
are read from the last row. Colour is never the only cue: classes have markers too, and lines have names at their ends.
"""

from __future__ import annotations

import io
import textwrap
from functools import lru_cache

from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from PIL import Image

DPI = 100
WIDTH, HEIGHT = 1000, 760  # what fits a notebook on a projector without scrolling
SMALL, MEDIUM, LARGE = 11, 12, 15  # letter sizes in points
INK = "#222222"
AGREE, DISAGREE = "#0072b2", "#d55e00"

# Okabe and Ito (2008), the darkest first; yellow is left out because it cannot be seen on white.
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
LINE_STYLES = ("-", "--", "-.", ":")
# Petroff (2021): ten colours that stay apart under the three colour-vision deficiencies; tests/viz measures it.
TEN = ("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "*", ">")


class Drawing(Figure):
    """A matplotlib Figure that shows itself once, as the last expression of a cell or through `display`.

    pyplot does not know it, so no backend shows it a second time and none has to be closed.
    title: what a screen reader says in its place.
    """

    def __init__(self, width: float, height: float, title: str):
        super().__init__(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
        self.title = title

    def _ipython_display_(self):
        from IPython import display  # only ever called by IPython

        display.display(display.Image(data=png(self), alt=self.title))


def png(figure: Figure) -> bytes:
    """The figure as a PNG of at most 256 colours: a third of the bytes, so that a notebook stays below 1 MB."""
    full, out = io.BytesIO(), io.BytesIO()
    figure.savefig(full, format="png", dpi=DPI)
    picture = Image.open(full).convert("RGB")
    # Maximum coverage keeps rare colours, which the median cut gives away to whatever covers the most.
    few = picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    few.save(out, format="png", optimize=True)
    return out.getvalue()


def plot(width: float, height: float, title: str, panels: int = 1) -> tuple[Drawing, list[Axes]]:
    """A figure with one row of panels under a title: (figure, list of axes)."""
    figure = Drawing(width, height, title)
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    figure.suptitle("\n".join(wrap(title, width - 40, LARGE, "bold")), x=0.02, ha="left", fontsize=LARGE, weight="bold",
                    color=INK)
    row = [figure.add_subplot(1, panels, i + 1) for i in range(panels)]
    for axes in row:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=SMALL)
        axes.xaxis.label.set_size(MEDIUM)
        axes.yaxis.label.set_size(MEDIUM)
    return figure, row


def class_colors(n: int) -> list[str]:
    """A colour a class. Beyond ten they repeat, with another marker (`class_markers`)."""
    return [TEN[i % len(TEN)] for i in range(n)]


def class_markers(n: int) -> list[str]:
    """A marker a class, so that colour and marker together differ for up to a hundred classes."""
    return [MARKERS[(i + i // len(MARKERS)) % len(MARKERS)] for i in range(n)]


def line_colors(n: int) -> list[str]:
    """A colour a line; beyond seven they repeat, with another dash (`line_styles`)."""
    return [LINES[i % len(LINES)] for i in range(n)]


def line_styles(n: int) -> list[str]:
    """Dash patterns of n lines: a new one where the colours begin again."""
    return [LINE_STYLES[(i // len(LINES)) % len(LINE_STYLES)] for i in range(n)]


@lru_cache(maxsize=4096)
def text_width(text: str, size: float = MEDIUM, weight: str = "normal") -> float:
    """How wide one line of text is, in pixels."""
    if not text.strip():
        return 0.0
    font = font_manager.FontProperties(size=size, weight=weight)
    return TextPath((0, 0), text, prop=font).get_extents().width * DPI / 72


def wrap(text: str, width: float, size: float = MEDIUM, weight: str = "normal") -> list[str]:
    """The text in lines no wider than `width` pixels; a line break in the text is kept."""
    lines = []
    for line in text.splitlines():
        letters = max(12, int(len(line) * width / max(width, 1.05 * text_width(line, size, weight))))
        lines += textwrap.wrap(line, letters) or [""]
    return lines


def line_height(size: float) -> float:
    """The height of a line of text of this size, in pixels."""
    return 1.45 * size * DPI / 72


def spread(centers: list[float], apart: float, low: float, high: float) -> list[float]:
    """Positions on a line, moved as little as needed so that neighbours are `apart`, kept between `low` and `high`."""
    order = sorted(range(len(centers)), key=lambda i: centers[i])
    apart = min(apart, (high - low) / max(1, len(centers) - 1))
    placed = dict.fromkeys(order, 0.0)
    # Groups that touch are merged and centred on the mean of what they wish for.
    groups: list[list[int]] = []
    for i in order:
        groups.append([i])
        while len(groups) > 1 and _start(groups[-1], centers, apart, low, high) < (
            _start(groups[-2], centers, apart, low, high) + apart * len(groups[-2])
        ):
            groups[-2:] = [groups[-2] + groups[-1]]
    for group in groups:
        start = _start(group, centers, apart, low, high)
        for step, i in enumerate(group):
            placed[i] = start + apart * step
    return [placed[i] for i in range(len(centers))]


def _start(group: list[int], centers: list[float], apart: float, low: float, high: float) -> float:
    length = apart * (len(group) - 1)
    middle = sum(centers[i] for i in group) / len(group)
    return min(max(middle - length / 2, low), high - length)
