"""How pictures are split into parts, cut short and resized."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from course_lib.data import Images, vision


@pytest.fixture
def pictures():
    """100 training and 40 test pictures of 4 classes, sorted by class; each has a colour of its own."""

    def part(count, start):
        x = torch.arange(start, start + count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4).contiguous()
        return Images(x, torch.arange(4).repeat_interleave(count // 4), tuple("abcd"))

    return vision.Pictures("here", part(100, 0), test=part(40, 200))


def make(pictures, size=None, limit=None, seed=0):
    return vision.dataset("set", pictures, size=size, limit=limit, seed=seed)


def colors(images):
    return images.x[:, 0, 0, 0].tolist()


def test_val_is_a_tenth_of_each_class_and_apart_from_train(pictures):
    data = make(pictures)
    assert data.train.y.bincount().tolist() == [23] * 4
    assert data.val.y.bincount().tolist() == [2] * 4  # round(2.5), to even
    assert sorted(colors(data.train) + colors(data.val)) == list(range(100))
    assert colors(data.pretrain) == colors(data.train), "pretrain is train, and val is not in it"
    assert data.pretrain.y is None
    assert sorted(colors(data.test)) == list(range(200, 240))
    for part in (data.train, data.val):
        assert torch.equal(part.x[:, 0, 0, 0].long() // 25, part.y), "a picture lost its label"


def test_the_seed_chooses_val_and_nothing_else(pictures):
    one, same, other = make(pictures), make(pictures), make(pictures, seed=1)
    assert colors(one.val) == colors(same.val) != colors(other.val)
    assert sorted(colors(one.train) + colors(one.val)) == sorted(colors(other.train) + colors(other.val))
    assert colors(one.test) == colors(other.test)


def test_a_val_that_is_given_is_kept(pictures):
    own = Images(torch.full((8, 3, 4, 4), 150, dtype=torch.uint8), torch.arange(8) % 4, tuple("abcd"))
    data = make(dataclasses.replace(pictures, val=own))
    assert sorted(colors(data.train)) == list(range(100)) and colors(data.val) == [150] * 8
    short = make(dataclasses.replace(pictures, val=own), limit=4, size=2)
    assert short.val.y.tolist() == sorted(short.val.y.tolist(), key=short.val.y.tolist().index)
    assert sorted(short.val.y.tolist()) == [0, 1, 2, 3] and short.val.x.shape[2:] == (2, 2)


def test_without_test_a_fifth_of_each_class_becomes_it(pictures):
    one, other = (make(dataclasses.replace(pictures, test=None), seed=seed) for seed in (0, 1))
    assert one.test.y.bincount().tolist() == [5] * 4 and colors(one.test) == colors(other.test)
    assert sorted(colors(one.train) + colors(one.val) + colors(one.test)) == list(range(100))
    assert colors(one.pretrain) == colors(one.train)


@pytest.mark.parametrize("limit", [8, 20, 50])
def test_limit_takes_the_first_in_balance(pictures, limit):
    data, whole = make(pictures, limit=limit), make(pictures)
    chosen = make(pictures, limit=limit, seed=1)
    assert sorted(colors(data.train) + colors(data.val)) == sorted(colors(chosen.train) + colors(chosen.val))
    assert colors(data.pretrain) == colors(data.train)
    assert colors(data.test) == colors(whole.test)[:limit]
    assert len(data.train) + len(data.val) == limit
    counts = torch.cat([data.train.y, data.val.y]).bincount()
    assert counts.max() - counts.min() <= 1
    assert set(colors(data.train)).isdisjoint(colors(data.val))


def test_every_class_comes_once_in_each_round(pictures):
    rounds = make(pictures).test.y.view(-1, 4)
    assert torch.equal(rounds.sort(dim=1).values, torch.arange(4).expand(10, 4))
    assert len({tuple(row) for row in rounds.tolist()}) > 1, "always the same order would alias with a stride"


def test_the_first_pictures_without_labels_are_shuffled_too(pictures):
    first = vision._first(pictures.train.without_labels(), None, 10)
    assert first.y is None and len(set(colors(first))) == 10
    assert max(colors(first)) >= 50, "pictures of one film stand together by name: the first ten are not the set"


def test_a_limit_larger_than_the_set_changes_nothing(pictures):
    assert colors(make(pictures, limit=1000).train) == colors(make(pictures).train)


def test_a_limit_too_small_for_train_and_val(pictures):
    with pytest.raises(ValueError, match=r"every class \(a too\) needs a picture for each of train, val, got 1: raise"):
        make(pictures, limit=4)


def test_a_class_too_small_for_train_and_val(pictures):
    few = dataclasses.replace(pictures, train=pictures.train[[0, 1, 25, 26, 50, 51, 75]])
    with pytest.raises(ValueError, match=r"\(d too\) needs a picture for each of train, val, got 1: add pictures"):
        make(few)
    with pytest.raises(ValueError, match=r"\(a too\) needs a picture for each of train, val, test, got 2: add"):
        make(dataclasses.replace(few, test=None))


def test_a_class_of_test_that_train_lacks(pictures):
    few = dataclasses.replace(pictures, train=pictures.train[:75])
    with pytest.raises(ValueError, match=r"\(d too\) needs a picture for each of train, val, got 0: add pictures"):
        make(few)


def test_unlabelled_pictures_go_to_pretrain_only(pictures):
    extra = Images(torch.full((30, 3, 4, 4), 250, dtype=torch.uint8), classes=tuple("abcd"))
    data = make(dataclasses.replace(pictures, unlabelled=extra))
    assert colors(data.pretrain) == colors(data.train) + [250] * 30 and data.pretrain.y is None
    assert len(data.train) + len(data.val) == 100
    short = make(dataclasses.replace(pictures, unlabelled=extra), limit=20, size=2)
    assert colors(short.pretrain) == colors(short.train) + [250] * 20 and short.pretrain.x.shape[2:] == (2, 2)


def test_size_resizes_every_part(pictures):
    data = make(pictures, size=7)
    assert all(getattr(data, part).x.shape[2:] == (7, 7) for part in ("pretrain", "train", "val", "test"))
    assert colors(data.test) == colors(make(pictures).test), "one colour stays that colour"


def test_shrinking_is_antialiased():
    board = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 255
    small = vision.resize(board.to(torch.uint8).expand(2, 3, 64, 64), 8)
    assert small.shape == (2, 3, 8, 8)
    assert ((small.int() - 127).abs() <= 2).all(), "a fine chequerboard should become an even grey"


def test_resizing_keeps_the_central_square():
    wide = torch.zeros(1, 3, 4, 12, dtype=torch.uint8)
    wide[..., 4:8] = 200
    assert (vision.resize(wide, 2) == 200).all()


def test_resizing_agrees_with_pillow():
    x = torch.randint(0, 256, (1, 3, 40, 40), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    wanted = Image.fromarray(x[0].permute(1, 2, 0).numpy()).resize((16, 16), Image.Resampling.BILINEAR)
    difference = vision.resize(x, 16)[0].permute(1, 2, 0).int() - torch.from_numpy(np.array(wanted)).int()
    assert difference.abs().max() <= 1
