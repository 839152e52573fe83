"""A teacher follows its student: weights by the formula, buffers as asked."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from course_lib.parts import cosine_momentum, ema_update


def pair():
    """A teacher and a student whose weights, running statistics and counters all differ."""
    student = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    teacher = copy.deepcopy(student)
    student(torch.randn(50, 3) + 5)
    with torch.no_grad():
        for p in student.parameters():
            p.add_(1 + torch.rand_like(p))
    return teacher, student


def changed(before, after):
    return {k for k in before if not torch.equal(before[k], after[k])}


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_weights_move_by_the_formula_and_the_student_stays(momentum):
    teacher, student = pair()
    old = [p.detach().clone() for p in teacher.parameters()]
    students = copy.deepcopy(student.state_dict())
    ema_update(teacher, student, momentum)
    for before, now, target in zip(old, teacher.parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(now.detach(), momentum * before + (1 - momentum) * target.detach())
    assert changed(students, student.state_dict()) == set()


@pytest.mark.parametrize("mode", ["copy", "ema", "none"])
def test_buffers(mode):
    teacher, student = pair()
    old, new = copy.deepcopy(teacher[1]), student[1]
    ema_update(teacher, student, 0.9, buffers=mode)
    share = {"copy": 1.0, "ema": 0.1, "none": 0.0}[mode]
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(teacher[1], name),
                                   (1 - share) * getattr(old, name) + share * getattr(new, name))
    assert teacher[1].num_batches_tracked == (0 if mode == "none" else 1)


def test_buffers_are_copied_unless_told_otherwise():
    teacher, student = pair()
    ema_update(teacher, student, 0.9)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(getattr(teacher[1], name), getattr(student[1], name)), name


def test_an_update_leaves_no_graph_behind():
    teacher, student = pair()
    ema_update(teacher, student, 0.5)
    assert all(p.is_leaf and p.grad_fn is None for p in teacher.parameters())


def test_many_updates_forget_the_start():
    teacher, student = pair()
    for _ in range(200):
        ema_update(teacher, student, 0.9)
    for t, s in zip(teacher.parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(t, s)


@pytest.mark.parametrize("momentum", [-0.1, 1.1, math.nan])
def test_momentum_out_of_range(momentum):
    with pytest.raises(ValueError, match=rf"momentum must lie in \[0, 1\], got {momentum}"):
        ema_update(*pair(), momentum)


def test_unknown_buffers_and_another_architecture():
    with pytest.raises(ValueError, match="buffers must be 'copy', 'ema' or 'none', got 'keep'"):
        ema_update(*pair(), 0.9, buffers="keep")
    with pytest.raises(ValueError):
        ema_update(nn.Linear(3, 4), nn.Linear(3, 4, bias=False), 0.9)


def test_cosine_momentum_rises_from_its_start_to_one():
    assert cosine_momentum(0.99, 0.0) == pytest.approx(0.99)
    assert cosine_momentum(0.99, 0.5) == pytest.approx(0.995)
    assert cosine_momentum(0.99, 1.0) == 1.0
    values = [cosine_momentum(0.9, i / 20) for i in range(21)]
    assert values == sorted(values)
    assert values[1] - values[0] < values[10] - values[9] > values[20] - values[19]


@pytest.mark.parametrize(("start", "progress"), [(2.0, 0.0), (-0.1, 0.5), (0.99, 1.5), (0.99, -0.5), (math.nan, 0.5)])
def test_cosine_momentum_out_of_range(start, progress):
    with pytest.raises(ValueError, match=rf"lies in \[0, 1\], got start={start} and progress={progress}"):
        cosine_momentum(start, progress)
