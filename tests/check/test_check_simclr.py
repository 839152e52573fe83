"""The checkers of notebook 10 agree with right answers, however they are written, and name each typical mistake."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from course_lib.check import simclr as check
from course_lib.methods.contrastive import simclr


def nt_xent(z1, z2, temperature, *, normalize=True, diagonal=-torch.inf, times=False, roll=None, reduce="mean"):
    """The notebook's solution, with a place for each mistake."""
    z = torch.cat([z1, z2])
    z = F.normalize(z, dim=1) if normalize else z
    logits = z @ z.T * temperature if times else z @ z.T / temperature
    logits = logits if diagonal is None else logits.masked_fill(torch.eye(len(z), dtype=torch.bool), diagonal)
    return F.cross_entropy(logits, torch.arange(len(z)).roll(roll or len(z1)), reduction=reduce)


def with_exp(z1, z2, temperature, among=lambda s: s.sum(1) - s.diag()):
    """As many write it first: exponentials, and their sum."""
    z, n = F.normalize(torch.cat([z1, z2]), dim=1), len(z1)
    s = (z @ z.T / temperature).exp()
    rows = torch.arange(2 * n)
    return -(s[rows, rows.roll(n)] / among(s)).log().mean()


def one_direction(z1, z2, temperature):
    logits = F.normalize(z1, dim=1) @ F.normalize(z2, dim=1).T / temperature
    return F.cross_entropy(logits, torch.arange(len(z1)))


def no_positive_below(s):
    n = len(s) // 2
    return s.sum(1) - s.diag() - torch.cat([s.diag(n), s.diag(-n)])


def test_the_reference_is_the_librarys_loss():
    for n, d, temperature in ((2, 3, 0.5), (7, 5, 0.1), (6, 16, 2.0)):
        z1, z2 = check.pairs(n, d)
        torch.testing.assert_close(check.slow_nt_xent(z1, z2, temperature).float(),
                                   simclr.nt_xent(z1, z2, temperature))


@pytest.mark.parametrize("answer", [simclr.nt_xent, check.slow_nt_xent, nt_xent])
def test_right_answers_pass(answer):
    verdict = check.nt_xent(answer)
    assert verdict.passed, verdict
    assert "6 properties hold" in repr(verdict)


@pytest.mark.parametrize(("options", "words"), [
    ({"diagonal": None}, "counts each anchor as its own negative"),
    ({"diagonal": 0.0}, "the diagonal is 0, and exp"),
    ({"normalize": False}, "not normalised"),
    ({"times": True}, "you multiply by the temperature"),
    ({"roll": 1}, "the row next to it"),
    ({"roll": -1}, "the row next to it"),
    ({"reduce": "sum"}, "you add up the anchors' losses"),
    ({"reduce": "none"}, r"your loss must have shape [], and it has [8]"),
    ({"diagonal": 0.0, "times": True}, "2 mistakes at once; one of them: the diagonal is 0"),
    ({"diagonal": None, "normalize": False, "roll": 1}, "3 mistakes at once; one of them: your loss counts"),
])
def test_mistakes_in_nt_xent_are_named(options, words):
    said = repr(check.nt_xent(lambda z1, z2, temperature: nt_xent(z1, z2, temperature, **options)))
    assert said.startswith("✗")
    assert words in said


@pytest.mark.parametrize(("answer", "words"), [
    (lambda z1, z2, t: -nt_xent(z1, z2, t), "the sign is wrong"),
    (lambda z1, z2, t: 2 * nt_xent(z1, z2, t), "you divide by N, and there are 2N anchors"),
    (lambda z1, z2, t: nt_xent(z1, z2, t) / (2 * len(z1)), "you divide by 2N twice"),
    (lambda z1, z2, t: nt_xent(z1, z2, t) / math.log(2), "base 2"),
    (lambda z1, z2, t: nt_xent(z1, z2, t) / math.log(10), "base 10"),
    (lambda z1, z2, t: nt_xent(z1, z2, 1.0), "the temperature is not used"),
    (lambda z1, z2, t: (one_direction(z1, z2, t) + one_direction(z2, z1, t)) / 2, "only those of the other view"),
    (lambda z1, z2, t: with_exp(z1, z2, t, no_positive_below), "the positive is missing from the denominator"),
    (lambda z1, z2, t: with_exp(z1, z2, t), "exp(200) is too large"),
    (lambda z1, z2, t: nt_xent(z1, z2.detach(), t), "no gradient reaches z2"),
    (lambda z1, z2, t: nt_xent(z1, z2, t).detach(), "no gradient comes out of it"),
    (lambda z1, z2, t: nt_xent(z1, z2, t).item(), "your loss must be a tensor, and it is a float"),
    (lambda z1, z2, t: nt_xent(z1, z2, t) + 0.1, "your loss is not that of a loop over the anchors"),
    (lambda z1, z2, t: torch.tensor(math.log(15)), "your loss is not that of a loop over the anchors"),
])
def test_other_mistakes_in_nt_xent_are_named(answer, words):
    said = repr(check.nt_xent(answer))
    assert said.startswith("✗")
    assert words in said


def test_every_slip_is_told_from_every_other():
    torch.manual_seed(1)
    cases = [(*check.pairs(4, 8), 0.5), (*check.pairs(5, 3), 0.2)]
    values = {sentence: torch.stack([slip(*case).double() for case in cases])
              for sentence, slip in check.slips(at_once=1)}
    values["right"] = torch.stack([check.slow_nt_xent(*case) for case in cases])
    names = list(values)
    alike = [(a, b) for i, a in enumerate(names) for b in names[:i] if torch.allclose(values[a], values[b], rtol=1e-3)]
    assert not alike


