"""The Toybox: each picture is a function of its number alone, and what is said about it is true."""

from __future__ import annotations

import pytest
import torch

from course_lib.data import load, toybox
from course_lib.data.toybox import BACKGROUNDS, CLASSES, COLORS


@pytest.fixture(scope="module")
def images():
    return toybox.draw(600)


def same(a, b):
    return (
        torch.equal(a.x, b.x)
        and torch.equal(a.masks, b.masks)
        and torch.equal(a.y, b.y)
        and a.captions == b.captions
        and all(torch.equal(a.factors[name], b.factors[name]) for name in a.factors)
    )


def centers(masks):
    """Mean column and row of each mask, as fractions of the picture."""
    size = masks.shape[-1]
    at = (torch.arange(size) + 0.5) / size
    weight = masks.float() / masks.float().sum((-2, -1), keepdim=True)
    return (weight.sum(-2) * at).sum(-1), (weight.sum(-1) * at).sum(-1)


def correlation(a, b):
    return torch.corrcoef(torch.stack([a, b.float()]))[0, 1].item()


# ------------------------------------------------------------------------------------- a picture and its number


def test_a_picture_does_not_depend_on_the_pictures_drawn_beside_it(images):
    alone = [toybox.draw([i]) for i in range(100)]
    for i, picture in enumerate(alone):
        assert same(picture, images[i]), f"picture {i} drawn alone differs from picture {i} of a batch"
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    assert same(toybox.draw(order), images[order]), "pictures drawn in another order differ"


@pytest.mark.parametrize("size", [16, 64])
def test_a_picture_does_not_depend_on_its_batch_at_other_sizes(size):
    batch = toybox.draw(40, size=size)
    assert same(toybox.draw([7, 31], size=size), batch[[7, 31]])


def test_a_picture_does_not_depend_on_chunks(images, monkeypatch):
    monkeypatch.setattr(toybox, "CHUNK", 37 * 32 * 32)
    assert same(toybox.draw(100), images[:100])


def test_a_picture_does_not_depend_on_threads():
    threads = torch.get_num_threads()
    drawn = []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            drawn.append(toybox.draw(400))  # about 40 of a class: torch shares out work above 32,768 numbers
    finally:
        torch.set_num_threads(threads)
    assert same(*drawn)


def test_seeds_and_numbers_give_different_pictures(images):
    assert len(images.x.flatten(1).unique(dim=0)) == len(images), "two of the pictures are the same"
    other = toybox.draw(100, seed=1)
    assert (other.x != images.x[:100]).flatten(1).any(1).all(), "a picture is the same under another seed"


def test_the_random_numbers_are_uniform_and_unrelated():
    dice = toybox.Dice.of(torch.arange(20_000), 0)
    a, b, c = (t.flatten() for t in (*dice("one", (0, 1), (0, 1)), *dice("two", (0, 1))))
    for u in (a, b, c):
        assert u.min() >= 0 and u.max() < 1
        assert u.mean().item() == pytest.approx(0.5, abs=0.01)
        assert u.histc(10, 0, 1).min() > 1800, "a tenth of the range is drawn too seldom"
    for u, v in ((a, b), (a, c), (b, c), (a[1:], a[:-1])):
        assert abs(correlation(u, v)) < 0.03
    assert torch.equal(dice("one", (0, 1), (0, 1))[0].flatten(), a), "the same name gave other numbers"
    low, high = dice("two", (2, 3))[0].min(), dice("two", (2, 3))[0].max()
    assert low >= 2 and high <= 3


# -------------------------------------------------------------------------------------------- what is in a picture


@pytest.mark.parametrize("size", [16, 32, 64])
def test_a_batch_has_everything(size):
    images = toybox.draw(50, size=size)
    assert images.x.shape == (50, 3, size, size) and images.x.dtype == torch.uint8
    assert images.masks.shape == (50, size, size) and images.masks.unique().tolist() == [0, 1]
    assert images.classes == CLASSES and torch.equal(images.y, images.factors["class"])
    assert len(images.captions) == 50
    for name, values in images.factors.items():
        assert values.shape == (50,), name


def test_pictures_use_the_whole_range(images):
    x = images.x.float()
    assert x.amin((1, 2, 3)).max() < 128 < x.amax((1, 2, 3)).min(), "a picture has no contrast"
    assert 80 < x.mean() < 170


def test_every_ten_pictures_hold_each_class_once(images):
    assert torch.equal(images.y.view(-1, 10).sort(1).values, torch.arange(10).expand(60, 10))
    assert not torch.equal(images.y[:10], images.y[10:20]), "the classes come in the same order every time"


