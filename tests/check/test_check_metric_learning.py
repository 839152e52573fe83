"""The checkers of notebook 07: right answers in other words, and slips that the generic test does not make."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from course_lib.check import metric_learning as check


def sup_con(z, y, temperature):
    z = F.normalize(z, dim=1)
    itself = torch.eye(len(z), dtype=torch.bool)
    log_share = (z @ z.T / temperature).masked_fill(itself, -torch.inf).log_softmax(1)
    positive = (y[:, None] == y) & ~itself
    return -(log_share.masked_fill(~positive, 0).sum(1) / positive.sum(1)).mean()


def test_a_right_sup_con_passes():
    assert "✓ sup_con: 4 properties hold" in repr(check.sup_con(sup_con))


@pytest.mark.parametrize(("answer", "words"), [
    (lambda z, y, t: sup_con(z.detach(), y, t), "no gradient"),
    (lambda z, y, t: sup_con(z, y, 0.1), "your temperature is always 0.1"),
    (lambda z, y, t: 2 * sup_con(z, y, t) + 1, "is not that of a loop"),
    (lambda z, y, t: sup_con(z, y, t) / math.log(2), "base 2"),
])
def test_slips_in_sup_con(answer, words):
    said = repr(check.sup_con(answer))
    assert said.startswith("✗") and words in said


def triplet_cost(z, y, margin=0.2, squared=True, itself=False, anyone=False, floor=True):
    z, costs = F.normalize(z, dim=1), []
    d = (z[:, None] - z).square().sum(2)
    d = d if squared else d.add(1e-12).sqrt()
    for a in range(len(z)):
        for p in range(len(z)):
            if y[a] == y[p] and (a != p or itself):
                further = ((d[a] > d[a, p]) & ((y != y[a]) | anyone)).nonzero().flatten()
                if len(further):
                    cost = d[a, p] - d[a, further].min() + margin
                    costs.append(cost.clamp(min=0) if floor else cost)
    return torch.stack(costs).mean()


def test_a_right_triplet_cost_passes():
    assert "✓ triplet_cost: 3 properties hold" in repr(check.triplet_cost(triplet_cost))


MISTAKES = {"anyone": (True, "of the anchor's own class"), "itself": (True, "its own positive"),
            "floor": (False, "clamp it at 0"), "squared": (False, "not squared")}


@pytest.mark.parametrize("repaired", MISTAKES)
def test_of_the_mistakes_that_are_left_one_is_named(repaired):
    left = {name: value for name, (value, _) in MISTAKES.items() if name != repaired}
    said = repr(check.triplet_cost(lambda z, y, m=0.2: triplet_cost(z, y, m, **left)))
    assert said.startswith("✗") and "3 mistakes at once" in said
    assert MISTAKES[next(iter(left))][1] in said


@pytest.mark.parametrize("name", MISTAKES)
def test_the_last_mistake_is_named(name):
    said = repr(check.triplet_cost(lambda z, y, m=0.2: triplet_cost(z, y, m, **{name: MISTAKES[name][0]})))
    assert said.startswith("✗") and MISTAKES[name][1] in said


def pmi(counts):
    p = counts / counts.sum()
    return (p / (p.sum(1, keepdim=True) * p.sum(0, keepdim=True))).log()


def test_a_right_pmi_passes():
    assert "✓ pmi: 2 properties hold" in repr(check.pmi(pmi))


def test_shares_of_rows_alone_are_no_pmi():
    assert "divide by p(c) too" in repr(check.pmi(lambda n: (n / n.sum(1, keepdim=True)).log()))


@pytest.mark.parametrize("answer", [
    lambda y: y[torch.randperm(len(y))],
    lambda y: (y + 1 - y.min())[torch.randperm(len(y))] % 20,  # other names as well
])
def test_labels_given_out_anew_are_a_control(answer):
    assert "✓ labels_without_meaning: 2 properties hold" in repr(check.labels_without_meaning(answer))


@pytest.mark.parametrize(("answer", "words"), [
    (lambda y: y, "the labels as they were"),
    (lambda y: (y + 1) % 8, "gave the classes other names"),
    (lambda y: torch.zeros_like(y), "other sizes"),
    (lambda y: torch.randint(0, 8, y.shape), "other sizes"),
    (lambda y: y.roll(1), "% share one still"),
    (lambda y: y.sort().values, "the labels as they were"),
    (lambda y: y.float(), "labels are whole numbers"),
    (lambda y: y - 1, "labels that no class had"),
    (lambda y: y[:-1], "must have shape"),
])
def test_controls_that_are_none(answer, words):
    said = repr(check.labels_without_meaning(answer))
    assert said.startswith("✗") and words in said, said


@pytest.mark.parametrize(("guess", "passes"), [(4.85, True), (8.0, False), (7.0, False), (0.0, False)])
def test_a_reading_saturates(guess, passes):
    assert check.saturation(guess, 4.7).passed == passes


@pytest.mark.parametrize(("guess", "passes"), [(0.9, True), (0.909, True), (1.0, False), (0.5, False), (0.1, False)])
def test_what_a_collapse_costs(guess, passes):
    assert check.collapse_cost(guess).passed == passes
