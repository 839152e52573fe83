"""Nearest neighbours: what does the encoder think is alike? The first picture to draw of any encoder."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Int64
from matplotlib.figure import Figure
from torch import Tensor, nn

from course_lib.data.types import Images
from course_lib.evaluate.retrieval import retrieval
from course_lib.viz import style
from course_lib.viz.inputs import as_images, class_name, features_of, some
from course_lib.viz.pictures import EDGE, Sheet, cell_size, pixels_of

LIMIT = 5000  # pictures searched: enough to look at, and quickly done
AGREE, DISAGREE = "✓", "✗"
FRAMED = 10  # between pictures that have a frame
APART = 16  # between the query and its neighbours


@dataclasses.dataclass(frozen=True)
class Found:
    """What was found for one encoder.

    rows: int64 `[q, k]`, the neighbours' numbers among the pictures searched, nearest first.
    precision: percent of the k neighbours that are of the query's class, each picture being a query once; None
        without labels.
    """

    rows: Int64[Tensor, "q k"]
    precision: float | None


def neighbours(encoder: nn.Module | Tensor, images: Images | Tensor, *, queries: int = 8, k: int = 8, seed: int = 0,
               title: str | None = None) -> Figure:
    """Each row: a picture, and the k pictures most like it to the encoder (cosine of their features).

    A neighbour of the query's class has a blue frame and a ✓, another an orange frame and a ✗; without labels there are
    no marks. The title gives precision at k over all pictures searched, not only over the rows shown.

    encoder: a module, or features `[N, D]` taken from the same pictures.
    images: at most 5,000 of them are searched, drawn by the seed.

    Raises ValueError where there are fewer than k + 1 pictures or fewer than one query.
    """
    images = as_images(images)
    index, shown = choose(images, queries, k, seed)
    found = search(encoder, images, index, shown, k)
    searched = images[index]
    side = pixels_of(searched[:1]).shape[1]
    label = max((style.text_width(name) for name in searched.classes), default=0) + 16 if searched.y is not None else 4
    across = (style.WIDTH - 2 * EDGE - label - APART) / (k + 1) - FRAMED
    size = cell_size(side, min(across, style.HEIGHT / len(shown) - FRAMED))
    width = max(2 * EDGE + label + APART + (k + 1) * (size + FRAMED), 620)
    sheet = Sheet(width, len(shown) * (size + FRAMED) + EDGE, title or "Nearest neighbours",
                  caption(images, index, k) + precision_line(found, searched, k))
    draw_rows(sheet, searched, shown, found.rows, EDGE + label, sheet.top + 4, size)
    for r, i in enumerate(shown.tolist()):
        y = sheet.top + 4 + r * (size + FRAMED) + size / 2
        sheet.text(EDGE + label - 12, y, class_name(searched, i), ha="right")
    return sheet.figure


def choose(images: Images, queries: int, k: int, seed: int) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " q"]]:
    """Which pictures are searched, and which of those are the queries: numbers into `images`, and into the searched.

    Queries go round the classes, one a class before any class has two; where there are fewer queries than classes, the
    classes are spread over the list. Only the pictures and the seed decide, so every encoder gets the same queries.
    """
    if queries < 1 or k < 1:
        raise ValueError(f"wanted at least one query and one neighbour, got queries={queries} and k={k}")
    if len(images) < k + 1:
        raise ValueError(f"wanted at least {k + 1} pictures, a query and its {k} neighbours, got {len(images)}: "
                         "give more pictures or a smaller k")
    index = some(images, LIMIT, seed)
    order = torch.randperm(len(index), generator=torch.Generator().manual_seed(seed))
    queries = min(queries, len(index))
    if images.y is None:
        return index, order[:queries]
    y = images.y.cpu()[index]
    classes = y.unique()
    if queries < len(classes):
        classes = classes[torch.linspace(0, len(classes) - 1, queries).round().long()]
    members = [order[y[order] == c].tolist() for c in classes]
    shown = []
    for turn in range(max(len(m) for m in members)):
        shown += [m[turn] for m in members if turn < len(m)]
    shown = torch.tensor(shown[:queries])
    return index, shown[y[shown].argsort(stable=True)]


def search(encoder: nn.Module | Tensor, images: Images, index: Tensor, shown: Tensor, k: int) -> Found:
    """Neighbours of the shown queries, and precision with every searched picture as a query."""
    z = features_of(encoder, images, index)
    y = None if images.y is None else images.y.cpu()[index]
    found = retrieval(z, z, y, y, k=k, skip=torch.arange(len(z)))
    return Found(found.index[shown], found.precision)


def caption(images: Images, index: Tensor, k: int) -> str:
    """What is seen, in a sentence or two."""
    among = f"{len(index):,}" + (f" of {len(images):,}" if len(index) < len(images) else "") + " pictures"
    marks = "" if images.y is None else f"\n{AGREE} blue: same class; {DISAGREE} orange: another class."
    return f"Left: the query. Then its {k} nearest by cosine, of {among}.{marks}"


def precision_line(found: Found, searched: Images, k: int) -> str:
    """Precision at k beside what a random answer would reach, in words; empty without labels."""
    if found.precision is None:
        return ""
    count = searched.y.bincount().double()
    chance = (count * (count - 1)).sum() / (len(searched) * (len(searched) - 1))
    return f"\nPrecision@{k}, every picture a query: {found.precision:.1f} % (by chance {100 * chance:.1f} %)"


def draw_rows(sheet: Sheet, searched: Images, shown: Tensor, rows: Tensor, left: float, top: float, size: int) -> None:
    """The queries under each other from (left, top) on, each with its neighbours to the right, framed and marked."""
    queries = pixels_of(searched[shown])
    for r, (i, near) in enumerate(zip(shown.tolist(), rows, strict=True)):
        y = top + r * (size + FRAMED)
        sheet.picture(queries[r], left, y, size, frame="black")
        for c, (j, pixels) in enumerate(zip(near.tolist(), pixels_of(searched[near]), strict=True)):
            x = left + APART + (c + 1) * (size + FRAMED)
            if searched.y is None:
                sheet.picture(pixels, x, y, size)
                continue
            same = bool(searched.y[i] == searched.y[j])
            color = style.AGREE if same else style.DISAGREE
            sheet.picture(pixels, x, y, size, frame=color)
            sheet.text(x + size - 5, y + size - 6, AGREE if same else DISAGREE, size=style.SMALL, color="white",
                       weight="bold", bbox={"boxstyle": "circle,pad=0.15" if same else "square,pad=0.15", "fc": color,
                                            "ec": "white", "lw": 1})
