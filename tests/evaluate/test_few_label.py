"""few_label(): the labels that are drawn, the probe on them, and that no other label is read."""

import dataclasses

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from course_lib.data.types import Dataset, Images
from course_lib.evaluate import FewLabels, RawPixels, draw_labels, features, few_label, paired


def part(n, seed):
    draw = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    x = torch.randint(256, (n, 3, 4, 4), generator=draw) // 2 + 40 * y[:, None, None, None]
    return Images(x.to(torch.uint8), y, tuple("abc"))


@pytest.fixture(scope="module")
def data():
    train = part(150, 0)
    return Dataset("dots", train.without_labels(), train, part(60, 1), part(90, 2))


def test_labels_are_drawn_alike_for_each_class_always_the_same_and_nested():
    y = torch.arange(100) % 5
    one, ten = draw_labels(y, 1, 3), draw_labels(y, 10, 3)
    assert torch.bincount(y[ten]).tolist() == [10] * 5 and len(ten.unique()) == 50
    assert set(one.tolist()) <= set(ten.tolist())
    assert torch.equal(ten, draw_labels(y, 10, 3)) and not torch.equal(ten, draw_labels(y, 10, 4))
    assert sorted(draw_labels(y, 20).tolist()) == list(range(100))


def test_the_probe_is_logistic_regression_on_those_labels_alone(data):
    found = few_label(RawPixels(4), data, (2, 10), 2)
    z, val = (features(RawPixels(4), p) for p in (data.train, data.val))
    mean, std = z.mean(0), z.std(0, correction=0)
    for i, n in enumerate((2, 10)):
        for draw in range(2):
            index = draw_labels(data.train.y, n, draw)
            # 100 / n in a mean of cross-entropies is C = 1/100 in a sum of them, for every n.
            theirs = LogisticRegression(C=0.01, tol=1e-10, max_iter=10_000).fit(
                ((z[index] - mean) / std).numpy(), data.train.y[index].numpy())
            right = theirs.predict(((val - mean) / std).numpy()) == data.val.y.numpy()
            assert (found.right[i, draw] == torch.tensor(right)).double().mean() > 0.98


def test_no_label_beyond_the_budget_is_read(data):
    """The labels of all pictures that come after the last one drawn are turned around: nothing may change."""
    order = torch.randperm(150, generator=torch.Generator().manual_seed(0))
    drawn = set(draw_labels(data.train.y, 5, 0).tolist())
    rest = order[max(i for i, picture in enumerate(order.tolist()) if picture in drawn) + 1:]
    y = data.train.y.clone()
    y[rest] = (y[rest] + 1) % 3
    assert set(draw_labels(y, 5, 0).tolist()) == drawn and len(rest) > 100
    other = dataclasses.replace(data, train=dataclasses.replace(data.train, y=y))
    assert torch.equal(few_label(RawPixels(4), data, (5,), 1).right, few_label(RawPixels(4), other, (5,), 1).right)


def test_more_labels_help_and_draws_are_the_rows_of_a_comparison(data):
    found = few_label(RawPixels(4), data, (1, 30), 4)
    assert found.right.shape == (2, 4, 60) and found.accuracy.shape == (2, 4)
    assert torch.equal(found.accuracy, 100 * found.right.double().mean(2))
    assert paired(found.right[1], found.right[0]).low > 0
    assert str(found).splitlines()[1].startswith("   30 a class: ")


def test_draws_may_be_named_and_test_may_be_asked(data):
    every = few_label(RawPixels(4), data, (3,), 3)
    assert torch.equal(few_label(RawPixels(4), data, (3,), [2]).right[:, 0], every.right[:, 2])
    assert few_label(RawPixels(4), data, (3,), 1, on="test").right.shape == (1, 1, 90)


def test_bad_input(data):
    with pytest.raises(ValueError, match="from 1 to 50, the pictures of the smallest class, got 51: ask for fewer"):
        few_label(RawPixels(4), data, (1, 51))
    with pytest.raises(ValueError, match="at least one draw and one number of labels a class, got none"):
        few_label(RawPixels(4), data, (1,), 0)
    with pytest.raises(ValueError, match=r'on must be "val", for choosing and comparing, or "test", .* got \'train\''):
        few_label(RawPixels(4), data, (1,), on="train")
    with pytest.raises(TypeError, match="on a Dataset with train, val and test, got Images"):
        few_label(RawPixels(4), data.train)
    assert FewLabels((1,), torch.ones(1, 1, 4).bool()).accuracy.tolist() == [[100]]
