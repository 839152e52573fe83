"""Pictures whose neighbours are known by construction."""

from __future__ import annotations

import pytest
import torch
from viz_helpers import labelled

from course_lib.data.types import Images


@pytest.fixture
def images() -> Images:
    return labelled(40)


@pytest.fixture
def sorted_by_class() -> torch.Tensor:
    """Features `[40, 4]` in which every picture's neighbours are of its own class."""
    generator = torch.Generator().manual_seed(1)
    return torch.eye(4)[torch.arange(40) % 4] + 0.05 * torch.rand(40, 4, generator=generator)


@pytest.fixture
def shuffled() -> torch.Tensor:
    """Features `[40, 10]` in which every picture's three nearest are of the three other classes."""
    group = torch.arange(40) // 4
    generator = torch.Generator().manual_seed(1)
    return torch.eye(10)[group] + 0.01 * torch.rand(40, 10, generator=generator)
