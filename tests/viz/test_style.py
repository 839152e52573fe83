"""Colours that stay apart for every eye, sizes, and how a figure shows itself."""

from __future__ import annotations

import io

import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from course_lib.viz import bars, style

# Machado et al. (2009): what each deficiency, at its strongest, makes of linear RGB.
EYES = {
    "normal": torch.eye(3),
    "protanopia": torch.tensor([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                                [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": torch.tensor([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                                  [-0.011820, 0.042940, 0.968881]]),
    "tritanopia": torch.tensor([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                                [0.004733, 0.691367, 0.303900]]),
}


def lab(colors, eye: str) -> torch.Tensor:
    """CIELAB, D65, of colours as that eye sees them."""
    rgb = torch.tensor([to_rgb(c) for c in colors])
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = (linear @ EYES[eye].T).clamp(0, 1)
    to_xyz = torch.tensor([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / torch.tensor([0.9505, 1.0, 1.089])
    f = torch.where(xyz > 0.008856, xyz ** (1 / 3), 7.787 * xyz + 16 / 116)
    return torch.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize("colors", [style.TEN, style.LINES, (style.AGREE, style.DISAGREE)])
def test_colors_differ_for_every_eye(colors, eye):
    distances = torch.pdist(lab(colors, eye))
    assert distances.min() > 15, f"two colours are {distances.min():.1f} apart in CIELAB under {eye}"


def test_a_class_is_told_by_color_and_marker_together():
    pairs = list(zip(style.class_colors(100), style.class_markers(100), strict=True))
    assert len(set(pairs)) == 100
    assert len(set(style.class_markers(10))) == 10


def test_lines_beyond_the_palette_get_another_dash():
    pairs = list(zip(style.line_colors(20), style.line_styles(20), strict=True))
    assert len(set(pairs)) == 20


def test_wrapped_text_fits():
    text = "Each point is a picture and its colour and marker tell its class\nsecond line"
    lines = style.wrap(text, 200)
    assert " ".join(lines) == text.replace("\n", " ")
    assert lines[-1] == "second line"
    assert max(map(style.text_width, lines)) <= 200


def test_spread_moves_only_what_overlaps():
    assert style.spread([0.1, 0.9], 0.2, 0, 1) == [0.1, 0.9]
    assert style.spread([0.5, 0.52, 0.9, 0.99], 0.1, 0, 1) == pytest.approx([0.46, 0.56, 0.895, 0.995])
    assert style.spread([0.98, 1.0], 0.1, 0, 1) == pytest.approx([0.9, 1.0]), "nothing may leave the page"
    crowded = style.spread([0.5] * 5, 0.5, 0, 1)
    assert sorted(crowded) == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_a_figure_shows_itself_once_and_small(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    figure = bars({"a": 1.0})
    figure._ipython_display_()
    assert len(shown) == 1
    assert shown[0].alt == figure.title, "a screen reader should hear the title"
    picture = Image.open(io.BytesIO(shown[0].data))
    assert picture.mode == "P", "a notebook's picture must have a palette, or notebooks grow beyond 1 MB"
    assert picture.size == tuple((figure.get_size_inches() * style.DPI).astype(int))


def test_pyplot_does_not_know_the_figures():
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    bars({"a": 1.0})
    assert plt.get_fignums() == before, "a figure that pyplot knows is shown twice in a notebook"
