"""Curves, bars and spectra: what is drawn is what was given."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from viz_helpers import labelled, written

from course_lib.viz import bars, curves, spectrum, style
from course_lib.viz.curves import running_mean


def history(values, **more):
    return SimpleNamespace(logs=[{"step": i, "epoch": (i + 1) / 10, "loss": float(v), **more}
                                 for i, v in enumerate(values)])


def thick(axes):
    return [line for line in axes.lines if line.get_linewidth() == 2.5]


def test_a_curve_shows_what_was_logged():
    figure = curves(history([3, 2, 1]), smooth=1, title="going down")
    (line,) = thick(figure.axes[0])
    assert line.get_xdata().tolist() == [0.1, 0.2, pytest.approx(0.3)]
    assert line.get_ydata().tolist() == [3, 2, 1]
    assert all(word in written(figure) for word in ("going down", "epoch", "loss"))


def test_smoothing_keeps_the_raw_values_behind():
    (axes,) = curves(history([0, 3, 0, 3, 0]), smooth=3).axes
    assert axes.lines[0].get_ydata().tolist() == [0, 3, 0, 3, 0]
    assert thick(axes)[0].get_ydata() == pytest.approx([1.5, 1, 2, 1, 1.5])


def test_running_mean_is_the_mean_of_what_is_near():
    y = torch.randn(20, dtype=torch.float64)
    wanted = [y[max(0, i - 2):i + 3].mean() for i in range(20)]
    assert torch.allclose(running_mean(y, 5), torch.stack(wanted))
    constant = torch.full((20,), 0.1, dtype=torch.float64)
    assert torch.equal(running_mean(constant, 5), constant)


def test_histories_are_overlaid_and_named_without_overlap():
    both = {"SimCLR": history([3, 2, 1]), "BYOL": history([3, 2, 1.001])}
    figure = curves(both, smooth=1, lines={"log(20)": math.log(20)})
    (axes,) = figure.axes
    assert len(thick(axes)) == 2
    heights = {t.get_text(): t.get_position()[1] for t in axes.texts}
    assert set(heights) == {"SimCLR", "BYOL", "log(20) = 3"}
    assert (heights["BYOL"] - heights["SimCLR"]) * axes.bbox.height > 20
    assert any(line.get_ydata()[0] == pytest.approx(math.log(20)) for line in axes.lines)


def test_each_key_has_a_panel_with_those_that_logged_it():
    figure = curves({"a": history([1, 2]), "b": history([1, 2], variance=0.5)}, keys=("loss", "variance"))
    assert [len(thick(axes)) for axes in figure.axes] == [2, 1]
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "variance"]


def broken_line(figure, panel=0):
    (cross,) = [line for line in figure.axes[panel].lines if line.get_marker() == "X"]
    return cross.get_xdata().tolist(), cross.get_ydata().tolist()


@pytest.mark.parametrize(("value", "word"), [(math.nan, "NaN"), (math.inf, "infinite"), (-math.inf, "infinite")])
@pytest.mark.parametrize("smooth", [1, 3])
def test_a_curve_that_breaks_is_drawn_up_to_there_and_marked(value, word, smooth):
    figure = curves({"SimCLR": history([3, 2, 1, value, value, 7]), "BYOL": history([3, 3, 3, 3, 3, 3])}, smooth=smooth)
    broken, whole = thick(figure.axes[0])
    assert broken.get_xdata() == pytest.approx([0.1, 0.2, 0.3]) and np.isfinite(broken.get_ydata()).all()
    assert len(whole.get_xdata()) == 6
    x, y = broken_line(figure)
    assert x == pytest.approx([0.3]) and y == [broken.get_ydata()[-1]]
    assert f"SimCLR, {word} from epoch 0.4 on" in written(figure)
    names = [t.get_text() for t in figure.axes[0].texts]
    assert "BYOL" in names and not any("BYOL," in name for name in names)


def test_a_curve_that_was_never_a_number_is_named():
    figure = curves({"a": history([math.nan, 1, 2]), "b": history([1, 2, 3])})
    assert "a, NaN from epoch 0.1 on" in written(figure) and len(thick(figure.axes[0])) == 1
    alone = curves(history([math.nan, math.nan]))
    assert "loss, NaN from epoch 0.1 on" in written(alone) and not thick(alone.axes[0])


def test_a_history_has_its_color_in_every_panel():
    figure = curves({"a": history([1, 2]), "b": history([1, 2], variance=0.5)}, keys=("loss", "variance"), smooth=2)
    (_, b_loss), (b_variance,) = (thick(axes) for axes in figure.axes)
    pale = [line for line in figure.axes[1].lines if line.get_linewidth() == 1 and len(line.get_xdata()) == 2]
    assert b_loss.get_color() == b_variance.get_color() == pale[0].get_color()


def test_lines_stand_in_the_first_panel_alone():
    figure = curves(history([1, 2], variance=0.5), keys=("loss", "variance"), lines={"floor": 1.5})
    assert [any("floor" in t.get_text() for t in axes.texts) for axes in figure.axes] == [True, False]


def test_bars_print_their_values_and_lines():
    figure = bars({"SimCLR": 67.24, "MAE": 40.0}, lines={"supervised": 81.4, "raw pixels": 39.0}, title="top-1")
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [67.24, 40.0]
    text = written(figure)
    assert all(word in text for word in ("67.2 %", "40.0 %", "supervised 81.4 %", "raw pixels 39.0 %", "top-1", "MAE"))
    figure.draw_without_rendering()
    right = axes.get_window_extent().x1 + 30
    assert all(t.get_window_extent().x1 < right for t in axes.texts), "a text runs off the figure"


def test_a_bar_has_the_colour_that_its_name_has_elsewhere():
    (axes,) = bars({"a": 1.0, "b": 2.0, "c": 3.0}, colors={"b": "#d55e00", "other": "#000000"}).axes
    blue = style.LINES[0]
    assert [to_hex(bar.get_facecolor()) for bar in axes.patches] == [blue, "#d55e00", blue]


def test_bars_of_other_units_keep_their_digits():
    assert "0.0123" in written(bars({"std": 0.0123}, unit=""))
    assert "-3.2" in written(bars({"uniformity": -3.2}, unit=""))


def test_spectrum_shows_collapse():
    z = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    figure = spectrum({"healthy": z, "collapsed": z[:, :1] @ torch.ones(1, 8)})
    healthy, collapsed = (np.asarray(line.get_ydata()) for line in thick(figure.axes[0]))
    assert healthy.min() > 0.5 and healthy[0] == 1
    assert collapsed[0] == 1 and collapsed[1:].max() < 1e-6
    assert "collapsed (RankMe 1)" in written(figure) and "healthy (RankMe 8)" in written(figure)


def test_spectrum_takes_an_encoder_with_pictures():
    class Columns(torch.nn.Module):
        def forward(self, x):
            return x[:, 0, 0]

    pictures = torch.randint(0, 256, (30, 3, 4, 4), dtype=torch.uint8)
    figure = spectrum({"net": Columns()}, pictures)
    wanted = torch.linalg.svdvals(pictures[:, 0, 0].double() / 255)
    assert np.asarray(thick(figure.axes[0])[0].get_ydata()) == pytest.approx((wanted / wanted[0]).numpy(), rel=1e-5)


def test_spectrum_of_features_that_are_all_zero():
    figure = spectrum({"dead": torch.zeros(20, 4), "with gradients": torch.ones(20, 4, requires_grad=True)})
    assert "dead (RankMe 0)" in written(figure)
    assert thick(figure.axes[0])[0].get_ydata().tolist() == [0, 0, 0, 0]
    figure.draw_without_rendering()


@pytest.mark.parametrize(("bad", "error", "sentence"), [
    (lambda: curves(history([1]), keys=("accuracy",)), ValueError, r"'accuracy'.*found \['epoch', 'loss', 'step'\]"),
    (lambda: curves(history([])), ValueError, "found nothing.*train first"),
    (lambda: curves({}), ValueError, "at least one entry"),
    (lambda: bars({}), ValueError, "at least one entry"),
    (lambda: bars({"a": math.nan}), ValueError, "finite values"),
    (lambda: spectrum({"net": torch.nn.Identity()}), ValueError, "pictures to take the features of net from"),
    (lambda: spectrum({"a": torch.randn(4, 2)}, labelled(5)), ValueError, "each of the 5 pictures, got 4"),
])
def test_bad_input_is_told_in_a_sentence(bad, error, sentence):
    with pytest.raises(error, match=sentence):
        bad()
