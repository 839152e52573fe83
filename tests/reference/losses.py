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


def info_nce(query, positive, negatives, temperature):
    total = 0.0
    for i in range(len(query)):
        others = negatives[i] if negatives.ndim == 3 else negatives
        logits = [cosine(query[i], positive[i]) / temperature]
        logits += [cosine(query[i], other) / temperature for other in others]
        total = total + cross_entropy(logits, 0)
    return total / len(query)


def batch_info_nce(query, keys, temperature):
    total = 0.0
    for i in range(len(query)):
        total = total + cross_entropy([cosine(query[i], key) / temperature for key in keys], i)
    return total / len(query)


def distance(a, b):
    return dot(a - b, a - b) ** 0.5


def contrastive_pair(z1, z2, same, margin):
    total = 0.0
    for a, b, s in zip(z1, z2, same, strict=True):
        if s:
            total = total + distance(a, b) ** 2
        elif distance(a, b) < margin:
            total = total + (margin - distance(a, b)) ** 2
    return total / len(z1)


def triplets(z, labels):
    """For each anchor and positive the negative, by going through all of them."""
    unit = [row / dot(row, row) ** 0.5 for row in z.detach()]
    found = []
    for a in range(len(z)):
        for p in range(len(z)):
            if a == p or labels[a] != labels[p]:
                continue
            negatives = [n for n in range(len(z)) if labels[n] != labels[a]]
            if not negatives:
                continue
            further = [n for n in negatives if distance(unit[a], unit[n]) > distance(unit[a], unit[p])]
            if further:
                found.append((a, p, min(further, key=lambda n, a=a: float(distance(unit[a], unit[n])))))
            else:
                found.append((a, p, max(negatives, key=lambda n, a=a: float(distance(unit[a], unit[n])))))
    return found


def triplet(z, labels, margin):
    unit = [row / dot(row, row) ** 0.5 for row in z]
    total, found = 0.0, triplets(z, labels)
    for a, p, n in found:
        total = total + torch.clamp(distance(unit[a], unit[p]) ** 2 - distance(unit[a], unit[n]) ** 2 + margin, min=0)
    return total / len(found)


def supcon(z, labels, temperature, mean):
    views = [(z[i, v], int(labels[i])) for i in range(z.shape[0]) for v in range(z.shape[1])]
    total, anchors = 0.0, 0
    for i, (anchor, label) in enumerate(views):
        others = [j for j in range(len(views)) if j != i]
        positives = [j for j in others if views[j][1] == label]
        if not positives:
            continue
        everything = sum(torch.exp(cosine(anchor, views[j][0]) / temperature) for j in others)
        shares = [torch.exp(cosine(anchor, views[j][0]) / temperature) / everything for j in positives]
        if mean == "outside":
            total = total - sum(torch.log(share) for share in shares) / len(shares)
        else:
            total = total - torch.log(sum(shares) / len(shares))
        anchors += 1
    return total / anchors


def nce(v, slot, negatives, log_z, pictures, temperature):
    m = negatives.shape[1]
    constant = torch.exp(torch.as_tensor(log_z, dtype=v.dtype))
    total = 0.0
    for i in range(len(v)):
        unit = v[i] / dot(v[i], v[i]) ** 0.5

        def sure(other, unit=unit):
            p = torch.exp(dot(unit, other.detach()) / temperature) / constant
            return p / (p + m / pictures)

        total = total - torch.log(sure(slot[i]))
        for other in negatives[i]:
            total = total - torch.log(1 - sure(other))
    return total / len(v)


def instance_softmax(v, bank, index, temperature):
    total = 0.0
    for row, i in zip(v, index, strict=True):
        unit = row / dot(row, row) ** 0.5
        total = total + cross_entropy([dot(unit, slot) / temperature for slot in bank], int(i))
    return total / len(v)


def mean_shift(p, neighbours):
    total = 0.0
    for i in range(len(p)):
        for other in neighbours[i]:
            total = total + (2 - 2 * cosine(p[i], other.detach()))
    return total / (len(p) * neighbours.shape[1])


def skip_gram(center, context, negatives):
    total = 0.0
    for i in range(len(center)):
        total = total - torch.log(torch.sigmoid(dot(center[i], context[i])))
        for other in negatives[i]:
            total = total - torch.log(torch.sigmoid(-dot(center[i], other)))
    return total / len(center)


def cpc(prediction, target, example, negatives):
    total = 0.0
    for i in range(len(prediction)):
        rows = [j for j in range(len(target)) if j == i or negatives == "all"
                or (negatives == "same") == (int(example[i]) == int(example[j]))]
        total = total + cross_entropy([dot(prediction[i], target[j]) for j in rows], rows.index(i))
    return total / len(prediction)
