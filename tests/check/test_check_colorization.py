"""The checkers of notebook 05 agree with right answers, however they are written, and name each typical mistake."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from course_lib.check import colorization as check
from course_lib.methods.pretext import colorization
from course_lib.methods.pretext.colorization import nearest_bin
from course_lib.parts.lab import gray, rgb_to_lab


@pytest.mark.parametrize(("guess", "start", "words"), [
    (22.36, "✓", "the mean of the two, with a chroma of 22.4"), (56.1, "✗", "the mean of the two chromas"),
    (0, "✗", "not quite opposite"), (44.7, "✗", "you added the two colours"),
    (72.1, "✗", "that is orange, right half of the time"), (40, "✗", "that is blue, right half of the time"),
    (30, "✗", "too high")])
def test_the_best_single_color_is_predicted(guess, start, words):
    said = repr(check.best_color(guess))
    assert said.startswith(start)
    assert words in said


def rebalance(share, uniform):
    """The notebook's solution."""
    weights = 1 / ((1 - uniform) * share + uniform / len(share))
    return weights / (share * weights).sum()


def raw(share, uniform):
    return 1 / ((1 - uniform) * share + uniform / len(share))


@pytest.mark.parametrize("answer", [rebalance, colorization.rebalance])
def test_right_weights_pass(answer):
    assert "✓ rebalance: 3 properties hold" in repr(check.rebalance(answer))


@pytest.mark.parametrize(("answer", "words"), [
    (raw, "not brought to a mean of 1"),
    (lambda p, u: raw(p, u) / raw(p, u).mean(), "the mean over bins is 1"),
    (lambda p, u: raw(p, u) / raw(p, u).sum(), "the weights add up to 1"),
    (lambda p, u: rebalance(p, 1 - u), "have changed places"),
    (lambda p, u: 1 / raw(p, u) / (p / raw(p, u)).sum(), "common bins get the larger weights"),
    (lambda p, u: 1 / p / len(p), "λ is not used"),
    (lambda p, u: 1 / ((1 - u) * p + u) / (p / ((1 - u) * p + u)).sum(), "λ / Q"),
    (lambda p, u: 1 / (p + u / len(p)) / (p / (p + u / len(p))).sum(), "the shares keep their full weight"),
    (lambda p, u: rebalance(p, u) + 1, "other weights than counting bin by bin"),
    (lambda p, u: rebalance(p, u).sum(), "must have shape [6]"),
    (lambda p, u: rebalance(p, u) if u < 1 else 2 * rebalance(p, u), "at λ = 1 all bins weigh the same"),
    (lambda p, u: rebalance(p, u) / (p > 0), "a bin that does not occur has a finite weight"),
    (lambda p, u: raw(p, 1 - u), "2 mistakes at once; one of them: the weights are not brought to a mean of 1"),
])
def test_mistakes_in_rebalancing_are_named(answer, words):
    assert words in repr(check.rebalance(answer))


@pytest.mark.parametrize("bins", [20, 75])
def test_the_loss_at_the_start_is_predicted(bins):
    assert check.loss_at_start(math.log(bins), bins).passed
    for guess, words in ((math.log10(bins), "base 10"), (math.log2(bins), "base 2"), (1 / bins, "how often a guess"),
                         (-math.log(bins), "not below 0"), (9, "too high")):
        said = repr(check.loss_at_start(guess, bins))
        assert said.startswith("✗")
        assert words in said


def annealed_mean(logits, bins, temperature, dim=1):
    """The notebook's solution."""
    return torch.einsum("nqhw,qc->nchw", (logits / temperature).softmax(dim), bins)


@pytest.mark.parametrize("answer", [
    annealed_mean, colorization.annealed_mean,
    lambda z, bins, t: ((z / t).softmax(1).permute(0, 2, 3, 1) @ bins).permute(0, 3, 1, 2)])
def test_right_annealed_means_pass(answer):
    assert "✓ annealed_mean: 3 properties hold" in repr(check.annealed_mean(answer))


@pytest.mark.parametrize(("answer", "words"), [
    (lambda z, b, t: annealed_mean(z, b, 1 / t), "you multiply by the temperature"),
    (lambda z, b, t: annealed_mean(z, b, 1), "the temperature is not used"),
    (lambda z, b, t: annealed_mean(z, b, t, 0), "over the pictures"),
    (lambda z, b, t: annealed_mean(z, b, t, -1), "over the columns"),
    (lambda z, b, t: annealed_mean(z, b, t, 2), "over the rows"),
    (lambda z, b, t: b[z.argmax(1)].permute(0, 3, 1, 2), "that is the mode"),
    (lambda z, b, t: annealed_mean((z / t).softmax(1), b, 1), "taken twice"),
    (lambda z, b, t: annealed_mean(z, b, 1) / t, "before the softmax"),
    (lambda z, b, t: annealed_mean(z, b, t) + 1, "another colour than adding up bin by bin"),
    (lambda z, b, t: annealed_mean(z, b, t).permute(0, 2, 3, 1), "must have shape [3, 2, 2, 4]"),
    (lambda z, b, t: annealed_mean((z / t).exp().log(), b, 1), "exp of them is infinite"),
    (lambda z, b, t: annealed_mean(z, b, t) if z.any() else z[:, :2], "the mean of all bins"),
])
def test_mistakes_in_the_annealed_mean_are_named(answer, words):
    assert words in repr(check.annealed_mean(answer))


