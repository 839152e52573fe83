"""Skip-gram: a word is known by the words around it (Mikolov et al. 2013, "Distributed representations of words …")"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_lib.data.types import Images
from course_lib.methods.base import Batch, Method
from course_lib.parts import full_precision
from course_lib.parts.text import PADDING, count_words, numbers


@full_precision
def skip_gram_loss(center: Float[Tensor, "n d"], context: Float[Tensor, "n d"], negatives: Float[Tensor, "n k d"]
                   ) -> Float[Tensor, ""]:
    """−log σ(u·v) − Σ log σ(−u·n) over k negatives, mean over pairs (equation 4, negative sampling).

    With all products 0 it is (k + 1)·log 2. At its minimum u·v is the pair's pointwise mutual information less log k
    (Levy and Goldberg 2014), where negatives are drawn by the words' own frequencies.
    Raises ValueError for other shapes.
    """
    if center.ndim != 2 or center.shape != context.shape or negatives.shape[::2] != center.shape:
        raise ValueError("pairs need [N, D] for words and for contexts and [N, K, D] for negatives, got "
                         f"{list(center.shape)}, {list(context.shape)} and {list(negatives.shape)}")
    right, wrong = (center * context).sum(1), (negatives @ center[:, :, None]).squeeze(2)
    return -(F.logsigmoid(right) + F.logsigmoid(-wrong).sum(1)).mean()


class WordVectors(nn.Module):
    """A vector for each word. It takes numbers of words; `of(word, …)` takes the words themselves."""

    def __init__(self, words: Sequence[str], dim: int = 32):
        super().__init__()
        self.words, self.dim = tuple(words), dim
        self.table = nn.Embedding(len(self.words), dim)
        nn.init.uniform_(self.table.weight, -0.5 / dim, 0.5 / dim)

    def forward(self, number: Int64[Tensor, " n"]) -> Float[Tensor, "n d"]:
        return self.table(number)

    def of(self, *words: str) -> Float[Tensor, "n d"]:
        """The vectors of these words. Raises ValueError for words that were not learned."""
        return self(numbers([" ".join(words)], self.words, self.table.weight.device)[0])


class SkipGram(Method):
    """From a word, each word within `window` of it in the same caption is told from words drawn at random.

    encoder: `WordVectors`, the vectors that are kept; those of contexts are others, thrown away. counts: how often each
    word occurs, in the encoder's order. negatives: drawn by counts to the power 0.75. subsample: t in the probability
    1 − √(t/f) of leaving out a word of frequency f (equation 5); 0 keeps all, in text as small as captions.
    Pictures are not looked at: whatever has captions trains it.
    """

    needs = frozenset({"captions"})
    smallest_batch = 1
    objective = staticmethod(skip_gram_loss)  # the loss of pairs and negatives: a subclass may name another

    def __init__(self, encoder: WordVectors, *, counts: Sequence[int], window: int = 2, negatives: int = 5,
                 power: float = 0.75, subsample: float = 0.0):
        super().__init__(encoder, nn.Identity())
        if not isinstance(encoder, WordVectors) or len(counts) != len(encoder.words) or min(counts) < 1:
            raise ValueError("skip-gram needs WordVectors(words) and how often each of those words occurs, got "
                             f"{type(encoder).__name__} and {len(counts)} counts: SkipGram.from_sentences makes both")
        if window < 1 or negatives < 1 or subsample < 0:
            raise ValueError("window and negatives must be at least 1 and subsample at least 0, got "
                             f"{window}, {negatives} and {subsample}: 2, 5 and 0 are usual here")
        self.context = WordVectors(encoder.words, encoder.dim)
        frequency = torch.tensor(counts, dtype=torch.float64) / sum(counts)
        self.register_buffer("noise", (frequency**power / (frequency**power).sum()).float())
        kept = (subsample / frequency).sqrt().clamp(max=1) if subsample else torch.ones_like(frequency)
        self.register_buffer("kept", kept.float())
        self.window, self.negatives = window, negatives

    @classmethod
    def from_sentences(cls, sentences: Sequence[str], dim: int = 32, **options) -> SkipGram:
        """With a vector for each word of these sentences."""
        counts: Mapping[str, int] = count_words(sentences)
        return cls(WordVectors(tuple(counts), dim), counts=list(counts.values()), **options)

    @classmethod
    def build(cls, encoder: WordVectors, images: Images, **options) -> SkipGram:
        counts = count_words(images.captions)
        return super().build(encoder, images, counts=[counts.get(word, 0) for word in encoder.words], **options)

    def pairs(self, captions: Sequence[str]) -> tuple[Int64[Tensor, " p"], Int64[Tensor, " p"]]:
        """Numbers of words and of words near them: every ordered pair of a caption that is within the window."""
        found = numbers(captions, self.encoder.words, self.noise.device)
        dropped = torch.rand(found.shape, device=found.device) >= self.kept[found.clamp(min=0)]
        place = torch.arange(found.shape[1], device=found.device)
        # Words that are left out leave no gap: the window reaches further over them.
        order = (place + found.shape[1] * (dropped | (found == PADDING))).argsort(1)
        found = found.masked_fill(dropped, PADDING).gather(1, order)
        near = [(a, b) for a in place.tolist() for b in place.tolist() if 0 < abs(a - b) <= self.window]
        center, context = (found[:, list(side)].flatten() for side in zip(*near, strict=True)) if near else (
            found[:, 0], found[:, 0].new_full((len(found),), PADDING))
        both = (center != PADDING) & (context != PADDING)
        return center[both], context[both]

    def loss(self, batch: Batch) -> Tensor:
        center, context = self.pairs(batch.captions)
        if not len(center):  # captions of one word each
            return 0 * self.encoder.table.weight.sum() + 0 * self.context.table.weight.sum()
        drawn = torch.multinomial(self.noise, len(center) * self.negatives, replacement=True)
        negatives = self.context(drawn).unflatten(0, (len(center), self.negatives))
        return self.objective(self.encoder(center), self.context(context), negatives)
