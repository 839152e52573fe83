"""The jigsaw's permutations, tiles and loss, one at a time."""

from __future__ import annotations

import itertools


def hamming(a, b):
    return sum(x != y for x, y in zip(a, b, strict=True))


def permutation_set(n, tiles):
    every = list(itertools.permutations(range(tiles)))
    chosen = [every[0]]
    while len(chosen) < n:
        scores = [(min(hamming(p, c) for c in chosen), sum(hamming(p, c) for c in chosen)) for p in every]
        chosen.append(every[scores.index(max(scores))])
    return chosen


def smallest_distance(permutations):
    return min(hamming(a, b) for a, b in itertools.combinations(permutations, 2))


def mean_and_std(numbers):
    mean = sum(numbers) / len(numbers)
    return mean, (sum((x - mean) ** 2 for x in numbers) / len(numbers)) ** 0.5


def normalize_tiles(tiles):
    out = tiles.clone()
    for i in range(tiles.shape[0]):
        for channel in range(tiles.shape[2]):
            whole_mean, whole_std = mean_and_std(tiles[i, :, channel].flatten().tolist())
            for t in range(tiles.shape[1]):
                mean, std = mean_and_std(tiles[i, t, channel].flatten().tolist())
                for row in range(tiles.shape[3]):
                    for column in range(tiles.shape[4]):
                        z = (tiles[i, t, channel, row, column].item() - mean) / (std + 0.01)
                        out[i, t, channel, row, column] = min(1.0, max(0.0, whole_mean + whole_std * z))
    return out
