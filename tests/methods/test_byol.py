"""BYOL's loss beside a slow loop, and a teacher that only follows."""

from __future__ import annotations

import pytest
import torch
from reference import losses
from reference.compare import assert_full_precision, assert_same

from course_lib.methods import BYOL, Batch
from course_lib.methods.distillation.byol import byol_loss
from course_lib.nets import convnet
from course_lib.parts import cosine_momentum


def four(n=6, d=5):
    return [torch.randn(n, d, dtype=torch.float64) for _ in range(4)]


@pytest.mark.parametrize("n", [1, 6])
def test_beside_a_loop(n):
    assert_same(byol_loss, losses.byol, *four(n))


def test_limits_by_hand():
    p1, p2 = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    assert byol_loss(p1, p2, 2 * p2, 3 * p1).item() == pytest.approx(0)
    assert byol_loss(p1, p2, -p2, -p1).item() == pytest.approx(8)
    right, up = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    assert byol_loss(right, right, up, up).item() == pytest.approx(4)
    assert byol_loss(right, up, right, right).item() == pytest.approx(2)  # view 1 is right, view 2 at a right angle
    wide = [torch.randn(200, 20_000) for _ in range(4)]
    assert byol_loss(*wide).item() == pytest.approx(4, abs=0.01)


def test_views_are_crossed():
    p1, p2, z1, z2 = four()
    assert byol_loss(p1, p2, p1, p2) != byol_loss(p1, p2, p2, p1)  # p1 answers to z2, not to z1
    torch.testing.assert_close(byol_loss(p1, p2, z1, z2), byol_loss(p2, p1, z2, z1))


def test_what_changes_nothing():
    p1, p2, z1, z2 = four()
    loss, order = byol_loss(p1, p2, z1, z2), torch.randperm(6)
    turn = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    for changed in (byol_loss(2 * p1, 0.1 * p2, 5 * z1, z2), byol_loss(*(a[order] for a in (p1, p2, z1, z2))),
                    byol_loss(*(a @ turn for a in (p1, p2, z1, z2)))):
        torch.testing.assert_close(changed, loss)


def test_no_gradient_reaches_the_targets():
    p1, p2, z1, z2 = (a.requires_grad_() for a in four())
    byol_loss(p1, p2, z1, z2).backward()
    assert z1.grad is None and z2.grad is None
    assert p1.grad.abs().sum() > 0 and p2.grad.abs().sum() > 0


def test_full_precision_inside_autocast():
    assert_full_precision(byol_loss, *(a.float() for a in four(8, 32)))


def test_lightlys_loss_on_our_scale():
    theirs = pytest.importorskip("lightly.loss", reason="lightly is a dependency of development alone")
    p1, p2, z1, z2 = four()
    negative_cosine = theirs.NegativeCosineSimilarity()
    torch.testing.assert_close(byol_loss(p1, p2, z1, z2), 4 + 2 * (negative_cosine(p1, z2) + negative_cosine(p2, z1)))


def test_bad_input():
    p1, p2, z1, z2 = four()
    with pytest.raises(ValueError, match=r"got \[6, 5\] and \[5, 5\]"):
        byol_loss(p1, p2, z1, z2[:5])
    with pytest.raises(ValueError, match=r"got \[6, 5\] and \[6, 4\]"):
        byol_loss(p1, p2, z1[:, :4], z2)


# --- the teacher ------------------------------------------------------------------------------------------------------


def method():
    return BYOL(convnet((8,), 16), hidden=12, dim=6, momentum=0.9)



def test_the_teacher_starts_as_the_student_and_without_a_predictor():
    byol = method()
    assert [p.shape for p in byol.teacher.parameters()] == [p.shape for p in byol.student.parameters()]
    for t, s in zip(byol.teacher.parameters(), byol.student.parameters(), strict=True):
        assert torch.equal(t, s) and t is not s and not t.requires_grad
    assert byol.student[0] is byol.encoder and byol.student[1] is byol.projector


def test_only_after_step_moves_the_teacher():
    byol = method()
    batch = Batch(torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8), torch.arange(8))
    start = [p.clone() for p in byol.teacher.parameters()]
    optimizer = torch.optim.SGD([p for p in byol.parameters() if p.requires_grad], lr=0.5)
    byol.before_step(0.0)
    byol.loss(batch).backward()
    optimizer.step()
    assert all(p.grad is None for p in byol.teacher.parameters())
    assert all(torch.equal(a, b) for a, b in zip(start, byol.teacher.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(start, byol.student.parameters(), strict=True))

    byol.after_step(0.3)
    m = cosine_momentum(0.9, 0.3)
    for old, new, student in zip(start, byol.teacher.parameters(), byol.student.parameters(), strict=True):
        torch.testing.assert_close(new, m * old + (1 - m) * student.detach())


def test_the_teacher_takes_the_students_running_statistics_and_rests_at_the_end():
    byol = method()
    byol.loss(Batch(torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8), torch.arange(8)))
    with torch.no_grad():
        for p in byol.student.parameters():
            p.add_(1)
    before = [p.clone() for p in byol.teacher.parameters()]
    byol.after_step(1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, byol.teacher.parameters(), strict=True))
    for t, s in zip(byol.teacher.buffers(), byol.student.buffers(), strict=True):
        assert torch.equal(t, s)
