"""Two methods as somebody outside would write them, with `cl.Method` and nothing else of the library's insides.

Between them they use all that a method may have: a teacher, a centre and a queue, gathered over processes, gradients
that are clipped and weights that are frozen between backward and step, a schedule for the decay, a learning rate that
stays, and views of several sizes.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import nn

import course_lib as cl
from course_lib.parts import ema_update, gather


class SmallDINO(cl.Method):
    """A student says of every view what its slow teacher says of the large ones, less the teacher's mean answer."""

    def __init__(self, encoder, *, outputs=12, temperature=0.1, teacher_temperature=0.04, momentum=0.9, frozen=0.25,
                 decay=(0.04, 0.4), views=None):
        super().__init__(encoder, views or cl.augment.multicrop(16, 8, locals_=2))
        self.head = nn.Sequential(nn.Linear(encoder.dim, 8), nn.GELU(), nn.Linear(8, outputs, bias=False))
        self.teacher = copy.deepcopy(nn.Sequential(encoder, self.head)).requires_grad_(False)
        self.register_buffer("center", torch.zeros(outputs))
        self.temperature, self.teacher_temperature = temperature, teacher_temperature
        self.momentum, self.frozen, self.decay = momentum, frozen, decay

    def loss(self, batch):
        views = self.views(batch.x)
        with torch.no_grad():
            answers = [self.teacher(view).float() for view in views[:2]]
            targets = [((a - self.center) / self.teacher_temperature).softmax(1) for a in answers]
        logs = [F.log_softmax(self.head(self.encoder(view)).float() / self.temperature, 1) for view in views]
        terms = [-(target * log).sum(1).mean() for i, target in enumerate(targets) for j, log in enumerate(logs)
                 if i != j]
        with torch.no_grad():  # after its use: the next step has the new one
            self.center.lerp_(gather(torch.cat(answers)).mean(0), 0.1)
        return {"loss": sum(terms) / len(terms), "center": self.center.norm()}

    def before_update(self, optimizer, progress):
        nn.utils.clip_grad_norm_(self.parameters(), 0.5)
        if progress < self.frozen:
            self.head[-1].weight.grad = None
        start, end = self.decay
        for group in optimizer.param_groups:
            if group["weight_decay"] > 0:
                group["weight_decay"] = end + (start - end) * (1 + math.cos(math.pi * progress)) / 2

    def after_step(self, progress):
        ema_update(self.teacher, nn.Sequential(self.encoder, self.head), self.momentum)


class SmallQueue(cl.Method):
    """SimSiam with pictures of earlier steps as negatives: a queue that all processes fill and all see alike."""

    constant_lr = ("predictor",)

    def __init__(self, encoder, *, size=24, temperature=0.2, views=None):
        super().__init__(encoder, views or cl.augment.simclr(16))
        self.predictor = nn.Linear(encoder.dim, encoder.dim)
        self.register_buffer("queue", F.normalize(torch.randn(size, encoder.dim), dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))
        self.temperature = temperature

    def loss(self, batch):
        z1, z2 = (self.encoder(self.views(batch.x)).float() for _ in range(2))
        terms = [self.half(self.predictor(z1), z2), self.half(self.predictor(z2), z1)]
        self.newest = gather(F.normalize(z2.detach(), dim=1))
        return sum(terms) / 2

    def half(self, p, z):
        p, z = F.normalize(p, dim=1), F.normalize(z.detach(), dim=1)
        logits = torch.cat([(p * z).sum(1, keepdim=True), p @ self.queue.clone().T], 1) / self.temperature
        return F.cross_entropy(logits, torch.zeros(len(p), dtype=torch.int64, device=p.device))

    def after_step(self, progress):
        at = (self.place + torch.arange(len(self.newest), device=self.place.device)) % len(self.queue)
        self.queue[at] = self.newest
        self.place.copy_((self.place + len(self.newest)) % len(self.queue))


METHODS = {"SmallDINO": SmallDINO, "SmallQueue": SmallQueue}


def build(name, seed=0, **options):
    """One of the two around a small convnet, with batch norm and views of chance."""
    torch.manual_seed(seed)
    return METHODS[name](cl.nets.convnet((8, 8), 16), **options)


def pictures(n=64, size=16, labels=False):
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=draw)
    return cl.Images(x, torch.randint(0, 4, (n,), generator=draw), tuple("abcd")) if labels else cl.Images(x)
