"""Two processes with half of the batch each must do what one process does with all of it."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from course_lib.methods import Batch, SimCLR, VICReg
from course_lib.parts import gather

WORLD, ROWS = 2, 6  # processes, pictures in each


class Flips(nn.Module):
    """Two views without chance: the picture, then its mirror image, in turn."""

    def __init__(self):
        super().__init__()
        self.turns = itertools.cycle((1, -1))

    def forward(self, x):
        return x if next(self.turns) == 1 else x.flip(3)


class Flat(nn.Module):
    """A linear encoder: BatchNorm would see half of the batch in each process, which is not what is tested here."""

    dim = 5

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 16, self.dim)

    def forward(self, x):
        return self.layer(x.flatten(1))


def build(name):
    torch.manual_seed(1)
    if name == "simclr":
        method = SimCLR(Flat(), dim=4, projector="linear", views=Flips())
    else:
        method = VICReg(Flat(), dim=4, views=Flips())
        method.expander = nn.Linear(5, 4)
    return method.double()


def pictures():
    return torch.rand(WORLD * ROWS, 3, 4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def step(method, x, model=None):
    """The loss of one step and the gradient of every weight."""
    out = (model or method)(Batch(x, torch.arange(len(x))))
    loss = out["loss"] if isinstance(out, dict) else out
    loss.backward()
    return [loss.detach(), *(p.grad for p in method.parameters())]


def rows(z):
    """Some numbers for each process to gather, with a weight for each so that gradients differ."""
    return torch.arange(1.0, WORLD * ROWS * 3 + 1, dtype=torch.float64).view(WORLD * ROWS, 3)[z]


def work(rank, folder):
    """One of the processes: everything it finds goes to a file."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    mine = slice(rank * ROWS, (rank + 1) * ROWS)
    found = {}
    for name in ("simclr", "vicreg"):
        method = build(name)
        found[name] = step(method, pictures()[mine], DistributedDataParallel(method))

    a = rows(mine).clone().requires_grad_()
    b = rows(mine).mT.contiguous().mT.requires_grad_()  # columns first in memory
    total = gather(a) + gather(b)  # autograd hands both the very same tensor of gradients
    (total * rows(slice(None))).sum().backward()
    found["index"] = gather(torch.arange(ROWS) + 100 * rank)
    found["booleans"] = gather(torch.arange(ROWS).view(ROWS, 1) > rank)
    found["gathered"], found["grad a"], found["grad b"] = total.detach(), a.grad, b.grad
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each of the two processes found."""
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(work, (str(folder),), nprocs=WORLD)
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]


def test_alone_gather_is_the_tensor_itself():
    z = torch.randn(4, 3, requires_grad=True)
    assert gather(z) is z


def test_rows_come_in_the_order_of_the_ranks(found):
    for process in found:
        assert torch.equal(process["gathered"], 2 * rows(slice(None)))


def test_integers_are_gathered_without_a_gradient(found):
    wanted = torch.cat([torch.arange(ROWS), torch.arange(ROWS) + 100])
    above = torch.cat([torch.arange(ROWS) > 0, torch.arange(ROWS) > 1])[:, None]
    for process in found:
        assert torch.equal(process["index"], wanted) and not process["index"].requires_grad
        assert torch.equal(process["booleans"], above)


def test_every_row_gets_its_gradient_from_every_process(found):
    for rank, process in enumerate(found):
        wanted = WORLD * rows(slice(rank * ROWS, (rank + 1) * ROWS))  # each process computed the same loss
        assert torch.equal(process["grad a"], wanted) and torch.equal(process["grad b"], wanted)


@pytest.mark.parametrize("name", ["simclr", "vicreg"])
def test_two_processes_train_as_one_with_the_whole_batch(found, name):
    alone = step(build(name), pictures())
    assert all(g.abs().sum() > 1e-6 for g in alone[1::2])  # weights; a bias may well have no gradient
    for process in found:
        for ours, wanted in zip(process[name], alone, strict=True):
            torch.testing.assert_close(ours, wanted, rtol=1e-9, atol=1e-12)
