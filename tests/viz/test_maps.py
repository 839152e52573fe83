"""Maps: what is written and where, and the same map for the same seed."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from viz_helpers import labelled, written

from course_lib.data.types import Images
from course_lib.viz import maps, scatter2d, umap, umap_grid

CORNERS = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])


def clusters(n: int = 40) -> torch.Tensor:
    """Points `[n, 2]` in which class c lies around corner c."""
    return CORNERS[torch.arange(n) % 4] + 0.12 * torch.randn(n, 2, generator=torch.Generator().manual_seed(0))


def names_at(figure) -> dict[str, list[tuple[float, float]]]:
    places = {}
    for text in figure.axes[0].texts:
        places.setdefault(text.get_text(), []).append(text.get_position())
    return places


def test_names_stand_at_the_medians_and_in_the_legend(images):
    figure = scatter2d(clusters(), images.y, classes=images.classes, title="corners")
    places = names_at(figure)
    assert "corners" in places and all(len(places[name]) == 2 for name in images.classes)
    at = {name: places[name][0] for name in images.classes}  # the first is at the median, the second in the legend
    assert at["cat"][0] < at["boat"][0], "cats are at the left, boats at the right"
    assert at["dog"][1] < at["cat"][1], "dogs are above cats, and y runs down on a sheet"
    points = figure.axes[1].collections
    assert [len(p.get_offsets()) for p in points] == [10, 10, 10, 10]
    assert len({str(p.get_facecolor()) for p in points}) == 4


def test_names_at_one_place_are_pushed_apart(images):
    figure = scatter2d(torch.randn(40, 2) * 1e-3, images.y, classes=images.classes)
    at = np.array([names_at(figure)[name][0] for name in images.classes])
    gaps = np.abs(at[:, None] - at[None]) + 1e6 * np.eye(4)[:, :, None]
    assert ((gaps[..., 1] >= 21) | (gaps[..., 0] >= 30)).all()


def test_thumbnails_do_not_overlap_each_other_or_a_name(images):
    figure = scatter2d(clusters(400), labelled(400).y, classes=images.classes, pictures=labelled(400))
    boxes = [image.get_extent() for image in figure.axes[0].images]
    assert len(boxes) >= 4
    for i, (left, right, bottom, top) in enumerate(boxes):
        for other in boxes[:i]:
            assert right < other[0] or other[1] < left or bottom < other[3] or other[2] < top
        for x, y in (names_at(figure)[name][0] for name in images.classes):
            assert not (left < x < right and top < y < bottom)


def test_a_thumbnail_lies_at_its_own_point(images):
    """Picture i has the value 5i, and only one picture lies far from all others."""
    points = torch.zeros(40, 2)
    points[7] = torch.tensor([-1.0, 0.0])
    points[9] = torch.tensor([1.0, 0.0])
    figure = scatter2d(points, pictures=images)
    values = {int(i.get_array()[0, 0, 0]): i.get_extent()[0] for i in figure.axes[0].images}
    assert values[35] < 100 and values[45] > 800


def legend_of(figure, names):
    """name -> (x, y, marker, colour) of its line in the legend; names are not on the map."""
    handles = [line for line in figure.axes[0].lines if line.get_linestyle() == "None"]
    texts = [t for t in figure.axes[0].texts if t.get_text() in names]
    assert len(handles) == len(texts) == len(names)
    return {t.get_text(): (*t.get_position(), h.get_marker(), h.get_color())
            for t, h in zip(texts, handles, strict=True)}


@pytest.mark.parametrize("count", [31, 50, 100])
def test_a_legend_of_many_classes_is_whole_and_on_the_page(count):
    names = tuple(f"class number {i}" for i in range(count))
    points = torch.randn(2 * count, 2, generator=torch.Generator().manual_seed(0))
    figure = scatter2d(points, torch.arange(2 * count) % count, classes=names)
    legend = legend_of(figure, names)
    assert len({(marker, color) for *_, marker, color in legend.values()}) == count
    figure.draw_without_rendering()
    page = figure.bbox
    boxes = [t.get_window_extent() for t in figure.axes[0].texts]
    assert all(page.x0 <= b.x0 and b.x1 <= page.x1 and page.y0 <= b.y0 and b.y1 <= page.y1 for b in boxes)
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
    points_box = figure.axes[1].get_window_extent()
    assert not any(points_box.overlaps(box) for box in boxes)
    for c, drawn in enumerate(figure.axes[1].collections):
        assert drawn.get_label() == names[c]


def test_a_legend_of_a_few_classes_stands_beside_the_map():
    names = tuple(f"class {i}" for i in range(20))
    figure = scatter2d(torch.randn(40, 2), torch.arange(40) % 20, classes=names)
    in_legend = [t.get_position() for t in figure.axes[0].texts if t.get_text() == "class 19"][-1]
    right_of_map = figure.axes[1].get_window_extent().x1
    assert in_legend[0] > right_of_map and in_legend[1] < figure.bbox.height


def test_a_grid_of_maps_has_a_legend_of_many_classes(quick_umap):
    names = tuple(f"class number {i}" for i in range(100))
    pictures = Images(torch.zeros(200, 3, 8, 8, dtype=torch.uint8), torch.arange(200) % 100, names)
    figure = umap_grid({"a": torch.randn(200, 4)}, pictures)
    figure.draw_without_rendering()
    legend_of(figure, names)
    assert all(t.get_window_extent().y0 >= 0 and t.get_window_extent().x1 <= figure.bbox.x1
               for t in figure.axes[0].texts)


def test_maps_of_pictures_without_labels(quick_umap, images, shuffled):
    hidden = images.without_labels()
    for figure in (umap(shuffled, hidden), umap_grid({"a": shuffled}, hidden)):
        assert not any(name in written(figure) for name in images.classes)
        assert sum(len(c.get_offsets()) for c in figure.axes[1].collections) == 40


def test_points_without_labels_have_no_names():
    figure = scatter2d(clusters(), title="plain")
    assert written(figure).strip() == "plain"
    assert len(figure.axes[1].collections[0].get_offsets()) == 40


@pytest.fixture(scope="module")
def placed():
    z = torch.randn(40, 6, generator=torch.Generator().manual_seed(2))
    return [maps.place(z, seed) for seed in (0, 0, 1)]


def test_umap_is_the_same_for_the_same_seed(placed):
    assert placed[0].shape == (40, 2)
    assert torch.equal(placed[0], placed[1])
    assert not torch.equal(placed[0], placed[2])


@pytest.fixture
def quick_umap(monkeypatch):
    """The first two features in place of UMAP, to look at what is drawn."""
    monkeypatch.setattr(maps, "place", lambda z, seed: z[:, :2])


@pytest.mark.parametrize(("points", "loaded", "shown"), [(100, False, True), (100, True, False), (600, True, True)])
def test_a_map_that_takes_long_says_so_before_it_starts(points, loaded, shown, monkeypatch, capsys):
    monkeypatch.setenv("TQDM_DISABLE", "0")
    if loaded:
        monkeypatch.setitem(sys.modules, "umap", None)
    else:
        monkeypatch.delitem(sys.modules, "umap", raising=False)
    before = []

    def place(z, seed):
        before.append(capsys.readouterr().err)
        return z[:, :2]

    monkeypatch.setattr(maps, "place", place)
    umap(torch.randn(points, 3), torch.zeros(points, 3, 8, 8), thumbnails=False)
    umap_grid({"a": torch.randn(points, 3)}, torch.zeros(points, 3, 8, 8))
    for text in before:
        assert (f"UMAP of {points} pictures" in text) == shown
        assert ("compiles" in text) == (not loaded)


def test_threads_are_given_back_after_an_error(monkeypatch):
    pytest.importorskip("umap")
    threads = torch.get_num_threads()

    def fail(*args):
        torch.set_num_threads(threads + 1)
        raise KeyboardInterrupt

    monkeypatch.setattr("umap.UMAP.fit_transform", fail)
    with pytest.raises(KeyboardInterrupt):
        maps.place(torch.randn(20, 3), 0)
    assert torch.get_num_threads() == threads


def test_a_part_of_the_pictures_has_its_own_features(quick_umap, images):
    """Picture i has the value 5i, and its point lies at i."""
    points = torch.stack([torch.arange(40.0), torch.zeros(40)], dim=1) + 1
    figure = umap(points, images, n=20)
    places = torch.cat([torch.as_tensor(c.get_offsets().data) for c in figure.axes[1].collections])
    left = {int(image.get_array()[0, 0, 0]) // 5: image.get_extent()[0] for image in figure.axes[0].images}
    assert len(places) == 20 and len(left) > 3
    assert sorted(left, key=left.get) == sorted(left), "a thumbnail lies at the point of another picture"
    assert places[:, 0].max() > 21, "the first 20 rows were taken, not those of the pictures drawn"


def test_umap_says_what_is_seen(quick_umap, images, shuffled):
    text = written(umap(shuffled, images, n=20, title="my map"))
    assert "my map" in text and "20 of 40 pictures" in text
    assert umap(shuffled, images).axes[0].images and not umap(shuffled, images, thumbnails=False).axes[0].images


def test_umap_grid_has_a_panel_an_encoder_and_one_legend(quick_umap, images, sorted_by_class, shuffled):
    figure = umap_grid({"good": sorted_by_class, "bad": shuffled, "again": shuffled, "more": shuffled}, images)
    panels = figure.axes[1:]
    assert len(panels) == 4
    assert all(sum(len(c.get_offsets()) for c in panel.collections) == 40 for panel in panels)
    text = written(figure)
    assert all(name in text for name in ("good", "bad", "again", "more"))
    assert all(text.split("\n").count(name) == 1 for name in images.classes)


def test_two_maps_alone_are_wider(quick_umap, images, shuffled):
    def width(count):
        figure = umap_grid({f"encoder {i}": shuffled for i in range(count)}, images)
        return figure.axes[1].get_position().width * figure.get_size_inches()[0]

    assert width(2) > 1.4 * width(3) == pytest.approx(1.4 * width(4))


@pytest.mark.parametrize(("bad", "error", "sentence"), [
    (lambda: umap(torch.randn(9, 3), labelled(9)), ValueError, "at least 10 pictures for a map, got 9"),
    (lambda: umap_grid({}, labelled(12)), ValueError, "at least one entry"),
    (lambda: scatter2d(torch.randn(5, 3)), ValueError, r"wanted points \[N, 2\], got shape \[5, 3\]"),
    (lambda: scatter2d(torch.full((5, 2), torch.inf)), ValueError, "finite points"),
    (lambda: scatter2d(torch.randn(5, 2), torch.arange(5), classes=("a",)), ValueError, "up to 4 and 1 names"),
    (lambda: scatter2d(torch.randn(5, 2), pictures=labelled(4)), ValueError, "each of the 5 points, got 4"),
])
def test_bad_input_is_told_in_a_sentence(bad, error, sentence):
    with pytest.raises(error, match=sentence):
        bad()
