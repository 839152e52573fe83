"""InfoNCE beside slow loops and lightly's, at limits known by hand, with bad input."""

from __future__ import annotations

import math

import pytest
import torch
from reference import losses
from reference.compare import assert_full_precision, assert_same

from course_lib.parts import batch_info_nce, info_nce


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.07, 1.0])
@pytest.mark.parametrize("shape", [(6, 5), (4, 6, 5)])
def test_beside_a_loop(shape, temperature):
    assert_same(info_nce, losses.info_nce, draw(4, 5), draw(4, 5), draw(*shape), temperature=temperature)


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_in_a_batch_beside_a_loop(temperature):
    assert_same(batch_info_nce, losses.batch_info_nce, draw(6, 5), draw(6, 5), temperature=temperature)


def test_limits_by_hand():
    q, far = torch.eye(4, dtype=torch.float64)[:2], torch.eye(4, dtype=torch.float64)[2:]
    assert info_nce(q, 5 * q, far, 0.5).item() == pytest.approx(math.log(1 + 2 * math.exp(-2)))
    assert info_nce(q, q, q, 1e3).item() == pytest.approx(math.log(3), abs=1e-3)  # too warm to tell anything apart
    big = draw(3, 20_000)
    assert info_nce(big, draw(3, 20_000), draw(9, 20_000), 1.0).item() == pytest.approx(math.log(10), abs=0.05)
    assert batch_info_nce(q, q, 0.5).item() == pytest.approx(math.log(1 + math.exp(-2)))
    assert batch_info_nce(torch.ones(5, 3), torch.ones(5, 3)).item() == pytest.approx(math.log(5), rel=1e-6)


def test_each_querys_own_negatives_are_its_own():
    q, k, negatives = draw(3, 5), draw(3, 5), draw(3, 4, 5)
    apart = [info_nce(q[i : i + 1], k[i : i + 1], negatives[i]) for i in range(3)]
    torch.testing.assert_close(info_nce(q, k, negatives), sum(apart) / 3)
    shared = draw(4, 5)
    torch.testing.assert_close(info_nce(q, k, shared), info_nce(q, k, shared.expand(3, 4, 5)))


def test_what_changes_nothing():
    q, k, negatives = draw(3, 5), draw(3, 5), draw(4, 5)
    loss = info_nce(q, k, negatives)
    order = torch.tensor([2, 0, 1])
    for name, changed in {"lengths": info_nce(2 * q, 3 * k, 7 * negatives),
                          "the order of queries": info_nce(q[order], k[order], negatives),
                          "the order of negatives": info_nce(q, k, negatives.flip(0))}.items():
        torch.testing.assert_close(changed, loss, msg=f"changed by {name}")
    assert info_nce(q, k[order], negatives) != loss and batch_info_nce(q, k) != batch_info_nce(k, q)


def test_full_precision_inside_autocast():
    z = torch.randn(3, 8, 16)
    assert_full_precision(info_nce, z[0], z[1], z[2], temperature=0.07)
    assert_full_precision(batch_info_nce, z[0], z[1], temperature=0.07)


def test_lightlys_loss_with_a_queue_is_the_same():
    theirs = pytest.importorskip("lightly.loss", reason="lightly is a dependency of development alone")
    loss, q, k = theirs.NTXentLoss(0.2, memory_bank_size=(16, 8)), draw(4, 8).float(), draw(4, 8).float()
    loss(draw(4, 8).float(), draw(4, 8).float())  # the first call makes the bank
    bank = loss.memory_bank.bank.clone()
    negatives = bank.T if bank.shape == (8, 16) else bank
    torch.testing.assert_close(info_nce(q, k, negatives, 0.2), loss(q, k))


@pytest.mark.parametrize(("shapes", "message"), [
    (((4, 5), (3, 5), (6, 5)), r"of one shape \[N, D\], got \[4, 5\] and \[3, 5\]"),
    (((4, 5), (4, 5), (6, 4)), r"negatives must be \[K, 5\], or \[4, K, 5\] .*, got \[6, 4\]"),
    (((4, 5), (4, 5), (3, 6, 5)), r"or \[4, K, 5\] .*, got \[3, 6, 5\]"),
    (((4, 5), (4, 5), (0, 5)), r"K at least 1, got \[0, 5\]"),
    (((4, 5), (4, 5), (5,)), r"got \[5\]"),
])
def test_shapes_that_do_not_fit_are_one_sentence(shapes, message):
    with pytest.raises(ValueError, match=message):
        info_nce(*(draw(*shape) for shape in shapes))


def test_temperatures_and_batches_that_cannot_be():
    z = draw(4, 5)
    for temperature in (0.0, -1.0, math.nan):
        for loss in (lambda t=temperature: info_nce(z, z, z, t), lambda t=temperature: batch_info_nce(z, z, t)):
            with pytest.raises(ValueError, match=f"temperature must be positive, got {temperature}"):
                loss()
    with pytest.raises(ValueError, match="needs at least 2 of them, got 1"):
        batch_info_nce(z[:1], z[:1])
