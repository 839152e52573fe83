"""Grids, views and rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from viz_helpers import labelled, written

from course_lib.augment import multicrop
from course_lib.viz import grid, rows, views
from course_lib.viz.pictures import cell_size, enlarge


class Jitter(torch.nn.Module):
    def forward(self, x):
        return (x.float() / 255 * torch.rand(len(x), 1, 1, 1))[:, :, :4, :4]


def shown(figure) -> list[np.ndarray]:
    return [image.get_array() for image in figure.axes[0].images]


def test_grid_shows_the_first_n_with_their_classes(images):
    figure = grid(images, n=6, title="six")
    assert isinstance(figure, Figure)
    assert "six" in written(figure)
    assert written(figure).count("cat") == 2 and written(figure).count("tree") == 1
    values = [int(a[0, 0, 0]) for a in shown(figure)]
    assert values == images.x[:6, 0, 0, 0].tolist()


def test_grid_takes_floats_gray_pictures_and_titles():
    figure = grid(torch.tensor([0.0, 1.0, 1.2]).view(3, 1, 1, 1).expand(3, 1, 8, 8), titles=["no", "yes", "over"])
    assert [int(a.max()) for a in shown(figure)] == [0, 255, 255]
    assert "yes" in written(figure)
    assert written(grid(torch.zeros(2, 3, 8, 8))).startswith("2 pictures")


def test_pixels_stay_crisp_at_whole_multiples():
    pixels = torch.randint(0, 256, (8, 8, 3), dtype=torch.uint8).numpy()
    assert (enlarge(pixels, 24) == pixels.repeat(3, 0).repeat(3, 1)).all()
    assert cell_size(32, 100) == 96 and cell_size(96, 64) == 64


def test_a_picture_of_another_shape_is_padded_not_stretched():
    figure = grid(torch.zeros(1, 3, 4, 8))
    white = (shown(figure)[0] == 255).all(axis=(1, 2))
    assert white.mean() == 0.5


def test_views_are_drawn_by_the_seed_and_leave_the_global_draws_alone(images):
    before = torch.random.get_rng_state()
    first, again, other = (shown(views(Jitter(), images[7], n=5, seed=s)) for s in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert len(first) == 6
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any((a != b).any() for a, b in zip(first[1:], other[1:], strict=True))
    assert (first[0] == int(images.x[7, 0, 0, 0])).all()


def test_views_of_several_sizes_are_drawn_once_at_one_scale(images):
    whole, *parts = views(multicrop(8, 4, locals_=3), images[7]).axes[0].images
    widths = [image.get_extent()[1] - image.get_extent()[0] for image in parts]
    assert len(parts) == 5 and widths[0] == widths[1] == 2 * widths[2] == 2 * widths[3] == 2 * widths[4]
    boxes = [image.get_extent() for image in (whole, *parts)]
    for i, (left, right, bottom, top) in enumerate(boxes):
        for other in boxes[:i]:
            assert right <= other[0] or other[1] <= left or bottom <= other[3] or other[2] <= top
    text = written(views(multicrop(8, 4, locals_=3), images[7]))
    assert "5 random views" in text and "tree" in text


def test_a_list_shows_its_views_in_order():
    class Pair(torch.nn.Module):
        def forward(self, x):
            return [torch.full((len(x), 3, 8, 8), 0.2), torch.full((len(x), 3, 4, 4), 0.8)]

    assert [int(a[0, 0, 0]) for a in shown(views(Pair(), labelled(1)))[1:]] == [51, 204]


def test_views_want_one_picture(images):
    with pytest.raises(ValueError, match="wanted one picture, got 40"):
        views(Jitter(), images)


def test_rows_have_captions_under_their_columns(images):
    figure = rows({"picture": images, "again": images}, n=3, captions=["✓ 93 %", "✗ 4 %", "✓ 8 %", "one too many"])
    words = {t.get_text(): t.get_position() for t in figure.axes[0].texts}
    assert "one too many" not in words
    first, second = words["✓ 93 %"], words["✗ 4 %"]
    assert first[1] == second[1] > max(words["picture"][1], words["again"][1]) and first[0] < second[0]
    pictures = figure.axes[0].images
    assert all(picture.get_extent()[2] < first[1] for picture in pictures), "below all pictures"
    with pytest.raises(ValueError, match="a caption for each of 3 columns, got 1"):
        rows({"picture": images}, n=3, captions=["✓"])


def test_rows_are_named_and_aligned(images):
    figure = rows({"picture": images, "darker": images.x.float() / 510}, n=3, title="half the light")
    text = written(figure)
    assert "half the light" in text and "picture" in text and "darker" in text
    values = [int(a[0, 0, 0]) for a in shown(figure)]
    assert values[3:] == [round(v / 2) for v in values[:3]]


@pytest.mark.parametrize(("bad", "error", "sentence"), [
    (lambda: rows({"a": labelled(4), "b": labelled(3)}), ValueError, r"equally many pictures in every row.*'b': 3"),
    (lambda: rows({}), ValueError, "at least one entry"),
    (lambda: rows([labelled(4)]), TypeError, "wanted a dict from names"),
    (lambda: grid(labelled(4), titles=["one"]), ValueError, "a title for each of the 4 pictures, got 1"),
    (lambda: grid(torch.full((1, 3, 8, 8), 255.0)), ValueError, "divide by 255"),
    (lambda: grid(torch.full((1, 3, 8, 8), -2.0)), ValueError, "do not normalise"),
    (lambda: grid(torch.full((1, 3, 8, 8), float("nan"))), ValueError, "NaN"),
    (lambda: grid(torch.zeros(2, 8, 8, 3)), ValueError, "channels second"),
    (lambda: grid(torch.zeros(2, 2, 8, 8)), ValueError, r"shape \[N, 3, H, W\], got \[2, 2, 8, 8\]"),
    (lambda: grid(torch.zeros(2, 3, 8, 8, dtype=torch.int64)), TypeError, "got torch.int64"),
    (lambda: views(Jitter(), labelled(1), n=0), ValueError, "at least one view, got n=0"),
    (lambda: grid(labelled(0)), ValueError, "at least one picture, got none"),
    (lambda: grid([1, 2]), TypeError, "got list"),
])
def test_bad_pictures_are_told_in_a_sentence(bad, error, sentence):
    with pytest.raises(error, match=sentence):
        bad()


def test_a_whole_dataset_is_told_to_give_a_part(images):
    from course_lib.data.types import Dataset

    with pytest.raises(TypeError, match=r"such as data\.test"):
        grid(Dataset("toy", images.without_labels(), images, images, images))
