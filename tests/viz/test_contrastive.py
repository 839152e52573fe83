"""Histograms, cosines and factors: what is drawn is what was given."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from viz_helpers import labelled, written

from course_lib.viz import agreement, factors, histograms, pairs, style


class Darker(nn.Module):
    """The first view is the picture, the second is darker."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return x.float() / 255 * (1 if self.calls % 2 else 0.5)


def titles(figure):
    return [axes.get_title() for axes in figure.axes]


def test_histograms_of_equal_views_overlap_wholly_and_of_others_less():
    pictures = torch.full((2, 3, 8, 8), 0.75)
    figure = histograms({"as it is": nn.Identity(), "darker": Darker()}, pictures, bins=4, title="two kinds")
    assert titles(figure).count("overlap 100 %") == 2 and titles(figure).count("overlap 0 %") == 2
    assert "two kinds" in written(figure) and len(figure.axes) == 12
    assert {axes.get_title(loc="left") for axes in figure.axes} == {"", "as it is", "darker"}
    shown = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    assert [int(array.mean()) for array in shown] == [191, 191, 191, 96] * 2


def test_histograms_are_drawn_by_the_seed_and_leave_other_draws_alone():
    class Noise(nn.Module):
        def forward(self, x):
            return torch.rand(len(x), 3, 8, 8)

    before = torch.random.get_rng_state()
    first, again, other = (titles(histograms({"a": Noise()}, labelled(2), seed=s)) for s in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first == again != other


def test_pairs_shows_every_cosine_and_frames_the_partners():
    z1, z2 = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    figure = pairs(z1, z2)
    _, matrix, _ = figure.axes
    cells = [t.get_text() for t in matrix.texts]
    assert cells == ["–", "0.00", "1.00", "0.00", "0.00", "–", "0.00", "-1.00",
                     "1.00", "0.00", "–", "0.00", "0.00", "-1.00", "0.00", "–"]
    assert [(round(p.get_x() + 0.46), round(p.get_y() + 0.46)) for p in matrix.patches] == [
        (2, 0), (3, 1), (0, 2), (1, 3)]
    assert [t.get_text() for t in figure.axes[0].texts if t.get_text()] == ["0", "1", "2", "3"]


def test_agreement_shows_the_cosines_and_their_means():
    z = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    views = torch.rand(2, 3, 8, 8)
    figure = agreement({"same": (z, 3 * z), "crossed": (z, z.flip(0))}, views, views, title="who finds whom")
    text = written(figure)
    assert "same: mean of partners 1.00, of others 0.00\nthe partner comes first in 2 of 2 rows" in text
    assert "crossed: mean of partners 0.00, of others 1.00\nthe partner comes first in 0 of 2 rows" in text
    assert figure.axes[1].images[0].get_array().tolist() == [[0, 1], [1, 0]]
    assert "who finds whom" in text


def test_factors_stand_where_they_are_read():
    read = {"h": {"class": 80.0, "x": 50.0}, "z": {"class": 70.0, "x": -40.0},
            "untrained h": {"class": 30.0, "x": 60.0}}
    figure = factors(read, {"class": 10.0, "x": 0.0}, hollow=["untrained h"], title="h and z")
    (axes,) = figure.axes
    marks = {(float(line.get_xdata()[0]), round(float(line.get_ydata()[0]))): line for line in axes.lines
             if line.get_linestyle() == "None"}
    assert set(marks) == {(80, 0), (70, 0), (30, 0), (50, 1), (-5, 1), (60, 1)}
    assert marks[30, 0].get_markerfacecolor() == "white" != marks[80, 0].get_markerfacecolor()
    assert marks[30, 0].get_color() == marks[80, 0].get_color() == style.LINES[0] != marks[70, 0].get_color()
    bars = [line.get_xdata()[0] for line in axes.lines if line.get_linewidth() == 3]
    assert bars == [10, 0]
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["chance", "h", "z", "untrained h"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["class", "x"]


@pytest.mark.parametrize(("bad", "sentence"), [
    (lambda: pairs(torch.ones(2, 3), torch.ones(2, 3)), r"two tensors \[N, 2\] of one shape, got \[2, 3\]"),
    (lambda: pairs(torch.ones(2, 2), torch.ones(3, 2)), r"got \[2, 2\] and \[3, 2\]"),
    (lambda: agreement({"a": (torch.ones(3, 2), torch.ones(2, 2))}, torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)),
     "an embedding for each of 2 views, got 3 and 2 of a"),
    (lambda: agreement({}, torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)), "at least one entry"),
    (lambda: factors({}, {}), "at least one entry"),
    (lambda: histograms({}, torch.rand(2, 3, 8, 8)), "at least one entry"),
    (lambda: histograms({"a": nn.Identity()}, torch.full((1, 3, 8, 8), math.nan)), "got NaN"),
])
def test_bad_input_is_told_in_a_sentence(bad, sentence):
    with pytest.raises(ValueError, match=sentence):
        bad()
