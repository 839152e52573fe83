"""Which of many candidates belongs to a query? Against given negatives, or against the others of a batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from course_lib.parts.precision import check_pair, check_temperature, full_precision


@full_precision
def info_nce(query: Float[Tensor, "n d"], positive: Float[Tensor, "n d"],
             negatives: Float[Tensor, "k d"] | Float[Tensor, "n k d"], temperature: float = 0.2) -> Float[Tensor, ""]:
    """−log of the softmax's share of the positive among it and K negatives, mean over queries.

    negatives: `[K, D]`, the same for every query, or `[N, K, D]`, each its own. All three are L2-normalised here, and
    gradients flow to all: detach what shall not learn. A blind guess costs log(K + 1), and log(K + 1) − loss is a lower
    bound of the information that query and positive share where candidates are drawn one by one (van den Oord et al.
    2018, section 2.3 and appendix A.1).
    Raises ValueError for other shapes, no negative, or a temperature that is not positive.
    """
    if query.ndim != 2 or query.shape != positive.shape:
        raise ValueError(f"query and positive must be embeddings of one shape [N, D], got {list(query.shape)} and "
                         f"{list(positive.shape)}: give one positive a query")
    each = (query.shape[0],) if negatives.ndim == 3 else ()
    if (negatives.ndim not in (2, 3) or negatives.shape[:-2] != each or negatives.shape[-1] != query.shape[1]
            or not negatives.shape[-2]):
        n, d = query.shape
        raise ValueError(f"negatives must be [K, {d}], or [{n}, K, {d}] for each query its own, K at least 1, got "
                         f"{list(negatives.shape)}")
    check_temperature(temperature)
    query, positive, negatives = (F.normalize(z, dim=-1) for z in (query, positive, negatives))
    right = (query * positive).sum(1, keepdim=True)
    wrong = (query[:, None] @ negatives.mT).squeeze(1) if negatives.ndim == 3 else query @ negatives.T
    logits = torch.cat([right, wrong], 1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.int64, device=query.device))


@full_precision
def batch_info_nce(query: Float[Tensor, "n d"], keys: Float[Tensor, "n d"], temperature: float | Tensor = 0.1
                   ) -> Float[Tensor, ""]:
    """InfoNCE among the keys of a batch: key i is the positive of query i and a negative of all others.

    Both are L2-normalised here, gradients flow to both, and log N is the cost of a blind guess. One way only: for both
    take the mean with queries and keys exchanged.
    Raises ValueError for other shapes, fewer than 2 pictures or a temperature that is not positive.
    """
    check_pair(query, keys)
    check_temperature(temperature)
    logits = F.normalize(query, dim=1) @ F.normalize(keys, dim=1).T / temperature
    return F.cross_entropy(logits, torch.arange(len(query), device=query.device))
