"""Sentences as numbers of words, for methods that learn from captions."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

PADDING = -1


def split(sentence: str) -> list[str]:
    """The words of a sentence, in small letters, without punctuation."""
    return re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", sentence.lower())


def count_words(sentences: Iterable[str]) -> dict[str, int]:
    """How often each word occurs, the most frequent first, equally frequent ones by the alphabet."""
    counts = collections.Counter(word for sentence in sentences for word in split(sentence))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def numbers(sentences: Sequence[str], words: Sequence[str], device="cpu") -> Int64[Tensor, "n length"]:
    """The number of each word in `words`, one row a sentence, with `PADDING` after shorter ones.

    Raises ValueError for words that are not among them, or where there are no sentences.
    """
    if isinstance(sentences, str) or not len(sentences):
        raise ValueError(f"sentences come as a list with at least one, got {sentences!r}")
    place = {word: i for i, word in enumerate(words)}
    rows = [split(sentence) for sentence in sentences]
    unknown = sorted({word for row in rows for word in row} - place.keys())
    if unknown:
        raise ValueError(f"these words were not learned: {', '.join(unknown)}. Known are {', '.join(words)}")
    found = torch.full((len(rows), max(1, *map(len, rows))), PADDING)
    for i, row in enumerate(rows):
        found[i, : len(row)] = torch.tensor([place[word] for word in row], dtype=torch.int64)
    return found.to(device)