def test_factors_stay_in_their_ranges(images):
    f = images.factors
    whole = {"class": len(CLASSES), "hue": len(COLORS), "background": len(BACKGROUNDS), "facing": 2}
    for name, n in whole.items():
        assert f[name].dtype == torch.int64 and f[name].unique().tolist() == list(range(n)), name
    for name in ("size", "x", "y", "tilt", "light"):
        assert f[name].dtype == torch.float32 and f[name].std() > 0, name
    assert f["light"].abs().max() <= 1 and f["x"].min() > 0 and f["x"].max() < 1


def test_usual_colors_and_places_are_common_but_not_the_rule():
    f = toybox.factors(20_000)
    names = tuple(COLORS)
    mushrooms = f["hue"][f["class"] == CLASSES.index("mushroom")].bincount(minlength=len(names)) / 2000
    assert mushrooms.argmax() == names.index("red") and mushrooms.min() > 0.02
    boats = f["background"][f["class"] == CLASSES.index("boat")].bincount(minlength=len(BACKGROUNDS)) / 2000
    assert boats.argmax() in (BACKGROUNDS.index("sea"), BACKGROUNDS.index("beach")) and boats.min() > 0.04


def test_masks_are_where_the_things_are(images):
    area = images.masks.float().mean((1, 2))
    assert area.min() > 0.02 and area.max() < 0.6 and 0.1 < area.mean() < 0.3
    x, y = centers(images.masks)
    assert correlation(x, images.factors["x"]) > 0.95
    assert (x - images.factors["x"]).abs().max() < 0.15 and (y - images.factors["y"]).abs().max() < 0.2
    for k, name in enumerate(CLASSES):
        of_class = images.y == k
        assert correlation(area[of_class].sqrt(), images.factors["size"][of_class]) > 0.8, name


def test_another_place_changes_the_background_alone():
    f = toybox.factors(30)
    first = toybox.paint(30, {**f, "background": torch.full((30,), BACKGROUNDS.index("beach"))})
    second = toybox.paint(30, {**f, "background": torch.full((30,), BACKGROUNDS.index("snow"))})
    assert torch.equal(first.masks, second.masks)
    differs = (first.x != second.x).any(1)
    thing = torch.nn.functional.max_pool2d(first.masks.float(), 3, 1, 1).bool()  # with its soft edge
    assert differs[~thing].float().mean() > 0.8, "the background stayed as it was"
    core = torch.nn.functional.max_pool2d(1 - first.masks.float(), 3, 1, 1) == 0
    assert differs[core].float().mean() < 0.1, "the thing changed with its background"


def test_the_mask_finds_the_color():
    """Painted blue, then red: a pixel that is less than half covered changes by less than half, and is no mask."""
    f = toybox.factors(50)
    red, blue = (toybox.paint(50, {**f, "hue": torch.full((50,), list(COLORS).index(c))}) for c in ("red", "blue"))
    redder = (red.x[:, 0].int() - red.x[:, 2].int()) - (blue.x[:, 0].int() - blue.x[:, 2].int()) > 200
    outside = (redder & (red.masks == 0)).sum()
    assert redder.flatten(1).any(1).float().mean() > 0.8 and outside < 0.02 * redder.sum()


def test_light_falls_on_the_side_that_it_comes_from():
    f = toybox.factors(100)
    left, right = (toybox.paint(100, {**f, "light": torch.full((100,), s)}).x.float().mean(1) for s in (-1.0, 1.0))
    masks = toybox.draw(100).masks
    x = (torch.arange(32) + 0.5) / 32
    east = (x > f["x"][:, None])[:, None] & (masks == 1)
    west = (x < f["x"][:, None])[:, None] & (masks == 1)
    assert (right - left)[east].mean() > 3 and (left - right)[west].mean() > 3


def test_the_same_number_at_another_size_is_the_same_scene():
    small, large = toybox.draw(60), toybox.draw(60, size=64)
    shrunk = torch.nn.functional.avg_pool2d(large.x.float(), 2)
    assert (shrunk - small.x).abs().mean() < 12
    overlap = (torch.nn.functional.avg_pool2d(large.masks.float(), 2) >= 0.5) == (small.masks == 1)
    assert overlap.float().mean() > 0.98


def test_captions_say_what_the_factors_say(images):
    for i, caption in enumerate(images.captions):
        y, hue, background = (int(images.factors[name][i]) for name in ("class", "hue", "background"))
        words = caption.split()
        assert CLASSES[y] in words and list(COLORS)[hue] in words, caption
        assert caption.endswith(toybox.PLACES[BACKGROUNDS[background]][1]), caption
        assert words[0] == ("an" if words[1][0] in "aeiou" else "a"), caption
        assert ("small" in words, "big" in words) == (
            images.factors["size"][i] < toybox.SMALL,
            images.factors["size"][i] > toybox.BIG,
        ), caption


