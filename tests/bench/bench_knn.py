"""kNN beside scikit-learn's brute force, in one run: 50,000 features against 10,000 queries of 512 dimensions.

    python tests/bench/bench_knn.py

Each runs in a process of its own, so that each peak of memory (the whole process: Python, libraries, features) is its
own too. Both classify by the same 20 neighbours and weights; how far they agree is printed with the times.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

BANK, QUERIES, DIM, CLASSES, K, TEMPERATURE = 50_000, 10_000, 512, 10, 20, 0.07


def data():
    import torch

    draw = torch.Generator().manual_seed(0)
    y = torch.randint(CLASSES, (BANK + QUERIES,), generator=draw)
    z = torch.randn(BANK + QUERIES, DIM, generator=draw)
    centers = 0.12 * torch.randn(CLASSES, DIM, generator=draw)  # overlapping classes: some queries are hard
    for c in range(CLASSES):
        z[y == c] += centers[c]
    return z[:BANK], y[:BANK], z[BANK:], y[BANK:]


def peak_mb() -> float:
    """The most memory this process has held: ru_maxrss is in KiB on Linux and in bytes on macOS."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def ours():
    bank, bank_y, queries, _ = data()
    from course_lib.evaluate import knn_scores

    before, began = peak_mb(), time.perf_counter()
    predicted = knn_scores(bank, bank_y, queries, classes=CLASSES, k=K, temperature=TEMPERATURE).argmax(1)
    return time.perf_counter() - began, before, peak_mb(), predicted.numpy()


def sklearns():
    bank, bank_y, queries, _ = (t.numpy() for t in data())
    import numpy as np
    from sklearn.neighbors import KNeighborsClassifier

    def weights(distance):
        return np.exp((1 - distance) / TEMPERATURE)

    model = KNeighborsClassifier(n_neighbors=K, metric="cosine", algorithm="brute", weights=weights)
    before, began = peak_mb(), time.perf_counter()
    predicted = model.fit(bank, bank_y).predict(queries)
    return time.perf_counter() - began, before, peak_mb(), predicted


def main():
    results = {}
    for run in (ours, sklearns):
        # A fresh interpreter, so that neither starts on what the other has warmed up or left in memory.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            results[run] = pool.submit(run).result()
    truth = data()[3].numpy()
    print(f"kNN, {BANK:,} x {QUERIES:,}, {DIM} dimensions, k={K}, {os.cpu_count()} cores")
    for name, (seconds, before, peak, predicted) in zip(("course_lib", "scikit-learn"), results.values(), strict=True):
        print(f"  {name:<13}{seconds:7.1f} s   peak {peak:6.0f} MB (features and libraries {before:.0f}, "
              f"search {peak - before:.0f})   top-1 {100 * (predicted == truth).mean():.2f} %")
    (mine, _, _, here), (theirs, _, _, there) = results[ours], results[sklearns]
    print(f"  {theirs / mine:.2f} times as fast, {100 * (here == there).mean():.2f} % of predictions the same")


if __name__ == "__main__":
    main()
