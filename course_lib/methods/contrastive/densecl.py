"""DenseCL: contrast of places as well as of pictures (Wang et al. 2021)."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_lib import augment
from course_lib.methods.base import Batch, Method
from course_lib.nets import Encoder, mlp
from course_lib.parts import Queue, ema_update, info_nce


@torch.no_grad()
def match(maps: Float[Tensor, "n p c"], others: Float[Tensor, "n p c"]) -> Int64[Tensor, "n p"]:
    """For each place of a view, the place of the other view with the largest cosine (equation 3)."""
    return (F.normalize(maps.float(), dim=2) @ F.normalize(others.float(), dim=2).mT).argmax(2)


def embed(networks: nn.ModuleList, x: Float[Tensor, "n 3 h w"]
          ) -> tuple[Float[Tensor, "n p c"], Float[Tensor, "n d"], Float[Tensor, "n p d"]]:
    """A view through encoder, head and head of places: backbone features of each place, one embedding of the picture,
    and one of each place."""
    encoder, head, place_head = networks
    maps = encoder.maps(x)
    places = maps.flatten(2).mT
    return places, head(encoder.pool(maps)), place_head(places)


class DenseCL(Method):
    """MoCo twice: once between pictures, and once between places of two views that correspond, which the backbone's own
    features decide. Negatives of places are means over the places of earlier pictures.

    encoder: one with `maps`. weight: λ, the share of the places' loss. queue, momentum, temperature: as in `MoCo`.
    """

    not_shipped = ("queue.", "place_queue.")

    def __init__(self, encoder: Encoder, *, dim: int = 128, weight: float = 0.5, queue: int = 4096,
                 momentum: float = 0.99, temperature: float = 0.2, views: nn.Module | None = None):
        super().__init__(encoder, views or augment.simclr())
        if not hasattr(encoder, "maps"):
            raise TypeError(f"DenseCL compares places and needs an encoder with maps, got {type(encoder).__name__}: "
                            "give cl.nets.convnet()")
        for name, value in (("weight", weight), ("momentum", momentum)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {value}")
        width = encoder.channels[-1]
        self.head = mlp(encoder.dim, encoder.dim, dim, norm=False)
        self.place_head = mlp(width, width, dim, norm=False)  # on each place by itself: a convolution of 1×1
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.queue, self.place_queue = Queue(queue, dim), Queue(queue, dim)
        self.weight, self.momentum, self.temperature = weight, momentum, temperature

    @property
    def student(self) -> nn.ModuleList:
        """What the teacher is a slow copy of."""
        return nn.ModuleList([self.encoder, self.head, self.place_head])

    def objective(self, q: Float[Tensor, "n d"], k: Float[Tensor, "n d"], queue: Float[Tensor, "size d"]
                  ) -> Float[Tensor, ""]:
        """The loss of queries, keys and a queue, of pictures and of places: the line to override for another."""
        return info_nce(q, k, queue, self.temperature)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        maps, q, r = embed(self.student, self.view(batch.x))
        with torch.no_grad():
            key_maps, k, t = embed(self.teacher, self.view(batch.x))
        found = match(maps, key_maps)
        t_found = t.gather(1, found[:, :, None].expand(-1, -1, t.shape[2]))
        of_pictures = self.objective(q, k, self.queue.get())
        of_places = self.objective(r.flatten(0, 1), t_found.flatten(0, 1), self.place_queue.get())
        self.newest = k, F.normalize(t, dim=2).mean(1)
        return {"loss": (1 - self.weight) * of_pictures + self.weight * of_places,
                "loss_pictures": of_pictures, "loss_places": of_places}

    def after_step(self, progress: float) -> None:
        for queue, newest in zip((self.queue, self.place_queue), self.newest, strict=True):
            queue.push(newest)
        ema_update(self.teacher, self.student, self.momentum)