# -------------------------------------------------------------------------------------------------- aberration


def test_aberration_moves_red_outwards_and_blue_inwards_and_leaves_green():
    plain, bent = toybox.draw(60, size=64), toybox.draw(60, size=64, aberration=3.0)
    assert torch.equal(plain.x[:, 1], bent.x[:, 1]) and torch.equal(plain.masks, bent.masks)
    # On the right, outwards is to the right: red there agrees best with the plain red moved right, blue moved left.
    for channel, way in ((0, 1), (2, -1)):
        strip = bent.x[:, channel, 24:40, 46:58].float()
        errors = {s: (plain.x[:, channel, 24:40, 46 - s : 58 - s].float() - strip).abs().mean() for s in range(-4, 5)}
        best = min(errors, key=errors.get)
        assert best == 2 * way, f"channel {channel} moved by {best} pixels"


def test_no_aberration_is_the_default(images):
    assert torch.equal(toybox.draw(20, aberration=0.0).x, images.x[:20])


# -------------------------------------------------------------------------------------------------------- clips


def test_clips_move_smoothly_and_their_masks_move_with_them():
    clips = toybox.clips(40, frames=8)
    assert len(clips) == 40 and clips.x.shape == (40, 8, 3, 32, 32) and clips.x.dtype == torch.uint8
    assert clips.masks.shape == (40, 8, 32, 32) and clips.masks.unique().tolist() == [0, 1]
    x, y = centers(clips.masks)
    for seen, name in ((x, "x"), (y, "y")):
        told = clips.factors[name]
        assert (seen.diff(dim=1) - told.diff(dim=1)).abs().max() < 0.06, f"masks do not move with {name}"
        assert told.diff(dim=1).abs().max() < 0.2, f"a thing jumps along {name}"
    assert (clips.factors["x"][:, -1] - clips.factors["x"][:, 0]).abs().min() > 0.04, "a thing stands still"
    assert clips.factors["x"].diff(dim=1).diff(dim=1).abs().max() < 1e-5, "the speed along x changes"
    area = clips.masks.float().mean((2, 3))
    assert (area.amax(1) / area.amin(1)).max() < 1.3, "a thing is cut off or changes its size"
    for name in ("class", "hue", "background", "light", "facing"):
        assert (clips.factors[name] == clips.factors[name][:, :1]).all(), f"{name} changes within a clip"
    assert torch.equal(clips.y, clips.factors["class"][:, 0])


def test_the_background_of_a_clip_stands_still():
    clips = toybox.clips(20, frames=6)
    top = clips.x[:, :, :, :3].float()  # the sky, above the things; light is the same in all frames
    free = clips.masks[:, :, :3].amax((1, 2)) == 0
    change = (top - top[:, :1]).abs().amax((1, 2, 3))
    assert free.float().mean() > 0.5 and change[free].mean() < 2


def test_a_clip_does_not_depend_on_how_many_are_drawn():
    assert torch.equal(toybox.clips(7).x[:3], toybox.clips(3).x)


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (slice(1, 4), [1, 2, 3]),
        ([4, 0], [4, 0]),
        (torch.tensor([2, 2]), [2, 2]),
        (torch.tensor([True, False, False, True, False]), [0, 3]),
        (-1, [4]),
    ],
)
def test_slices_of_clips_and_clips_on_a_device_are_clips(index, rows):
    clips = toybox.clips(5, frames=3)
    for some in (clips[index], clips[index].to("cpu")):
        assert isinstance(some, toybox.Clips) and len(some) == len(rows) and some.classes == clips.classes
        for name in ("x", "masks", "y"):
            assert torch.equal(getattr(some, name), getattr(clips, name)[rows]), name
        for name, values in clips.factors.items():
            assert torch.equal(some.factors[name], values[rows]), name
    moved = clips.to("meta")
    assert {t.device.type for t in (moved.x, moved.masks, moved.y, *moved.factors.values())} == {"meta"}


# ------------------------------------------------------------------------------------------------------ data set


