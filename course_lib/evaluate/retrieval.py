"""Retrieval: the nearest pictures to a picture, and how many of them are of its class."""

from __future__ import annotations

import dataclasses

from jaxtyping import Float, Int64
from torch import Tensor

from course_lib.evaluate.checks import check_labels, undisturbed
from course_lib.evaluate.knn import nearest


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """What `retrieval` found.

    index: int64 `[m, k]`, rows of the bank, nearest first. similarity: `[m, k]`, cosine.
    precision: percent of the neighbours that are of their query's class, mean over queries; None without labels.
    by_class: class -> the same for the queries of that class alone; empty without labels.
    """

    index: Int64[Tensor, "m k"]
    similarity: Float[Tensor, "m k"]
    precision: float | None
    by_class: dict[int, float]


@undisturbed()
def retrieval(
    bank: Float[Tensor, "n d"],
    queries: Float[Tensor, "m d"],
    bank_y: Int64[Tensor, " n"] | None = None,
    queries_y: Int64[Tensor, " m"] | None = None,
    *,
    k: int = 8,
    skip: Int64[Tensor, " m"] | None = None,
) -> Retrieval:
    """The k nearest rows of the bank to each query by cosine, and precision at k where both have labels.

    skip: for each query, its own row in the bank, to be left out: a picture is its own nearest neighbour.

    Raises as `nearest`, and ValueError where labels do not fit or only one of the two sets has them.
    """
    if (bank_y is None) != (queries_y is None):
        raise ValueError("precision needs labels of both the bank and the queries, got those of one: give both or none")
    similarity, index = nearest(bank, queries, k=k, skip=skip)
    if bank_y is None:
        return Retrieval(index, similarity, None, {})
    check_labels(bank_y, bank, "the bank's labels")
    check_labels(queries_y, queries, "the queries' labels")
    percent = 100 * (bank_y[index] == queries_y[:, None]).double().mean(dim=1)
    by_class = {c: percent[queries_y == c].mean().item() for c in queries_y.unique().tolist()}
    return Retrieval(index, similarity, percent.mean().item(), by_class)
