"""CPC: predict what comes next, as an embedding that can be told from others (van den Oord et al. 2018)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_lib import augment
from course_lib.methods.base import Batch, Method
from course_lib.parts import full_precision, gather

NEGATIVES = ("all", "same", "others")


def check_negatives(negatives: str) -> None:
    """Raise ValueError unless it is one of the kinds there are."""
    if negatives not in NEGATIVES:
        raise ValueError(f"negatives must be one of {', '.join(NEGATIVES)}, got {negatives!r}")


@full_precision
def cpc_loss(prediction: Float[Tensor, "m d"], target: Float[Tensor, "m d"], example: Int64[Tensor, " m"],
             negatives: str = "all") -> Float[Tensor, ""]:
    """InfoNCE of equation 4 with the score exp(zᵀWc) of equation 3: row i's prediction Wc against every row's target z.

    example: which picture or sequence a row is of. negatives: "all" other rows, those of the "same" example alone, or
    those of the "others" alone. log M for a blind guess among all. Nothing is normalised.
    Raises ValueError for other shapes, another `negatives`, or a row that is left without any.
    """
    logits = scores(prediction, target, example, negatives)
    return F.cross_entropy(logits, torch.arange(len(target), device=target.device))


@full_precision
def scores(prediction: Tensor, target: Tensor, example: Tensor, negatives: str) -> Float[Tensor, "m m"]:
    """Every prediction with every target, minus infinity for those it is not held against. Raises as `cpc_loss`."""
    if prediction.ndim != 2 or prediction.shape != target.shape or example.shape != (len(target),):
        raise ValueError("predictions and targets must be of one shape [M, D], and each of some example, [M], got "
                         f"{list(prediction.shape)}, {list(target.shape)} and {list(example.shape)}")
    check_negatives(negatives)
    own = torch.eye(len(target), dtype=torch.bool, device=target.device)
    same = example[:, None] == example
    allowed = {"all": torch.ones_like(same), "same": same, "others": ~same}[negatives] | own
    if not (allowed.sum(1) > 1).all():
        raise ValueError(f"a prediction has no negative, with negatives={negatives!r}: give more pictures, or more "
                         "places of each")
    return (prediction @ target.T).masked_fill(~allowed, float("-inf"))


class RowsAbove(nn.Module):
    """A context for each place of a grid, from its own row and those above, and never from one below: convolutions
    that reach upwards alone (the vertical half of a PixelCNN)."""

    def __init__(self, dim: int, layers: int = 3):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(dim, dim, (2, 3)) for _ in range(layers))

    def forward(self, z: Float[Tensor, "n d r c"]) -> Float[Tensor, "n d r c"]:
        for layer in self.layers:
            z = z + F.relu(layer(F.pad(z, (1, 1, 1, 0))))  # one row above, none below
        return z


def terms(heads: nn.ModuleDict, context: Float[Tensor, "n t *p d"], z: Float[Tensor, "n t *p d"], negatives: str,
          objective: Callable) -> dict[str, Tensor]:
    """Loss and accuracy of each step ahead, along t, and their means over the steps. heads: steps ahead, as text -> the
    layer that predicts z so far on from the context."""
    logs = {}
    for ahead, head in heads.items():
        k = int(ahead)
        prediction, target = gather(head(context[:, :-k])), gather(z[:, k:])
        example = torch.arange(len(target), device=z.device).repeat_interleave(target[0, ..., 0].numel())
        prediction, target = prediction.flatten(0, -2), target.flatten(0, -2)
        logs[f"loss_{k}"] = objective(prediction, target, example, negatives)
        with torch.no_grad():
            found = scores(prediction, target, example, negatives).argmax(1)
        logs[f"accuracy_{k}"] = (found == torch.arange(len(found), device=found.device)).float().mean()
    return {name: sum(logs[f"{name}_{k}"] for k in heads) / len(heads) for name in ("loss", "accuracy")} | logs


class CPC(Method):
    """The encoder sees overlapping patches of a picture, each by itself; from the rows so far, the patches of rows
    further down are told from all other patches (section 3.3, figure 4).

    patch, stride: of the patches, in pixels of the view. dim: of what is predicted. steps: how many rows ahead, one
    layer W_k each; rows that overlap the context's own, which could be copied, are left out, and None takes all there
    are. negatives: as in `cpc_loss`. views: of a size that patches tile.
    """

    objective = staticmethod(cpc_loss)  # the loss of predictions and targets: a subclass may name another

    def __init__(self, encoder: nn.Module, *, patch: int = 16, stride: int = 8, dim: int = 128,
                 steps: int | None = None, negatives: str = "all", views: nn.Module | None = None):
        super().__init__(encoder, views or augment.weak(size=48))
        check_negatives(negatives)
        size = getattr(self.views, "size", None)
        if size is None:
            raise TypeError(f"patches tile views of a known size, and {type(self.views).__name__} has no `size`: give "
                            "it one, or take views=augment.weak(size=48)")
        first = math.ceil(patch / stride)
        most = (size - patch) // stride + 1 - first
        if not 1 <= stride <= patch or (size - patch) % stride or most < 1:
            raise ValueError(f"patches of {patch} pixels, {stride} apart, do not tile views of size {size} in rows "
                             "enough to predict one that does not overlap: 16 and 8 suit 40 and 48")
        if steps is not None and not 1 <= steps <= most:
            raise ValueError(f"there are 1 to {most} rows to predict, got steps={steps}")
        self.patch, self.stride, self.negatives = patch, stride, negatives
        self.latent, self.context = nn.Linear(encoder.dim, dim), RowsAbove(dim)
        self.heads = nn.ModuleDict({str(k): nn.Linear(dim, dim, bias=False)
                                    for k in range(first, first + (steps or most))})

    def latents(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n r c d"]:
        """An embedding for each patch of the grid."""
        patches = x.unfold(2, self.patch, self.stride).unfold(3, self.patch, self.stride).permute(0, 2, 3, 1, 4, 5)
        return self.latent(self.encoder(patches.flatten(0, 2))).unflatten(0, patches.shape[:3])

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        z = self.latents(self.view(batch.x))
        context = self.context(z.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return terms(self.heads, context, z, self.negatives, self.objective)


class SequenceCPC(Method):
    """CPC of signals: a GRU reads the embeddings so far, and each W_k predicts the embedding k steps on (section 2.2).

    It trains on batches whose `x` are signals, floats `[N, T, C]`. encoder: a `SignalEncoder`. width: of the GRU's
    context. steps: how many steps ahead are predicted, from the first on. Where the encoder's windows overlap, as
    those of `SignalEncoder` do by six of ten samples, the first step shares samples with what the context has seen.
    """

    objective = staticmethod(cpc_loss)

    def __init__(self, encoder: nn.Module, *, width: int = 32, steps: int = 4, negatives: str = "all",
                 views: nn.Module | None = None):
        super().__init__(encoder, views or nn.Identity())
        check_negatives(negatives)
        if steps < 1:
            raise ValueError(f"at least 1 step ahead must be predicted, got steps={steps}")
        self.gru = nn.GRU(encoder.dim, width, batch_first=True)
        self.heads = nn.ModuleDict({str(k): nn.Linear(width, encoder.dim, bias=False) for k in range(1, steps + 1)})
        self.negatives = negatives

    def contexts(self, x: Float[Tensor, "n t c"]) -> Float[Tensor, "n s w"]:
        """What the GRU knows after each embedding, of it and of those before."""
        return self.gru(self.encoder(x))[0]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        z = self.encoder(self.views(batch.x))
        if z.shape[1] <= len(self.heads):
            raise ValueError(f"{len(self.heads)} steps ahead need more than {len(self.heads)} embeddings of a signal, "
                             f"got {z.shape[1]}: give longer signals")
        return terms(self.heads, self.gru(z)[0], z, self.negatives, self.objective)
