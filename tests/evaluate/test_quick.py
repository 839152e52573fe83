"""quick(): kNN on fixed parts of train and val, and never on test."""

import pytest
import torch
from torch import nn

from course_lib.data.types import Dataset, Images
from course_lib.evaluate import RawPixels, features, knn, quick


def part(n, seed, classes=4):
    draw = torch.Generator().manual_seed(seed)
    looks = torch.rand(classes, 3, 4, 4, generator=torch.Generator().manual_seed(9))
    y = torch.arange(n) * classes // n  # sorted by class, as folders are
    x = 0.2 * looks[y] + 0.8 * torch.rand(n, 3, 4, 4, generator=draw)
    return Images((255 * x).to(torch.uint8), y, tuple("abcdefgh"[:classes]))


def dataset(train, val, test):
    return Dataset("dots", train.without_labels(), train, val, test)


class Poison(Images):
    """Pictures that nobody may touch."""

    def __getattribute__(self, name):
        if name in ("x", "__getitem__", "__len__"):
            raise AssertionError("test was read")
        return super().__getattribute__(name)


@pytest.fixture
def poisoned():
    test = part(20, 3)
    object.__setattr__(test, "__class__", Poison)
    return dataset(part(400, 1), part(200, 2), test)


def test_test_is_never_read(poisoned):
    with pytest.raises(AssertionError, match="test was read"):
        features(RawPixels(4), poisoned.test)
    assert 50 < quick(RawPixels(4), poisoned) < 100


def test_it_is_knn_on_val_with_a_bank_of_train(poisoned):
    net = RawPixels(4)
    bank, queries = poisoned.train, poisoned.val
    wanted = knn(features(net, bank), bank.y, features(net, queries), queries.y, classes=4, k=20)["top1"]
    got = quick(net, poisoned)
    others = ({"k": 1}, {"k": 20, "temperature": 1.0})
    for other in others:
        assert wanted != knn(features(net, bank), bank.y, features(net, queries), queries.y, classes=4, **other)["top1"]
    assert isinstance(got, float) and got == wanted


class Recorder(nn.Module):
    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x.clone())
        return x.flatten(1)


def test_the_parts_are_always_the_same_and_hold_every_class(poisoned):
    recorders = [Recorder(), Recorder()]
    for seed, recorder in enumerate(recorders):
        torch.manual_seed(seed)  # the global draws must not matter
        state = torch.random.get_rng_state()
        quick(recorder, poisoned, train=40, val=20)
        assert torch.equal(torch.random.get_rng_state(), state)
    first, again = (r.seen for r in recorders)
    assert [len(x) for x in first if len(x) > 16] == [40, 20]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    bank = (255 * first[0]).round().to(torch.uint8)
    labels = [int(poisoned.train.y[(poisoned.train.x == x).flatten(1).all(1)]) for x in bank]
    assert set(labels) == {0, 1, 2, 3}


def test_a_small_bank_is_used_whole(poisoned):
    assert quick(RawPixels(4), poisoned, train=3, val=10) >= 0


def test_bad_input(poisoned):
    with pytest.raises(ValueError, match="needs pictures of train and of val, got train=0 and val=2000"):
        quick(RawPixels(4), poisoned, train=0)
    with pytest.raises(TypeError, match="evaluated on a Dataset with train, val and test, got Images"):
        quick(RawPixels(4), poisoned.val)
    with pytest.raises(TypeError, match=r"got Dataset: give method\.encoder"):
        quick(poisoned, RawPixels(4))
