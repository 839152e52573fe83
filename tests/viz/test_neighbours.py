"""Nearest neighbours, alone and side by side: marks that agree with labels, the same queries for every encoder."""

from __future__ import annotations

import pytest
import torch
from matplotlib.figure import Figure
from viz_helpers import labelled, written

from course_lib.evaluate.features import RawPixels
from course_lib.viz import neighbours, side_by_side, style
from course_lib.viz.neighbours import choose


def marks(figure) -> list[str]:
    return [t.get_text() for t in figure.axes[0].texts if t.get_text() in ("✓", "✗")]


def frames(figure) -> list[str]:
    from matplotlib.colors import to_hex

    return [to_hex(patch.get_edgecolor()) for patch in figure.axes[0].patches]


def pictures(figure) -> list[int]:
    return [int(image.get_array()[0, 0, 0]) for image in figure.axes[0].images]


def test_marks_and_frames_agree_where_neighbours_are_of_the_class(images, sorted_by_class):
    figure = neighbours(sorted_by_class, images, queries=4, k=3)
    assert isinstance(figure, Figure)
    assert marks(figure) == ["✓"] * 12
    assert frames(figure).count(style.AGREE) == 12 and frames(figure).count("#000000") == 4
    assert "Precision@3, every picture a query: 100.0 % (by chance 23.1 %)" in written(figure)
    assert all(name in written(figure) for name in images.classes)


def test_marks_and_frames_disagree_where_neighbours_are_of_others(images, shuffled):
    figure = neighbours(shuffled, images, queries=4, k=3)
    assert marks(figure) == ["✗"] * 12
    assert frames(figure).count(style.DISAGREE) == 12
    assert "query: 0.0 %" in written(figure)


def test_the_pictures_shown_are_the_query_and_its_neighbours(images, shuffled):
    figure = neighbours(shuffled, images, queries=4, k=3)
    numbers = torch.tensor(pictures(figure)).view(4, 4) // 5  # picture i has the value 5i
    assert (numbers // 4 == numbers[:, :1] // 4).all(), "a group of four holds each picture's neighbours"
    assert all(len(set(row)) == 4 for row in numbers.tolist()), "a picture is not its own neighbour"


def test_without_labels_there_are_no_marks(images, shuffled):
    figure = neighbours(shuffled, images.x, queries=2, k=3)
    assert marks(figure) == [] and "recision" not in written(figure)
    assert len(pictures(figure)) == 8


def test_pictures_whose_labels_are_hidden_have_no_marks(images, shuffled):
    hidden = images.without_labels()
    assert hidden.classes and hidden.y is None
    for figure in (neighbours(shuffled, hidden, queries=2, k=3), side_by_side({"a": shuffled}, hidden, queries=2, k=3)):
        assert marks(figure) == [] and "recision" not in written(figure)
        assert len(pictures(figure)) == 8 and not any(name in written(figure) for name in images.classes)


def test_an_encoder_does_as_well_as_its_features(images):
    # The brightness of a flat picture says nothing by cosine, so features are taken of noise.
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=generator)
    a, b = neighbours(RawPixels(8), noise, queries=3, k=2), neighbours(noise.flatten(1) / 255, noise, queries=3, k=2)
    assert pictures(a) == pictures(b)


def test_queries_go_round_the_classes(images):
    _, shown = choose(images, 4, 3, seed=0)
    assert images.y[shown].tolist() == [0, 1, 2, 3]
    _, shown = choose(images, 6, 3, seed=0)
    assert images.y[shown].bincount().tolist() == [2, 2, 1, 1]
    _, shown = choose(images, 2, 3, seed=0)
    assert images.y[shown].tolist() == [0, 3], "fewer queries than classes are spread over the classes"
    assert shown.tolist() == choose(images, 2, 3, seed=0)[1].tolist()
    assert shown.tolist() != choose(images, 2, 3, seed=1)[1].tolist()


def test_many_pictures_are_capped_and_the_caption_says_so():
    many = labelled(5004, size=2)
    figure = neighbours(torch.randn(5004, 3), many, queries=1, k=1)
    assert "of 5,000 of 5,004 pictures" in written(figure)


def test_side_by_side_asks_every_encoder_the_same(images, sorted_by_class, shuffled):
    figure = side_by_side({"good": sorted_by_class, "bad": shuffled}, images, queries=3, k=3)
    good, bad = torch.tensor(pictures(figure)).view(2, 3, 4)
    assert good[:, 0].tolist() == bad[:, 0].tolist()
    assert marks(figure) == ["✓"] * 9 + ["✗"] * 9
    text = written(figure)
    assert "good" in text and "precision@3 100.0 %" in text and "precision@3 0.0 %" in text


def test_side_by_side_stays_on_the_page_and_large_enough(images, shuffled):
    wide = side_by_side({"a": shuffled, "b": shuffled}, images, queries=1, k=9)
    assert wide.get_size_inches()[0] * style.DPI <= style.WIDTH
    image = wide.axes[0].images[0]
    assert image.get_array().shape[0] >= 48


@pytest.mark.parametrize(("bad", "error", "sentence"), [
    (lambda: neighbours(torch.randn(8, 3), labelled(8), k=8), ValueError, "at least 9 pictures, a query and its 8"),
    (lambda: neighbours(torch.randn(8, 3), labelled(8), queries=0, k=2), ValueError, "queries=0"),
    (lambda: neighbours(torch.randn(7, 3), labelled(8), k=2), ValueError, "each of the 8 pictures, got 7"),
    (lambda: neighbours(torch.full((8, 3), torch.nan), labelled(8), k=2), ValueError, "NaN"),
    (lambda: neighbours("SimCLR", labelled(8), k=2), TypeError, "an encoder or a tensor of features.*got str"),
    (lambda: side_by_side(torch.randn(8, 3), labelled(8), k=2), TypeError, "wanted a dict from names"),
    (lambda: side_by_side({}, labelled(8), k=2), ValueError, "at least one entry"),
])
def test_bad_input_is_told_in_a_sentence(bad, error, sentence):
    with pytest.raises(error, match=sentence):
        bad()
