"""Queue and memory bank: what they hold after any batches, what is saved, and that nobody is their own negative."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from course_lib.parts import MemoryBank, Queue


def unit(*shape):
    return F.normalize(torch.randn(*shape), dim=-1)


@pytest.mark.parametrize("sizes", [(3, 3, 3, 3), (8,), (5, 5), (1,) * 11, (7, 2, 9), (20,), (3, 30, 2)])
def test_a_queue_holds_the_last_ones_at_any_batch_size(sizes):
    queue, pushed = Queue(8, 4), []
    before = queue.get()
    for n in sizes:
        z = unit(n, 4)
        wanted = queue.pushed(z)
        queue.push(3 * z)  # lengths do not matter
        pushed += list(z)
        torch.testing.assert_close(queue.get(), wanted)
        rows = {tuple(row.tolist()) for row in queue.get().double().round(decimals=5)}
        last = {tuple(row.double().round(decimals=5).tolist()) for row in pushed[-8:]}
        assert last <= rows and queue.full == (len(pushed) >= 8)
        assert len(last) == min(8, len(pushed))
    if len(pushed) < 8:
        assert torch.equal(queue.get()[len(pushed) :], before[len(pushed) :]), "the rest is still as it was"


def test_a_queue_in_batches_of_any_size_is_the_queue_of_one_by_one():
    z, whole, single = unit(23, 4), Queue(8, 4), Queue(8, 4)
    for part in z.split(5):
        whole.push(part)
    for row in z.split(1):
        single.push(row)
    torch.testing.assert_close(whole.get(), single.get())


def test_a_later_push_does_not_change_what_a_gradient_needs():
    queue, q = Queue(8, 4), torch.randn(3, 4, requires_grad=True)
    loss = (q @ queue.get().T).logsumexp(1).sum()
    wanted = torch.autograd.grad((q @ queue.get().T).logsumexp(1).sum(), q)[0]
    queue.push(unit(8, 4))
    torch.testing.assert_close(torch.autograd.grad(loss, q)[0], wanted)


def test_what_is_remembered_is_saved_and_goes_on_alike():
    queue, bank = Queue(8, 4), MemoryBank(9, 4)
    queue.push(unit(5, 4))
    bank.write(torch.arange(4), unit(4, 4))
    other_queue, other_bank = Queue(8, 4), MemoryBank(9, 4)
    other_queue.load_state_dict(copy.deepcopy(queue.state_dict()))
    other_bank.load_state_dict(copy.deepcopy(bank.state_dict()))
    z = unit(6, 4)
    for one, other in ((queue, other_queue), (bank, other_bank)):
        for each in (one, other):
            each.push(z) if isinstance(each, Queue) else each.write(torch.arange(3, 9), z)
        assert all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


def test_nothing_that_is_remembered_learns():
    queue, bank = Queue(8, 4), MemoryBank(9, 4)
    z = unit(4, 4).requires_grad_()
    queue.push(z)
    bank.write(torch.arange(4), z)
    assert not queue.get().requires_grad and not bank.get(torch.arange(4)).requires_grad
    assert not list(queue.parameters()) + list(bank.parameters())


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_a_slot_moves_towards_the_new_embedding(momentum):
    bank, z, index = MemoryBank(9, 4, momentum), torch.randn(3, 4), torch.tensor([7, 0, 3])
    before = bank.rows.clone()
    bank.write(index, z)
    for i, new in zip(index.tolist(), z, strict=True):
        wanted = momentum * before[i] + (1 - momentum) * new / new.norm()
        torch.testing.assert_close(bank.rows[i], wanted / wanted.norm())
    others = [i for i in range(9) if i not in index.tolist()]
    assert torch.equal(bank.rows[others], before[others])
    torch.testing.assert_close(bank.get(index), bank.rows[index])


def test_no_picture_is_among_its_own_negatives_and_every_other_is():
    bank = MemoryBank(6, 4)
    index = torch.tensor([0, 3, 5])
    drawn = bank.others(index, 2000)
    for row, i in zip(drawn, index.tolist(), strict=True):
        nearest = (row @ bank.rows.T).argmax(1)
        shares = torch.bincount(nearest, minlength=6) / 2000
        assert shares[i] == 0
        assert all(0.1 < shares[j] < 0.3 for j in range(6) if j != i), shares


@pytest.mark.parametrize(("call", "message"), [
    (lambda: Queue(0, 4), "a queue holds at least 1 embedding, got size=0: 4096 is usual"),
    (lambda: Queue(8, 4).push(torch.randn(3, 5)), r"holds embeddings \[N, 4\], got \[3, 5\]: build it with the dim"),
    (lambda: Queue(8, 4).pushed(torch.randn(4)), r"holds embeddings \[N, 4\], got \[4\]"),
    (lambda: MemoryBank(0, 4), r"at least 1, got n=0: give len\(images\)"),
    (lambda: MemoryBank(5, 4, 1.0), r"must lie in \[0, 1\), got 1\.0"),
    (lambda: MemoryBank(5, 4).get(None), "by their numbers, and this batch has none"),
    (lambda: MemoryBank(5, 4).get(torch.tensor([1, 5])), "has slots 0 to 4, got pictures 1 to 5: build the method"),
    (lambda: MemoryBank(5, 4).get(torch.tensor([-1])), "got pictures -1 to -1"),
    (lambda: MemoryBank(5, 4).write(torch.tensor([1]), torch.randn(2, 4)), r"1 slots take .*\[1, 4\], got \[2, 4\]"),
    (lambda: MemoryBank(1, 4).others(torch.tensor([0]), 3), "negatives come from other pictures: 1 slots and k=3 give"),
    (lambda: MemoryBank(5, 4).others(torch.tensor([0]), 0), "5 slots and k=0 give none"),
])
def test_bad_input_is_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()
