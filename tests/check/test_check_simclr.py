"""The checkers of notebook 10 agree with right answers, however they are written, and name each typical mistake."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from course_lib.check import simclr as check
from course_lib.check.base import variants
from course_lib.methods.contrastive import simclr


def nt_xent(z1, z2, temperature, *, normalize=True, diagonal=-torch.inf, times=False, roll=None, reduce="mean",
            partner=True, squash=lambda logits: logits):
    """The notebook's solution, with a place for each mistake."""
    z = torch.cat([z1, z2])
    z = F.normalize(z, dim=1) if normalize else z
    logits = z @ z.T * temperature if times else z @ z.T / temperature
    logits = logits if diagonal is None else logits.masked_fill(torch.eye(len(z), dtype=torch.bool), diagonal)
    positive = torch.arange(len(z)).roll(len(z1) if roll is None else roll)
    if not partner:
        logits = logits.scatter(1, positive[:, None], -torch.inf)
    return F.cross_entropy(squash(logits), positive, reduction=reduce)


def with_exp(z1, z2, temperature, among=lambda s: s.sum(1) - s.diag()):
    """As many write it first: exponentials, and their sum."""
    z, n = F.normalize(torch.cat([z1, z2]), dim=1), len(z1)
    s = (z @ z.T / temperature).exp()
    rows = torch.arange(2 * n)
    return -(s[rows, rows.roll(n)] / among(s)).log().mean()


def one_direction(z1, z2, temperature):
    logits = F.normalize(z1, dim=1) @ F.normalize(z2, dim=1).T / temperature
    return F.cross_entropy(logits, torch.arange(len(z1)))


def partners(z1):
    return torch.arange(2 * len(z1)).roll(len(z1))


def masked(logits, value=-torch.inf):
    return logits.masked_fill(torch.eye(len(logits), dtype=torch.bool), value)


def logits_of(z1, z2, temperature, value=-torch.inf, mask=masked):
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    return mask(z @ z.T / temperature, value) if mask else z @ z.T / temperature


def no_positive_below(s):
    n = len(s) // 2
    return s.sum(1) - s.diag() - torch.cat([s.diag(n), s.diag(-n)])


def test_the_reference_is_the_librarys_loss():
    for n, d, temperature in ((2, 3, 0.5), (7, 5, 0.1), (6, 16, 2.0)):
        z1, z2 = check._pairs(n, d)
        torch.testing.assert_close(check._nt_xent(z1, z2, temperature), simclr.nt_xent(z1, z2, temperature))


@pytest.mark.parametrize("answer", [simclr.nt_xent, nt_xent])
def test_right_answers_pass(answer):
    verdict = check.nt_xent(answer)
    assert verdict.passed, verdict
    assert "5 properties hold" in repr(verdict)


