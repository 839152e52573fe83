"""Nearest neighbours, kNN and retrieval, beside scikit-learn and beside counting by hand."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from course_lib.evaluate import accuracy, knn, knn_scores, nearest, retrieval


def problem(n=300, m=90, d=12, classes=4, dtype=torch.float32):
    draw = torch.Generator().manual_seed(0)
    y = torch.randint(classes, (n + m,), generator=draw)
    z = torch.randn(n + m, d, generator=draw, dtype=dtype)
    z += torch.randn(classes, d, generator=draw, dtype=dtype)[y] * 0.5
    return z[:n], y[:n], z[n:], y[n:]


@pytest.mark.parametrize("k", [1, 5, 20])
def test_class_shares_are_those_of_scikit_learn(k):
    bank, bank_y, queries, queries_y = problem(dtype=torch.float64)
    theirs = KNeighborsClassifier(
        n_neighbors=k, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.07)
    ).fit(bank.numpy(), bank_y.numpy())
    ours = knn_scores(bank, bank_y, queries, classes=4, k=k)
    np.testing.assert_allclose(ours.numpy(), theirs.predict_proba(queries.numpy()), atol=1e-10)
    top1 = knn(bank, bank_y, queries, queries_y, k=k)["top1"]
    assert top1 == pytest.approx(100 * theirs.score(queries.numpy(), queries_y.numpy()))
    assert 30 < top1 < 95  # neither chance nor trivial, or the comparison says little


@pytest.mark.parametrize("chunk", [1, 7, 90, 1000])
def test_chunks_change_nothing(chunk):
    bank, bank_y, queries, _ = problem()
    torch.testing.assert_close(knn_scores(bank, bank_y, queries, classes=4, chunk=chunk),
                               knn_scores(bank, bank_y, queries, classes=4))


def test_nearest_is_a_sort_of_all_cosines():
    bank, _, queries, _ = problem(dtype=torch.float64)
    similarity, index = nearest(bank, queries, k=300)
    all_pairs = torch.nn.functional.cosine_similarity(queries[:, None], bank[None], dim=2)
    wanted, order = all_pairs.sort(dim=1, descending=True)
    torch.testing.assert_close(similarity, wanted)
    assert torch.equal(index, order)


def test_the_length_of_a_feature_vector_does_not_matter():
    bank, bank_y, queries, _ = problem()
    scale = torch.linspace(0.1, 50, len(bank))[:, None]
    torch.testing.assert_close(knn_scores(bank * scale, bank_y, queries * 9, classes=4),
                               knn_scores(bank, bank_y, queries, classes=4))


def test_a_small_temperature_listens_to_the_nearest_alone_and_does_not_overflow():
    bank, bank_y, queries, _ = problem()
    scores = knn_scores(bank, bank_y, queries, classes=4, temperature=1e-4)
    assert scores.isfinite().all()
    _, index = nearest(bank, queries, k=1)
    assert (scores.argmax(1) == bank_y[index[:, 0]]).double().mean() > 0.95


def test_accuracy_counts_a_tie_against():
    scores = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [1 / 3, 1 / 3, 1 / 3]])
    y = torch.tensor([0, 1, 2])
    assert accuracy(scores, y) == pytest.approx(100 / 3)
    assert accuracy(scores, y, top=2) == pytest.approx(100 / 3)
    assert accuracy(scores, y, top=3) == 100


def test_top5_of_five_classes_or_fewer_is_100():
    bank, bank_y, queries, queries_y = problem(classes=5)
    assert knn(bank, bank_y, queries, queries_y)["top5"] == 100
    bank, bank_y, queries, queries_y = problem(classes=12)
    result = knn(bank, bank_y, queries, queries_y)
    assert result["top1"] < result["top5"] < 100


def test_retrieval_counts_neighbours_of_the_same_class():
    bank = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    bank_y = torch.tensor([0, 1, 1, 1])
    queries, queries_y = torch.tensor([[1.0, 0.01], [0.01, 1.0]]), torch.tensor([0, 1])
    found = retrieval(bank, queries, bank_y, queries_y, k=2)
    assert found.index.tolist() == [[0, 1], [2, 3]]
    assert found.by_class == {0: 50, 1: 100} and found.precision == 75
    assert retrieval(bank, queries, k=2).precision is None


def test_a_picture_is_not_its_own_neighbour_where_it_is_skipped():
    bank, _, _, _ = problem()
    own = torch.arange(50)
    assert torch.equal(nearest(bank, bank[:50], k=1)[1][:, 0], own)
    index = retrieval(bank, bank[:50], k=5, skip=own).index
    assert not (index == own[:, None]).any()
    assert torch.equal(index, nearest(bank, bank[:50], k=6)[1][:, 1:])


def test_bad_input():
    bank, bank_y, queries, queries_y = problem(n=30)
    with pytest.raises(ValueError, match="k must lie between 1 and the 30 neighbours that there are, got 31"):
        knn(bank, bank_y, queries, queries_y, k=31)
    with pytest.raises(ValueError, match="between 1 and the 29 neighbours"):
        nearest(bank, bank[:1], k=30, skip=torch.tensor([0]))
    with pytest.raises(ValueError, match="got 0"):
        nearest(bank, queries, k=0)
    with pytest.raises(ValueError, match="must have the same dimension, got 12 and 5"):
        nearest(bank, queries[:, :5], k=3)
    with pytest.raises(ValueError, match="at least 1 row, got 0"):
        nearest(bank[:0], queries, k=3)
    with pytest.raises(ValueError, match="the queries' features must be finite, but 1 of 90 rows"):
        broken = queries.clone()
        broken[3, 2] = torch.nan
        nearest(bank, broken, k=3)
    with pytest.raises(TypeError, match=r"must be a tensor of floats, got torch\.int64"):
        nearest(bank.long(), queries, k=3)
    with pytest.raises(ValueError, match=r"must have shape \[n, d\], got \[30\]"):
        nearest(bank[:, 0], queries, k=3)
    with pytest.raises(ValueError, match=r"the bank's labels must be one label a feature vector, \[30\], got \[29\]"):
        knn(bank, bank_y[1:], queries, queries_y)
    with pytest.raises(ValueError, match="the bank's labels must be 0 to 1, got 0 to 3"):
        knn_scores(bank, bank_y, queries, classes=2)
    with pytest.raises(ValueError, match="must be 0 or more, got -1"):
        retrieval(bank, queries, bank_y - 1, queries_y)
    with pytest.raises(TypeError, match=r"int64 tensor, got torch\.float32"):
        knn(bank, bank_y.float(), queries, queries_y)
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        knn(bank, bank_y, queries, queries_y, temperature=0)
    with pytest.raises(ValueError, match="labels of both the bank and the queries, got those of one"):
        retrieval(bank, queries, bank_y)