@pytest.mark.parametrize(("guess", "start", "words"), [
    (math.log(511), "✓", "log 511 = 6.236"),
    (6.2, "✓", "measured is 6.2"),
    (math.log(256), "✗", "that is log(N)"),
    (math.log10(511), "✗", "base 10"),
    (math.log2(511), "✗", "base 2"),
    (-math.log(511), "✗", "not below 0"),
    (4.0, "✗", "too low"),
    (..., "…", "not attempted yet"),
])
def test_the_loss_at_random_is_predicted(guess, start, words):
    said = repr(check.loss_at_random(guess))
    assert said.startswith(start)
    assert words in said


@pytest.mark.parametrize(("guess", "start", "words"), [
    (51, "✓", "2 × 255 / 10 = 51.0"), (25.5, "✗", "twice, once a view"), (459, "✗", "rightly negative"),
    (10, "✗", "in percent"), (0.1, "✗", "their share"), (None, "…", "not attempted yet")])
def test_the_number_of_false_negatives_is_predicted(guess, start, words):
    said = repr(check.false_negatives_guess(guess, 50.2, 256, 10))
    assert said.startswith(start)
    assert words in said


def count(y):
    return 2 * ((y[:, None] == y).sum(1) - 1).float().mean()


@pytest.mark.parametrize(("answer", "words"), [
    (count, "✓ false_negatives: 2 properties hold"),
    (lambda y: count(y) + 2, "neither is a negative"),
    (lambda y: count(y) + 1, "own positive"),
    (lambda y: count(y) / 2, "each one is there twice"),
    (lambda y: count(y) / (2 * len(y) - 2), "their share"),
    (lambda y: count(y) * 2 * len(y), "take the mean"),
    (lambda y: 2 * len(y) - 2 - count(y), "other classes"),
    (lambda y: 7.0, "counting one by one: 7 where"),
    (lambda y: ..., "… false_negatives: not attempted yet"),
])
def test_counting_false_negatives(answer, words):
    assert words in repr(check.false_negatives(answer))


def training_loss(x, views, encoder, projector, temperature):
    z1, z2 = (projector(encoder(views(x))) for _ in range(2))
    return nt_xent(z1, z2, temperature)


def both_at_once(x, views, encoder, projector, temperature):
    return nt_xent(*projector(encoder(views(torch.cat([x, x])))).chunk(2), temperature)


def half_blind(x, views, encoder, projector, temperature):
    z1 = projector(encoder(views(x)))
    with torch.no_grad():
        z2 = projector(encoder(views(x)))
    return nt_xent(z1, z2, temperature)


def same_view(x, views, encoder, projector, temperature):
    z = projector(encoder(views(x)))
    return nt_xent(z, z, temperature)


def friend(x, views, encoder, projector, temperature):
    """What is left of the notebook's exercise when its first mistake is repaired."""
    z1 = projector(encoder(views(x)))
    with torch.no_grad():
        z2 = projector(encoder(views(x)))
    return nt_xent(z1, z2, temperature, times=True, diagonal=0.0, roll=1)


@pytest.mark.parametrize(("answer", "words"), [
    (training_loss, "✓ training_loss: 3 properties hold"),
    (both_at_once, "✓ training_loss: 3 properties hold"),
    (same_view, "✗ training_loss: one view is drawn and used twice"),
    (lambda x, v, e, p, t: nt_xent(p(e(x)), p(e(x)), t), "draw views of them"),
    (lambda x, v, e, p, t: training_loss(x, v, e, p, t) + 0 * v(x).sum(), "15 views are drawn of 5 pictures"),
    (lambda x, v, e, p, t: training_loss(x, v, e, lambda h: h, t), "the projector is not used"),
    (friend, "3 mistakes at once; one of them: the diagonal is 0"),
    (half_blind, "the gradient is that of one view alone"),
    (lambda *parts: training_loss(*parts).detach(), "no gradient comes out of your loss"),
    (lambda *parts: training_loss(*parts) * 3, "your loss of two views is not NT-Xent"),
    (lambda *parts: ..., "… training_loss: not attempted yet"),
])
def test_the_training_step(answer, words):
    assert words in repr(check.training_loss(answer))


def apart(z1, z2, y, temperature, *, positive=False, twist=lambda mask: mask):
    z, y = F.normalize(torch.cat([z1, z2]), dim=1), torch.cat([y, y])
    partner = torch.arange(len(z)).roll(len(z1))
    out = twist(y[:, None] == y)
    out[torch.arange(len(z)), partner] = positive
    logits = z @ z.T / temperature
    right = logits.gather(1, partner[:, None])[:, 0]
    return (logits.masked_fill(out, -torch.inf).logsumexp(1) - right).mean()


@pytest.mark.parametrize(("answer", "words"), [
    (apart, "✓ nt_xent_apart: 3 properties hold"),
    (lambda z1, z2, y, t: nt_xent(z1, z2, t), "nothing was left out"),
    (lambda z1, z2, y, t: apart(z1, z2, y, t, positive=True), "put it back"),
    (lambda z1, z2, y, t: apart(z1, z2, y, t, twist=lambda m: m.fill_diagonal_(False)), "leave the diagonal out too"),
    (lambda z1, z2, y, t: apart(z1, z2, y, t, twist=lambda m: (~m).fill_diagonal_(True)), "turn the mask round"),
    (lambda z1, z2, y, t: apart(z1, z2, y, t) + 1, "your loss is not that of a loop over the anchors"),
    (lambda z1, z2, y, t: ..., "… nt_xent_apart: not attempted yet"),
])
def test_nt_xent_without_false_negatives(answer, words):
    assert words in repr(check.nt_xent_apart(answer))
