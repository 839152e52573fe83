"""Measures that take long show how far they are; those that are over in a moment leave no trace."""

import sys

import pytest
import torch

from course_lib.data.types import Dataset, Images
from course_lib.evaluate import RawPixels, evaluate, features, few_label, knn, layerwise, linear_probe, probe
from course_lib.evaluate.checks import PATIENCE
from course_lib.nets import convnet
from course_lib.progress import bar


@pytest.fixture
def data():
    draw = torch.Generator().manual_seed(0)
    parts = [Images(torch.randint(256, (n, 3, 8, 8), generator=draw, dtype=torch.uint8), torch.arange(n) % 3,
                    tuple("abc")) for n in (60, 30, 30)]
    return Dataset("noise", parts[0].without_labels(), *parts)


@pytest.fixture
def bars(monkeypatch):
    """The bars that were made and not quiet, in order, with the delay that they were given."""
    made = []

    def recorded(*args, quiet=False, delay, **options):
        assert delay == PATIENCE > 0
        one = bar(*args, quiet=False, delay=1e9, **options)
        if not quiet:
            made.append(one)
        return one

    monkeypatch.setenv("TQDM_DISABLE", "0")
    for name in ("features", "few_label", "knn", "layers", "probe"):
        monkeypatch.setattr(sys.modules[f"course_lib.evaluate.{name}"], "bar", recorded)
    return made


def seen(bars):
    return [(b.desc.removesuffix(": "), b.n, b.total) for b in bars]


def test_features_move_by_batches(data, bars):
    features(RawPixels(8), data.train, batch_size=16)
    assert seen(bars) == [("features", 4, 4)]
    features(RawPixels(8), data.train, quiet=True)
    assert len(bars) == 1


def test_neighbours_move_by_parts_of_the_queries(data, bars, monkeypatch):
    monkeypatch.setattr(sys.modules["course_lib.evaluate.knn"], "CHUNK_BYTES", 60 * 4 * 10)
    z = torch.randn(60, 4)
    knn(z, data.train.y, z[:30], data.val.y, k=3)
    assert seen(bars) == [("nearest neighbours", 3, 3)]


def test_the_probe_moves_by_fits_and_ends_full_where_strengths_are_left_out(data, bars):
    z = [torch.randn(len(p), 40) for p in (data.train, data.val, data.test)]
    parts = (z[0], data.train.y, z[1], data.val.y, z[2], data.test.y)
    result = linear_probe(*parts, strengths=(1.0, 1e-1))
    fits = len(result.val_top1)
    assert seen(bars) == [("linear probe", fits, fits)]
    linear_probe(*parts, quiet=True)
    assert len(bars) == 1


def test_the_probe_leaves_out_strengths(data, bars, monkeypatch):
    tops = iter([90, 10, 50, 50])  # two strengths on val, then top-1 and top-5 on test
    monkeypatch.setattr(probe, "accuracy", lambda scores, y, top=1: next(tops))
    z = [torch.randn(len(p), 4) for p in (data.train, data.val, data.test)]
    linear_probe(z[0], data.train.y, z[1], data.val.y, z[2], data.test.y)
    assert seen(bars) == [("linear probe", 2, 2)]


def test_few_labels_have_one_bar_for_all_fits(data, bars):
    few_label(RawPixels(8), data, (1, 2), 3)
    assert seen(bars)[-1] == ("few labels", 6, 6)


@pytest.mark.parametrize(("on", "steps"), [("test", 12), ("val", 9)])
def test_layers_have_one_bar_for_all(on, steps, data, bars):
    layerwise(convnet((4,), 8), data, numbers=8, on=on)
    assert seen(bars) == [("layer by layer", steps, steps)], "pixels and two stages: each part, then a probe"


def test_what_is_quickly_over_leaves_no_trace(data, monkeypatch, capsys):
    monkeypatch.setenv("TQDM_DISABLE", "0")
    evaluate(RawPixels(8), data)
    layerwise(convnet((4,), 8), data, numbers=8)
    assert capsys.readouterr().err == ""
