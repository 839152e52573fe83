"""Colourization's loss, one place at a time."""

from __future__ import annotations

import math

import torch


def bin_loss(logits, target, uniform):
    n, q, h, w = logits.shape
    places = [(i, r, c) for i in range(n) for r in range(h) for c in range(w)]
    share = [sum(int(target[p]) == k for p in places) / len(places) for k in range(q)]
    weight = [1 / ((1 - uniform) * s + uniform / q) for s in share]
    mean_weight = sum(s * v for s, v in zip(share, weight, strict=True))
    total = 0
    for i, r, c in places:
        k = int(target[i, r, c])
        cost = torch.logsumexp(logits[i, :, r, c], 0) - logits[i, k, r, c]
        total = total + weight[k] / mean_weight * cost
    return total / len(places)


def nearest_bin(values, bins):
    n, _, h, w = values.shape
    out = torch.zeros(n, h, w, dtype=torch.int64)
    for i in range(n):
        for r in range(h):
            for c in range(w):
                distances = [math.dist(values[i, :, r, c].tolist(), center) for center in bins.tolist()]
                out[i, r, c] = distances.index(min(distances))
    return out