@pytest.mark.parametrize(("options", "words"), [
    ({"diagonal": None}, "counts each anchor as its own negative"),
    ({"diagonal": 0.0}, "the diagonal is 0, and exp"),
    ({"normalize": False}, "not normalised"),
    ({"times": True}, "you multiply by the temperature"),
    ({"roll": 1}, "the row next to it"),
    ({"roll": -1}, "the row next to it"),
    ({"reduce": "sum"}, "you add up the anchors' losses"),
    ({"reduce": "none"}, "one loss an anchor: take their mean"),
    ({"roll": 0}, "Is it the anchor itself, as with arange(2N)?"),
    ({"roll": 0, "diagonal": None}, "the anchor itself, which is its own candidate too"),
    ({"partner": False}, "Or is that one masked too? Mask the diagonal alone"),
    ({"squash": lambda logits: logits.softmax(1)}, "without another softmax"),
    ({"squash": torch.exp}, "as they are, without exp"),
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
    (lambda z1, z2, t: nt_xent(z1, z2, t) / (2 * len(z1)), "you divide by their number twice"),
    (lambda z1, z2, t: nt_xent(z1, z2, t) / math.log(2), "base 2"),
    (lambda z1, z2, t: nt_xent(z1, z2, t) / math.log(10), "base 10"),
    (lambda z1, z2, t: nt_xent(z1, z2, 1.0), "the temperature is not used"),
    (lambda z1, z2, t: (one_direction(z1, z2, t) + one_direction(z2, z1, t)) / 2, "only those of the other view"),
    (lambda z1, z2, t: with_exp(z1, z2, t, no_positive_below), "the positive is missing from the denominator"),
    (lambda z1, z2, t: with_exp(z1, z2, t), "exp(200) is too large"),
    (lambda z1, z2, t: nt_xent(z1, z2, 0.5), "temperature is always 0.5"),
    (lambda z1, z2, t: nt_xent(z1, z2, 0.07), "temperature is always 0.07"),
    (lambda z1, z2, t: one_direction(z1, z2, t), "one of them: the negatives are only those of the other view"),
    (lambda z1, z2, t: nt_xent(z1, z2, t**2), "the cosine by its square: divide once"),
    (lambda z1, z2, t: nt_xent(F.normalize(z1, dim=0), F.normalize(z2, dim=0), t, normalize=False), "each view's col"),
    (lambda z1, z2, t: nt_xent(z1, z2, t, diagonal=None) + 0 * math.inf, "0 times -inf is NaN"),
    (lambda z1, z2, t: F.nll_loss(logits_of(z1, z2, t).softmax(1), partners(z1)), "minus the partner's probability"),
    (lambda z1, z2, t: F.cross_entropy(masked(logits_of(z1, z2, t, -torch.inf, None).softmax(1)), partners(z1)),
     "without a softmax before the mask"),
    (lambda z1, z2, t: F.cross_entropy(logits_of(z1, z2, t), F.one_hot(partners(z1)).double()), "one-hot targets"),
    (lambda z1, z2, t: F.cross_entropy(logits_of(z1, z2, t), partners(z1).roll(len(z1))), "as with arange(2N)?"),
    (lambda z1, z2, t: F.cross_entropy(logits_of(z1, z2, t), torch.arange(len(z1)).repeat(2)), "as with arange(2N)?"),
    (lambda z1, z2, t: F.cross_entropy(logits_of(z1, z2, t), len(z1) + torch.arange(2 * len(z1))), "out of bounds"),
    (lambda z1, z2, t: nt_xent(z1, z2.detach(), t), "no gradient reaches z2"),
    (lambda z1, z2, t: nt_xent(z1, z2, t) + (z1 - z1.detach()).sum(), "the gradient of z1 is not"),
    (lambda z1, z2, t: nt_xent(z1.div_(z1.norm(dim=1, keepdim=True)), z2, t), "is something changed in place"),
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
    cases = [(*check._pairs(4, 8), 0.5), (*check._pairs(5, 3), 0.2)]
    slips = {**check._NT_XENT_SLIPS, "right": {}}
    del slips["that is one loss an anchor: take their mean"]  # of another shape
    values = {sentence: torch.stack([slip(*case) for case in cases])
              for sentence, slip in variants(check._nt_xent, slips)}
    names = list(values)
    alike = [(a, b) for i, a in enumerate(names) for b in names[:i]
             if torch.allclose(values[a], values[b], rtol=1e-3, equal_nan=True)]
    assert not alike


@pytest.mark.parametrize(("guess", "start", "words"), [
    (math.log(511), "✓", "log 511 = 6.236"),
    (6.2, "✓", "measured is 6.2"),
    (math.log(256), "✗", "that is log(N)"),
    (math.log10(511), "✗", "base 10"),
    (math.log2(511), "✗", "base 2"),
    (-math.log(511), "✗", "not below 0"),
    (4.0, "✗", "too low"),
    (0, "✗", "always finds the partner"),
    (511, "✗", "how many candidates there are"),
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


def test_false_negatives_are_counted():
    y = torch.tensor([0, 1, 0, 0, 2])
    assert check.count_false_negatives(y) == pytest.approx(2 * ((y[:, None] == y).sum(1) - 1).float().mean().item())
    assert check.count_false_negatives(torch.arange(4)) == 0


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


def one_raw(x, views, encoder, projector, temperature):
    return nt_xent(projector(encoder(x)), projector(encoder(views(x))), temperature)


def side_by_side(x, views, encoder, projector, temperature):
    """Both views of a picture next to each other."""
    z = projector(encoder(views(x.repeat_interleave(2, dim=0))))
    return nt_xent(z[0::2], z[1::2], temperature)


def second_lost(x, views, encoder, projector, temperature):
    v1, _ = views(x), views(x)
    return nt_xent(projector(encoder(v1)), projector(encoder(v1)), temperature)


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
    (one_raw, "one of each two is the picture itself"),
    (side_by_side, "✓ training_loss: 3 properties hold"),
    (second_lost, "the encoder is shown one of them alone"),
    (lambda x, v, e, p, t: nt_xent(p(v(x).flatten(1)[:, :6]), p(v(x).flatten(1)[:, :6]), t), "the encoder was never"),
    (lambda x, v, e, p, t: training_loss(x, v, e, p, 0.5), "temperature is always 0.5"),
    (lambda x, v, e, p, t: training_loss(x, v, e, lambda h: h, t), "the projector is not used"),
    (friend, "3 mistakes at once; one of them: the diagonal is 0"),
    (half_blind, "the value is right, but the gradient of encoder is not: it should be that of both views"),
    (lambda *parts: training_loss(*parts).detach(), "no gradient comes out of it"),
    (lambda *parts: training_loss(*parts) * 3, "your loss of two views is not NT-Xent"),
    (lambda *parts: ..., "… training_loss: not attempted yet"),
])
def test_the_training_step(answer, words):
    assert words in repr(check.training_loss(answer))


def the_given_cell():
    """Exercise 5 as the notebook gives it."""
    notebook = json.loads((Path(__file__).parents[2] / "notebooks/10_simclr.ipynb").read_text(encoding="utf8"))
    source = next("".join(cell["source"]) for cell in notebook["cells"]
                  if "check.training_loss" in "".join(cell["source"]))
    namespace = {"torch": torch, "F": F}
    exec(source.replace("check.training_loss(training_loss)", ""), namespace)
    return namespace["training_loss"]


def test_the_notebooks_own_cell_waits_and_its_mistakes_are_named_once_one_is_repaired():
    given = the_given_cell()
    assert check.training_loss(given).state == "waiting"
    assert check.training_loss(lambda *parts: given(*parts)).state == "wrong"
    assert "used twice" in check.training_loss(lambda *parts: given(*parts)).text


def across(z1, z2, y, temperature):
    """One direction: the first view's rows against the second view's alone."""
    n = len(y)
    logits = F.normalize(z1, dim=1) @ F.normalize(z2, dim=1).T / temperature
    false = (y[:, None] == y).fill_diagonal_(False)
    return F.cross_entropy(logits.masked_fill(false, -torch.inf), torch.arange(n))


def apart(z1, z2, y, temperature, *, positive=False, twist=lambda mask: mask, cross_entropy=False,
          out_with=-torch.inf):
    z, y = F.normalize(torch.cat([z1, z2]), dim=1), torch.cat([y, y])
    partner = torch.arange(len(z)).roll(len(z1))
    out = twist(y[:, None] == y)
    out[torch.arange(len(z)), partner] = positive
    logits = z @ z.T / temperature
    if cross_entropy:
        return F.cross_entropy(logits.masked_fill(out, out_with), partner)
    right = logits.gather(1, partner[:, None])[:, 0]
    return (logits.masked_fill(out, -torch.inf).logsumexp(1) - right).mean()


@pytest.mark.parametrize(("answer", "words"), [
    (apart, "✓ nt_xent_apart: 3 properties hold"),
    (lambda z1, z2, y, t: nt_xent(z1, z2, t), "nothing was left out"),
    (lambda z1, z2, y, t: apart(z1, z2, y, t, positive=True), "put it back"),
    (lambda z1, z2, y, t: apart(z1, z2, y, t, positive=True, cross_entropy=True), "so its logit is -inf: put it back"),
    (lambda z1, z2, y, t: apart(z1, z2, y, 0.5), "temperature is always 0.5"),
    (lambda z1, z2, y, t: apart(z1, z2.detach(), y, t), "no gradient reaches z2"),
    (lambda z1, z2, y, t: apart(z1, z2, y, t, twist=lambda m: m.fill_diagonal_(False)), "as its own negative"),
    (lambda z1, z2, y, t: nt_xent(z1, z2, t, roll=0), "Is it the anchor itself, as with arange(2N)?"),
    (lambda z1, z2, y, t: apart(z1, z2, y, t, cross_entropy=True, out_with=0.0), "what is left out is 0, and exp(0)"),
    (lambda z1, z2, y, t: across(z1, z2, y, t), "one of them: the negatives are only those of the other view"),
    (lambda z1, z2, y, t: (across(z1, z2, y, t) + across(z2, z1, y, t)) / 2, "✗ nt_xent_apart: the negatives are only"),
    (lambda z1, z2, y, t: apart(z1, z2, y, t, twist=lambda m: (~m).fill_diagonal_(True)), "turn the mask round"),
    (lambda z1, z2, y, t: apart(z1, z2, y, t) + 1, "your loss is not that of a loop over the anchors"),
    (lambda z1, z2, y, t: ..., "… nt_xent_apart: not attempted yet"),
])
def test_nt_xent_without_false_negatives(answer, words):
    assert words in repr(check.nt_xent_apart(answer))


@pytest.mark.parametrize(("change", "start", "words"), [
    ({}, "✓", "3 properties hold: batches of 256"),
    ({"batch_size": 32}, "✗", "an epoch has more steps, and BatchNorm sees fewer pictures"),
    ({"batch_size": 512}, "✗", "an epoch has fewer steps"),
    ({"group": None}, "✗", "510 negatives, as in the first training"),
    ({"group": 62}, "✗", "a group counts pictures: each is there twice"),
    ({"group": 31}, "✗", "the anchor's own picture too"),
    ({"group": 8}, "✗", "that is how many groups there are"),
    ({"group": 16}, "✗", "a group of 16 has 30 negatives a view, and a batch of 32 has 62"),
    ({"lr": 7.5e-4}, "✗", "lr is 0.00075 here and 0.006 in the first training: a control changes one thing"),
    ({"epochs": 0.45}, "✗", "epochs is 0.45 here and 3.6"),
    ({"lr": ...}, "…", "write a value for lr"),
    ({"epochs": "long"}, "✗", "epochs must be a number"),
])
def test_a_control_changes_one_thing(change, start, words):
    right = {**check.FIRST, "group": 32}
    said = repr(check.control({**right, **change}, check.FIRST, check.SECOND))
    assert said.startswith(start) and words in said
    assert "a dict with batch_size, group, epochs, lr is wanted" in repr(check.control(3, check.FIRST, check.SECOND))
