"""Instance discrimination: every picture is a class of its own, and a memory bank is the classifier (Wu et al. 2018)"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_lib import augment
from course_lib.data.types import Images
from course_lib.methods.base import Batch, Method
from course_lib.parts import MemoryBank, full_precision, gather


@full_precision
def instance_softmax_loss(v: Float[Tensor, "n d"], bank: Float[Tensor, "p d"], index: Int64[Tensor, " n"],
                          temperature: float = 0.07) -> Float[Tensor, ""]:
    """−log of slot i's share among all P slots, mean over pictures (equation 2): exact, and as costly as P is large.

    v: L2-normalised here; bank: rows of length 1. log P for a blind guess.
    """
    return F.cross_entropy(F.normalize(v, dim=1) @ bank.T / temperature, index)


@full_precision
def nce_loss(v: Float[Tensor, "n d"], slot: Float[Tensor, "n d"], negatives: Float[Tensor, "n m d"],
             log_z: Tensor | float, pictures: int, temperature: float = 0.07) -> Float[Tensor, ""]:
    """−log h(i, v) − Σ log(1 − h(j, v)) over m negatives, mean over pictures: noise-contrastive estimation (equation 7)

    h(i, v) = P / (P + m/p) is how sure we are that slot i of p pictures belongs to v and is not one of m drawn blindly;
    P = exp(v·slot/τ) / Z (equations 4 and 6). v is L2-normalised here; slots have length 1, and no gradient goes to
    them. log_z: log Z, the sum of exp(v·slot/τ) over all p slots in place of which a constant stands, `estimate_log_z`.
    """
    v = F.normalize(v, dim=1)
    m = negatives.shape[1]
    logits = torch.cat([(v * slot.detach()).sum(1, keepdim=True), (negatives.detach() @ v[:, :, None]).squeeze(2)], 1)
    # log(h / (1 − h)) is the logarithm of P over m/p, so h is its sigmoid: no exponential can overflow.
    odds = logits / temperature - log_z - math.log(m / pictures)
    return (F.softplus(-odds[:, 0]) + F.softplus(odds[:, 1:]).sum(1)).mean()


@torch.no_grad()
@full_precision
def estimate_log_z(v: Float[Tensor, "n d"], negatives: Float[Tensor, "n m d"], pictures: int, temperature: float = 0.07
                   ) -> Float[Tensor, ""]:
    """log Z, where Z ≈ p · the mean of exp(v·slot/τ) over slots drawn blindly and over pictures (equation 8)."""
    cosines = negatives @ F.normalize(v, dim=1)[:, :, None]
    return (cosines / temperature).flatten().logsumexp(0) + math.log(pictures / cosines.numel())


class InstDisc(Method):
    """Each picture's view against its own slot in a memory bank, which afterwards moves towards it.

    pictures: how many there are. negatives: m slots of other pictures for each, drawn blindly; None for the exact
    softmax over all slots. proximal: λ of ‖v − slot‖², which keeps an embedding near what it was an epoch ago
    (equation 10); the paper has it, and its published code has not. momentum: of the slots.
    Z is estimated once, from the first batch, and stays.
    """

    remembers_pictures = True
    not_shipped = ("bank.",)

    def __init__(self, encoder: nn.Module, *, pictures: int, dim: int = 128, negatives: int | None = 1024,
                 temperature: float = 0.07, proximal: float = 0.0, momentum: float = 0.5,
                 views: nn.Module | None = None):
        super().__init__(encoder, views or augment.simclr())
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}: 0.07 is usual")
        if proximal < 0:
            raise ValueError(f"proximal is the weight of a distance and cannot be negative, got {proximal}")
        self.head, self.bank = nn.Linear(encoder.dim, dim), MemoryBank(pictures, dim, momentum)
        self.register_buffer("log_z", torch.zeros(()))  # a logarithm: Z itself may be too large for float16
        self.pictures, self.negatives, self.temperature, self.proximal = pictures, negatives, temperature, proximal

    @classmethod
    def build(cls, encoder: nn.Module, images: Images, **options) -> InstDisc:
        return super().build(encoder, images, pictures=len(images), **options)

    def objective(self, v: Float[Tensor, "n d"], index: Int64[Tensor, " n"]) -> Float[Tensor, ""]:
        """The loss of embeddings and the numbers of their pictures: the line to override for another loss."""
        if self.negatives is None:
            return instance_softmax_loss(v, self.bank.rows.clone(), index, self.temperature)
        negatives = self.bank.others(index, self.negatives)
        if self.log_z == 0:
            self.log_z.copy_(gather(estimate_log_z(v, negatives, self.pictures, self.temperature)[None]).mean())
        return nce_loss(v, self.bank.get(index), negatives, self.log_z.clone(), self.pictures, self.temperature)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        slot = self.bank.get(batch.index)
        v = F.normalize(self.head(self.encoder(self.view(batch.x))).float(), dim=1)
        self.newest = batch.index, v.detach()
        moved = (v - slot).square().sum(1).mean()
        return {"loss": self.objective(v, batch.index) + self.proximal * moved, "moved": moved}

    def after_step(self, progress: float) -> None:
        self.bank.write(*self.newest)
