"""MoCo: negatives from a queue, made by an encoder that changes slowly (He et al. 2020; version 2 Chen et al. 2020)"""

from __future__ import annotations

import copy
import warnings

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_lib import augment
from course_lib.data.types import Images
from course_lib.methods.base import Batch, Method
from course_lib.nets import mlp
from course_lib.parts import Queue, ema_update, info_nce

QUEUE = 4096


def queue_for(images: Images, queue: int | None = None) -> int:
    """How many keys to hold: what is given, else 4096, and at most an eighth of the pictures.

    Pictures come in a new order in each epoch, so of a queue of a share s of them a picture meets an older key of its
    own with a probability of s²/2 where s is at most 1: a negative that should be near. A longer queue than there are
    pictures is warned of.
    """
    eighth = max(1, len(images) // 8)
    if queue is None:
        return min(QUEUE, eighth)
    if queue > len(images):
        warnings.warn(f"a queue of {queue} keys is longer than the {len(images)} pictures, so every picture meets "
                      f"older keys of its own as negatives: with queue={eighth} one in a hundred does", stacklevel=3)
    return queue


class MoCo(Method):
    """A query asks which key is of its picture: the one that a slow copy of the encoder makes of another view, or one
    of those in the queue, which are of earlier batches.

    queue: how many keys it holds. momentum: how much of the slow copy stays at each step; the paper has 0.999 for far
    longer trainings. version: 1 has a linear head, 2 one with a hidden layer; the paper's second version also has
    SimCLR's views and a higher temperature, which are arguments here.
    groups: in how many parts, each with its own BatchNorm statistics, a batch goes through both networks, as over so
    many GPUs. shuffle: with more than one group, deal the keys to other groups than their queries, so that statistics
    do not give away which key belongs to a query (section 3.3, "shuffling BN").
    """

    not_shipped = ("queue.",)

    def __init__(self, encoder: nn.Module, *, dim: int = 128, queue: int = QUEUE, momentum: float = 0.99,
                 temperature: float = 0.2, version: int = 2, groups: int = 4, shuffle: bool = True,
                 views: nn.Module | None = None):
        super().__init__(encoder, views or augment.simclr())
        if version not in (1, 2):
            raise ValueError(f"version must be 1 (a linear head) or 2 (a hidden layer), got {version!r}")
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum is a share of the old keys' encoder and must lie in [0, 1], got {momentum}: "
                             "0.99 is usual")
        if groups < 1:
            raise ValueError(f"groups must be at least 1, for one BatchNorm over the whole batch, got {groups}")
        self.head = mlp(*([encoder.dim] * version), dim, norm=False)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.queue = Queue(queue, dim)
        self.momentum, self.temperature, self.version = momentum, temperature, version
        self.groups, self.shuffle, self.smallest_batch = groups, shuffle, 2 * groups

    @classmethod
    def build(cls, encoder: nn.Module, images: Images, **options) -> MoCo:
        """With a queue for these pictures, see `queue_for`."""
        options["queue"] = queue_for(images, options.get("queue"))
        return super().build(encoder, images, **options)

    @property
    def student(self) -> nn.Sequential:
        """What the teacher is a slow copy of: encoder and head."""
        return nn.Sequential(self.encoder, self.head)

    def objective(self, q: Float[Tensor, "n d"], k: Float[Tensor, "n d"], queue: Float[Tensor, "size d"]
                  ) -> Float[Tensor, ""]:
        """The loss of queries, their keys and the queue: the one line to override for another loss."""
        return info_nce(q, k, queue, self.temperature)

    def loss(self, batch: Batch) -> Tensor:
        v1, v2 = self.view(batch.x), self.view(batch.x)
        q = self.in_groups(self.student, v1)
        with torch.no_grad():
            order = torch.randperm(len(v2), device=v2.device) if self.shuffle else torch.arange(len(v2))
            k = self.in_groups(self.teacher, v2[order])[order.argsort()]
        self.newest = k
        return self.objective(q, k, self.queue.get())

    def in_groups(self, network: nn.Module, x: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n d"]:
        """The network's answers, group after group, each seen with its own batch statistics."""
        return torch.cat([network(part) for part in x.tensor_split(min(self.groups, len(x)))])

    def after_step(self, progress: float) -> None:
        self.queue.push(self.newest)  # after the loss, or a query would meet its own key among the negatives
        ema_update(self.teacher, self.student, self.momentum)