@pytest.mark.parametrize(("answer", "start", "words"), [
    (lambda trained, untrained: (trained[0], untrained[1]), "✓", "nothing differs but the training of half 2"),
    (lambda trained, untrained: [trained[0], untrained[1]], "✓", "2 properties hold"),
    (lambda trained, untrained: trained, "✗", "the split-brain itself"),
    (lambda trained, untrained: untrained, "✗", "both halves are untrained"),
    (lambda trained, untrained: (untrained[0], trained[1]), "✗", "the wrong half is untrained"),
    (lambda trained, untrained: trained[0], "✗", "you compare with trained half 1 alone"),
    (lambda trained, untrained: (trained[0],), "✗", "half of the features"),
    (lambda trained, untrained: (untrained[1], trained[0]), "✗", "in this order"),
    (lambda trained, untrained: (trained[0], untrained[0]), "✗", "must see the whole picture"),
    (lambda trained, untrained: (*trained, *untrained), "✗", "has two halves too"),
    (lambda trained, untrained: (trained[0], torch.nn.Identity()), "✗", "the halves that you were given"),
    (lambda trained, untrained: ("half 1", "half 2"), "✗", "the halves that you were given"),
    (lambda trained, untrained: ..., "…", "not attempted")])
def test_the_control_is_checked(answer, start, words):
    said = repr(check.control(answer))
    assert said.startswith(start)
    assert words in said


def training_loss(x, encoder, painter, bins, *, see=gray, channels=slice(1, 3), places=True, softmax=False, uniform=0.5,
                  reduction="mean", cut=False):
    """The notebook's solution, with a place for each mistake."""
    with torch.set_grad_enabled(not cut):
        maps = encoder.maps(see(x))
    logits = painter(maps)
    ab = F.adaptive_avg_pool2d(rgb_to_lab(x)[:, channels], logits.shape[2:])
    target = nearest_bin(ab, bins).flatten()
    rows = logits.permute(0, 2, 3, 1).flatten(0, 2) if places else logits.reshape(-1, len(bins))
    rows = rows.softmax(1) if softmax else rows
    share = target.bincount(minlength=len(bins)) / len(target)
    return F.cross_entropy(rows, target, weight=rebalance(share, uniform), reduction=reduction)


@pytest.mark.parametrize("answer", [
    training_loss,
    lambda x, e, p, bins: training_loss(x, e, p, bins, see=lambda x: rgb_to_lab(x)[:, :1].expand(-1, 3, -1, -1) / 100),
    lambda x, e, p, bins: colorization.bin_loss(
        z := p(e.maps(gray(x))), nearest_bin(F.adaptive_avg_pool2d(rgb_to_lab(x)[:, 1:], z.shape[2:]), bins))])
def test_right_training_steps_pass(answer):
    assert "✓ training_loss: 3 properties hold" in repr(check.training_loss(answer))


@pytest.mark.parametrize(("options", "words"), [
    ({"see": lambda x: x}, "the answer stands in the question"),
    ({"see": lambda x: x.flip(1)}, "not the grey picture"),
    ({"see": lambda x: gray(x).flip(3)}, "not the grey picture"),
    ({"channels": slice(0, 2)}, "✗ training_loss: the targets are made of L and a"),
    ({"places": False}, "✗ training_loss: the logits are mixed up"),
    ({"softmax": True}, "✗ training_loss: F.cross_entropy takes a softmax itself"),
    ({"uniform": 1.0}, "✗ training_loss: all bins weigh the same"),
    ({"channels": slice(0, 2), "places": False, "softmax": True}, "3 mistakes at once; one of them: the logits are"),
    ({"channels": slice(0, 2), "softmax": True, "uniform": 1.0}, "3 mistakes at once; one of them: the targets"),
    ({"channels": slice(0, 2), "places": False, "softmax": True, "uniform": 1.0}, "4 mistakes at once"),
    ({"reduction": "sum"}, "you add up the losses of all places"),
    ({"reduction": "none"}, "your loss must be one number"),
])
def test_mistakes_in_the_training_step_are_named(options, words):
    assert words in repr(check.training_loss(lambda *parts: training_loss(*parts, **options)))


@pytest.mark.parametrize(("answer", "words"), [
    (lambda x, e, p, bins: training_loss(x, e, p, bins) + 0 * e.maps(x).sum(), "it was asked 2 times"),
    (lambda x, e, p, bins: torch.zeros(()), "it was asked 0 times"),
    (lambda *parts: training_loss(*parts).detach(), "no gradient comes out of it"),
    (lambda *parts: training_loss(*parts, cut=True), "no gradient reaches encoder"),
    (lambda x, e, p, bins: p(e(gray(x))).mean(), "your code stops with"),
    (lambda *parts: training_loss(*parts) * 3, "the rebalanced cross-entropy of the bins"),
])
def test_what_else_can_go_wrong_in_the_training_step(answer, words):
    assert words in repr(check.training_loss(answer))
