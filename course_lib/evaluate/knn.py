"""k nearest neighbours by cosine: the search itself, and classification by the neighbours' votes.

kNN has nothing to train and nothing to choose, so it reads features as they are: a good first number for any encoder.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from course_lib.evaluate.checks import PATIENCE, check_features, check_labels, check_same_width, undisturbed
from course_lib.progress import bar

CHUNK_BYTES = 64 * 2**20  # of similarities held at a time


@undisturbed()
def nearest(
    bank: Float[Tensor, "n d"],
    queries: Float[Tensor, "m d"],
    *,
    k: int,
    skip: Int64[Tensor, " m"] | None = None,
    chunk: int | None = None,
) -> tuple[Float[Tensor, "m k"], Int64[Tensor, "m k"]]:
    """The k rows of `bank` most similar to each query by cosine: (similarities, row numbers), nearest first.

    skip: for each query, the row of the bank that is the query itself and is to be left out.
    chunk: queries a time; by default as many as keep the similarities within 64 MiB, so that memory grows with the
    bank alone and never with n x m.

    Raises ValueError where k is not within 1..n (n - 1 with `skip`), or features do not fit.
    """
    check_features(bank, "the bank's features")
    check_features(queries, "the queries' features")
    check_same_width(bank, queries, "the bank's and the queries' features")
    room = len(bank) - (skip is not None)
    if not 1 <= k <= room:
        raise ValueError(f"k must lie between 1 and the {room} neighbours that there are, got {k}: "
                         "ask for fewer neighbours or give a larger bank")
    if skip is not None:
        check_labels(skip, queries, "the rows to skip", classes=len(bank))
    bank = F.normalize(bank, dim=1).T
    chunk = chunk or max(1, CHUNK_BYTES // (bank.shape[1] * bank.element_size()))
    similarity = bank.new_empty(len(queries), k)
    index = torch.empty(len(queries), k, dtype=torch.int64, device=bank.device)
    starts = range(0, len(queries), chunk)
    for start in bar(starts, desc="nearest neighbours", unit="part", delay=PATIENCE):
        rows = slice(start, start + chunk)
        all_pairs = F.normalize(queries[rows], dim=1) @ bank
        if skip is not None:
            all_pairs.scatter_(1, skip[rows, None], -torch.inf)
        similarity[rows], index[rows] = all_pairs.topk(k, dim=1)
    return similarity, index


@undisturbed()
def knn_scores(
    bank: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    queries: Float[Tensor, "m d"],
    *,
    classes: int,
    k: int = 20,
    temperature: float = 0.07,
    chunk: int | None = None,
) -> Float[Tensor, "m classes"]:
    """Each class's share of the votes of the k nearest neighbours, each vote weighted by exp(similarity / temperature).

    Rows sum to 1: dividing a row's weights by their sum leaves the order of the classes as it is, and cannot overflow.
    The weighting is that of Wu et al. 2018, "Unsupervised feature learning via non-parametric instance discrimination",
    section 3.4.

    Raises as `nearest`, and ValueError where labels or temperature do not fit.
    """
    if not temperature > 0:
        raise ValueError(f"the temperature must be above 0, got {temperature}: 0.07 is the usual one")
    check_features(bank, "the bank's features")
    check_labels(labels, bank, "the bank's labels", classes)
    similarity, index = nearest(bank, queries, k=k, chunk=chunk)
    votes = (similarity / temperature).softmax(dim=1)
    return votes.new_zeros(len(queries), classes).scatter_add_(1, labels[index], votes)


@undisturbed()
def knn(
    bank: Float[Tensor, "n d"],
    bank_y: Int64[Tensor, " n"],
    queries: Float[Tensor, "m d"],
    queries_y: Int64[Tensor, " m"],
    *,
    classes: int | None = None,
    k: int = 20,
    temperature: float = 0.07,
) -> dict[str, float]:
    """Accuracy of weighted k-nearest-neighbour classification, {"top1", "top5"} in percent. Raises as `knn_scores`.

    classes: how many there are; by default as many as the largest label says.
    """
    check_features(queries, "the queries' features")
    check_labels(queries_y, queries, "the queries' labels", classes)
    classes = classes or 1 + max(int(bank_y.max()), int(queries_y.max()))
    scores = knn_scores(bank, bank_y, queries, classes=classes, k=k, temperature=temperature)
    return {"top1": accuracy(scores, queries_y), "top5": accuracy(scores, queries_y, top=5)}


def accuracy(scores: Float[Tensor, "m classes"], y: Int64[Tensor, " m"], *, top: int = 1) -> float:
    """How often, in percent, the right class is among the `top` highest scores: the mean of `is_right`."""
    return 100 * is_right(scores, y, top=top).double().mean().item()


def is_right(scores: Float[Tensor, "m classes"], y: Int64[Tensor, " m"], *, top: int = 1) -> Bool[Tensor, " m"]:
    """For each picture, whether the right class is among the `top` highest scores.

    A tie counts against: the right class must have fewer than `top` rivals that score as high or higher. So scores that
    are all the same earn nothing. With no more than `top` classes the answer is yes, whatever the scores.
    """
    rivals = (scores >= scores.gather(1, y[:, None])).sum(dim=1) - 1
    return rivals < top
