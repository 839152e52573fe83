"""Two processes with half of the batch each must do what one process does with all of it."""

from __future__ import annotations

import pytest
import torch
from reference.processes import ROOT, run_processes
from reference.small import Flat, Flips
from torch import nn

from course_lib.methods import Batch, SimCLR, VICReg
from course_lib.parts import gather

WORLD, ROWS = 2, 6  # processes, pictures in each

# What each process does: everything it finds goes to a file.
WORK = f"""
import sys
sys.path[:0] = [{str(ROOT / "tests")!r}]
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from course_lib.parts import gather
from parts.test_gather import ROWS, build, pictures, rows, step

dist.init_process_group("gloo")
rank = dist.get_rank()
mine = slice(rank * ROWS, (rank + 1) * ROWS)
found = {{}}
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
torch.save(found, f"{{sys.argv[1]}}/{{rank}}.pt")
"""


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
    loss = (model or method)(Batch(x))["loss"]
    loss.backward()
    return [loss.detach(), *(p.grad for p in method.parameters())]


def rows(z):
    """Some numbers for each process to gather, with a weight for each so that gradients differ."""
    return torch.arange(1.0, WORLD * ROWS * 3 + 1, dtype=torch.float64).view(WORLD * ROWS, 3)[z]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each of the two processes found."""
    folder = tmp_path_factory.mktemp("processes")
    run_processes(WORK, [folder], WORLD)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]


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
