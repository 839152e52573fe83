"""A short training of a pretext task, and how well it is solved afterwards on pictures that were not trained on."""

from __future__ import annotations

import torch

import course_lib as cl
from course_lib.data.types import Dataset
from course_lib.methods import Batch, Method


def accuracy_after(method: Method, data: Dataset, epochs: int) -> float:
    """Train, and return the accuracy that the method logs on the test pictures, always of the same draws."""
    cl.fit(method, data.pretrain, epochs=epochs, batch_size=32, lr=3e-3, precision="float32", device="cpu")
    torch.manual_seed(1)
    with torch.no_grad():
        return method.eval().loss(Batch(data.test.x, torch.arange(len(data.test))))["accuracy"].item()
