"""Curves with their range and differences with their intervals: what is drawn is what was given."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from viz_helpers import written

from course_lib.evaluate import Difference, FewLabels
from course_lib.viz import differences, gains, ranges, style


def curve(*rows, per_class=(1, 10)):
    return SimpleNamespace(per_class=per_class, accuracy=torch.tensor(rows))


def test_a_curve_is_the_mean_and_its_lines_reach_the_ends_of_the_range():
    figure = ranges({"SimCLR": curve([20.0, 30.0, 40.0], [50.0, 50.0, 80.0])}, lines={"chance": 10.0}, title="few")
    (axes,) = figure.axes
    (line,) = [line for line in axes.lines if line.get_linewidth() == 2.5]
    assert line.get_ydata().tolist() == [30, 60] and line.get_xdata().tolist() == [1, 10]
    assert [path[:, 1].tolist() for path in axes.collections[0].get_segments()] == [[20, 40], [50, 80]]
    assert axes.get_xscale() == "log" and [t.get_text() for t in axes.get_xticklabels()] == ["1", "10"]
    words = ("SimCLR", "chance = 10", "few", "labels a class", "top-1 on val, %")
    assert all(word in written(figure) for word in words)


def test_curves_stand_apart_and_are_told_apart_without_color():
    same = curve([20.0, 30.0], [50.0, 60.0])
    (axes,) = ranges({"a": same, "b": same, "c": same}).axes
    drawn = [line for line in axes.lines if line.get_linestyle() == "None"]
    firsts = [float(line.get_xdata()[0]) for line in drawn]
    assert firsts == sorted(firsts) and len(set(firsts)) == 3 and firsts[1] == pytest.approx(1)
    assert len({line.get_marker() for line in drawn}) == len({line.get_color() for line in drawn}) == 3
    heights = sorted(t.get_position()[1] for t in axes.texts)
    assert min(b - a for a, b in itertools.pairwise(heights)) * axes.bbox.height > 15, "names overlap"
    axes.figure.draw_without_rendering()
    assert all(t.get_window_extent().x1 <= axes.figure.bbox.x1 for t in axes.texts), "a name runs off the figure"


def test_what_few_label_gives_is_drawn():
    found = FewLabels((1, 10, 100), torch.rand(3, 5, 40) < 0.5)
    (axes,) = ranges({"a": found}).axes
    assert [t.get_text() for t in axes.get_xticklabels()] == ["1", "10", "100"]


def test_a_difference_is_drawn_with_its_interval_and_what_it_shows():
    table = {"better": Difference(5.6, 4.4, 6.8, 100, (1, 1)), "worse": Difference(-3, -5, -1, 100, (1, 1)),
             "not to be told": Difference(0.5, -1, 2, 100, (1, 1))}
    figure = differences(table, title="against rotation")
    (axes,) = figure.axes
    points = [line for line in axes.lines if line.get_marker() == "o"]
    assert [(float(p.get_xdata()[0]), float(p.get_ydata()[0])) for p in points] == [(5.6, 0), (-3, 1), (0.5, 2)]
    intervals = [line.get_xdata() for line in axes.lines if line.get_linewidth() == 3]
    assert [list(ends) for ends in intervals] == [[4.4, 6.8], [-5, -1], [-1, 2]]
    assert [p.get_color() for p in points][:2] == [style.AGREE, style.DISAGREE]
    assert [p.get_markerfacecolor() == "white" for p in points] == [False, False, True], "hollow where it holds 0"
    text = written(figure)
    assert all(word in text for word in ("+5.6 (4.4 to 6.8)", "-3.0 (-5.0 to -1.0)", "better", "against rotation"))
    low, high = axes.get_xlim()
    assert low < -5 and high > 6.8
    figure.draw_without_rendering()
    assert all(t.get_window_extent().x1 <= figure.bbox.x1 for t in axes.texts), "a text runs off the figure"


def test_zero_is_always_in_sight():
    (axes,) = differences({"a": Difference(9, 8, 10, 100, (1, 1))}).axes
    assert axes.get_xlim()[0] < 0


@pytest.mark.parametrize(("bad", "sentence"), [
    (lambda: ranges({}), "at least one entry"),
    (lambda: ranges({"a": curve([1.0], [math.nan])}), r"finite values \[2, repetitions\] of a"),
    (lambda: ranges({"a": curve([1.0])}), r"\[2, repetitions\] of a, got \[1, 1\]: give what few\.curve gave"),
    (lambda: differences({}), "at least one entry"),
    (lambda: differences({"a": Difference(1, math.nan, 2, 3, (1, 1))}), "finite differences and intervals, got"),
])
def test_bad_input_is_told_in_a_sentence(bad, sentence):
    with pytest.raises(ValueError, match=sentence):
        bad()


def test_gains_are_drawn_in_their_order_with_their_intervals():
    table = {"jigsaw": {"stage 1": Difference(4, 2, 6, 100, (3, 3)), "stage 2": Difference(1, -1, 3, 100, (3, 3))},
             "rotation": {"stage 1": Difference(9, 7, 11, 100, (1, 1)), "stage 2": Difference(-4, -6, -2, 100, (1, 1))}}
    figure = gains(table, title="above untrained")
    (axes,) = figure.axes
    assert [t.get_text() for t in axes.get_xticklabels()] == ["stage 1", "stage 2"]
    curves = [line for line in axes.lines if line.get_linewidth() == 2.5]
    assert [line.get_ydata().tolist() for line in curves] == [[4, 1], [9, -4]]
    intervals = [[path[:, 1].tolist() for path in drawn.get_segments()] for drawn in axes.collections]
    assert intervals == [[[2, 6], [-1, 3]], [[7, 11], [-6, -2]]]
    points = [line for line in axes.lines if line.get_linestyle() == "None"]
    assert [point.get_markerfacecolor() == "white" for point in points] == [False, True, False, False]
    assert all(word in written(figure) for word in ("jigsaw", "rotation", "above untrained", "points above untrained"))
    axes.figure.draw_without_rendering()
    assert all(t.get_window_extent().x1 <= axes.figure.bbox.x1 for t in axes.texts), "a name runs off the figure"


@pytest.mark.parametrize(("table", "sentence"), [
    ({}, "at least one entry"),
    ({"a": {}}, "wanted the same places for every name"),
    ({"a": {"1": Difference(0, 0, 0, 1, (1, 1))}, "b": {"2": Difference(0, 0, 0, 1, (1, 1))}}, r"of b, \['2'\]"),
    ({"a": {"1": Difference(math.nan, 0, 0, 1, (1, 1))}}, "wanted finite differences and intervals of a"),
])
def test_gains_that_cannot_be_drawn(table, sentence):
    with pytest.raises(ValueError, match=sentence):
        gains(table)