def test_the_data_set_has_four_parts_that_fit():
    data = toybox.dataset(limit=200)
    assert [len(part) for part in (data.pretrain, data.train, data.val, data.test)] == [180, 180, 20, 200]
    assert torch.equal(data.pretrain.x, data.train.x) and data.pretrain.captions == data.train.captions
    assert data.pretrain.y is None and data.pretrain.factors is None and data.pretrain.masks is None
    for part in (data.train, data.val, data.test):
        assert part.y.bincount(minlength=10).tolist() == [len(part) // 10] * 10
        assert part.masks is not None and part.captions is not None
    seen = {row.numpy().tobytes() for row in data.pretrain.x}
    for part in (data.val, data.test):
        assert not any(row.numpy().tobytes() in seen for row in part.x), "a picture to be tried on was trained on"


def test_numbers_of_training_pictures_test_pictures_and_clips_do_not_meet():
    assert toybox.LABELLED < toybox.TEST_FROM and toybox.TEST_FROM + toybox.TEST < toybox.CLIPS_FROM
    assert (toybox.LABELLED, toybox.TEST) == (20_000, 4_000)


def test_a_larger_limit_keeps_the_pictures_of_a_smaller_one():
    small, large = toybox.dataset(limit=50), toybox.dataset(limit=100)
    assert torch.equal(small.pretrain.x, large.pretrain.x[:45]) and torch.equal(small.test.x, large.test.x[:50])


def test_clips_give_batches_of_their_own_and_hide_labels_that_nobody_needs():
    films = toybox.clips(5, frames=2)
    batch = films.batch(torch.tensor([3, 1]))
    assert torch.equal(batch.x, films.x[[3, 1]]) and torch.equal(batch.y, films.y[[3, 1]])
    assert batch.index.tolist() == [3, 1] and batch.captions is None
    hidden = films.only({"clips"})
    assert hidden.y is None and hidden.batch(torch.tensor([0])).y is None and torch.equal(hidden.masks, films.masks)
    assert torch.equal(films.only({"clips", "labels"}).y, films.y) and hidden[1:].to("cpu").y is None
    with pytest.raises(ValueError, match="captions are needed, and clips have none"):
        films.only({"captions"})


def test_what_a_method_sees_and_what_it_is_tried_on():
    data = toybox.dataset(limit=200)
    assert data.seen_by().y is None and data.seen_by().captions is None and len(data.seen_by()) == 180
    assert torch.equal(data.seen_by({"labels"}).y, data.train.y)
    assert data.seen_by({"captions"}).captions == data.train.captions and data.seen_by({"captions"}).y is None
    tried = data.held_out({"labels", "captions"})
    assert torch.equal(tried.x, data.val.x) and torch.equal(tried.y, data.val.y)
    assert tried.captions == data.val.captions and data.held_out().y is None
    seen, other = data.seen_by({"clips"}), data.held_out({"clips"})
    assert len(seen) == 18 and len(other) == 2 and seen.y is None
    assert not any(torch.equal(clip, film) for clip in other.x for film in seen.x)
    for needs in ("labels", {"lables"}):
        with pytest.raises(ValueError, match="needs must be a set with some of labels, captions, clips"):
            data.seen_by(needs)


def test_load_knows_the_toybox():
    data = load("toybox", limit=20, size=16, seed=3)
    assert same(data.test, toybox.dataset(limit=20, size=16, seed=3).test)


# ----------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: toybox.draw(4, size=20), "multiple of 8"),
        (lambda: toybox.draw(4, size=8), "at least 16"),
        (lambda: toybox.draw(4, size=32.0), "multiple of 8"),
        (lambda: toybox.draw(0), "which pictures to draw"),
        (lambda: toybox.draw([-1]), "from 0 on"),
        (lambda: toybox.draw([0.5]), "whole numbers|list of numbers"),
        (lambda: toybox.draw(torch.zeros(2, 2, dtype=torch.int64)), r"\[2, 2\]"),
        (lambda: toybox.draw(4, seed=-1), "seed must be"),
        (lambda: toybox.draw(4, seed=0.5), "seed must be"),
        (lambda: toybox.draw(4, aberration=9.0), "a quarter of the picture"),
        (lambda: toybox.draw(4, aberration=float("nan")), "a quarter of the picture"),
        (lambda: toybox.dataset(limit=5), "at least 10"),
        (lambda: toybox.clips(0), "number of clips"),
        (lambda: toybox.clips(3, frames=1), "number of frames"),
        (lambda: toybox.clips(3, size=30), "multiple of 8"),
        (lambda: toybox.paint(2, {"hue": torch.zeros(2)}), "begin with toybox.factors"),
        (lambda: toybox.paint(3, toybox.factors(2)), "one value a picture"),
        (lambda: toybox.paint(2, {**toybox.factors(2), "hue": torch.tensor([0, 10])}), "from 0 to 9"),
        (lambda: toybox.paint(2, {**toybox.factors(2), "hue": torch.zeros(2)}), "int64"),
    ],
)
def test_bad_input_gets_one_clear_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()
