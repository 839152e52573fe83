"""Every loss again, slow and obvious: one number at a time, as the formula is written.

Tensors come in as float64 and are indexed entry by entry, so autograd gives the gradient of the loop itself.
"""

from __future__ import annotations

import torch


def dot(a, b):
    total = 0.0
    for x, y in zip(a, b, strict=True):
        total = total + x * y
    return total


def cosine(a, b):
    return dot(a, b) / (dot(a, a) ** 0.5 * dot(b, b) ** 0.5)


def cross_entropy(logits, answer):
    """−log of the softmax's share of the right answer; `logits` is a list of scalars."""
    total = 0.0
    for logit in logits:
        total = total + torch.exp(logit)
    return torch.log(total) - logits[answer]


def nt_xent(z1, z2, temperature):
    views = [*z1, *z2]
    n = len(z1)
    total = 0.0
    for i, anchor in enumerate(views):
        others = [j for j in range(2 * n) if j != i]
        partner = i + n if i < n else i - n
        logits = [cosine(anchor, views[j]) / temperature for j in others]
        total = total + cross_entropy(logits, others.index(partner))
    return total / (2 * n)


def byol(p1, p2, z1, z2):
    total = 0.0
    for i in range(len(p1)):
        total = total + (2 - 2 * cosine(p1[i], z2[i].detach())) + (2 - 2 * cosine(p2[i], z1[i].detach()))
    return total / len(p1)


def covariance(z, a, b):
    n = len(z)
    mean_a, mean_b = sum(z[:, a]) / n, sum(z[:, b]) / n
    total = 0.0
    for i in range(n):
        total = total + (z[i, a] - mean_a) * (z[i, b] - mean_b)
    return total / (n - 1)


def vicreg(z1, z2, invariance, variance, covariance_weight):
    n, d = z1.shape
    s = 0.0
    for i in range(n):
        for j in range(d):
            s = s + (z1[i, j] - z2[i, j]) ** 2 / (n * d)
    v, c = 0.0, 0.0
    for z in (z1, z2):
        for j in range(d):
            v = v + torch.clamp(1 - torch.sqrt(covariance(z, j, j) + 1e-4), min=0) / d / 2
            for k in range(d):
                if k != j:
                    c = c + covariance(z, j, k) ** 2 / d
    return invariance * s + variance * v + covariance_weight * c


def mean_squared_error(output, target):
    output, target = output.flatten(), target.flatten()
    total = 0.0
    for a, b in zip(output, target, strict=True):
        total = total + (a - b) ** 2
    return total / len(output)


def classification(logits, labels):
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        total = total + cross_entropy(list(row), int(label))
    return total / len(logits)


def masked(output, target, hidden):
    total, count = 0.0, 0
    for i in range(output.shape[0]):
        for j in range(output.shape[1]):
            if hidden[i, j]:
                total = total + mean_squared_error(output[i, j], target[i, j])
                count += 1
    return total / count
