"""The checkers of notebook 04: right answers pass, and each slip is called by its name, however it is written."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from course_lib.check import inpainting as check
from course_lib.methods.pretext.inpainting import adversarial_loss, discriminator_loss
from course_lib.methods.pretext.inpainting import hole_loss as by_the_library


@pytest.mark.parametrize("guess, state, says", [(26, "passed", "overlap"), (31.25, "wrong", "never overlapped"),
                                                (6.25, "wrong", "one block"), (50, "wrong", "too high")])
def test_a_guess_of_the_hidden_share(guess, state, says):
    verdict = check.hidden_share(guess, 26.0)
    assert verdict.state == state and says in verdict.text


# --- the loss of a hole -----------------------------------------------------------------------------------------------

def test_right_losses_pass():
    assert check.hole_loss(by_the_library).passed
    assert check.hole_loss(lambda o, t, m: (o - t).square()[m.expand_as(o)].mean()).passed


@pytest.mark.parametrize("answer, says", [
    (lambda o, t, m: ((o - t).square() * m).mean(), "whole picture"),
    (lambda o, t, m: F.mse_loss(o, t), "mask is not used"),
    (lambda o, t, m: by_the_library(o, t, ~m), "wrong way round"),
    (lambda o, t, m: ((o - t).square() * m).sum() / m.sum(), "three channels"),
    (lambda o, t, m: ((o - t).square() * m).sum(), "add up"),
    (lambda o, t, m: torch.stack([by_the_library(*(v[i:i + 1] for v in (o, t, m))) for i in range(len(o))]).mean(),
     "small hole"),
    (lambda o, t, m: (o - t).abs()[m.expand_as(o)].mean(), "not squared"),
    (lambda o, t, m: 2 * by_the_library(o, t, m), "loop over hidden"),
    (lambda o, t, m: by_the_library(o, t, m).detach(), "no gradient"),
    (lambda o, t, m: by_the_library(o, t, m).item(), "must be a tensor"),
])
def test_each_slip_in_the_loss_is_called_by_its_name(answer, says):
    verdict = check.hole_loss(answer)
    assert verdict.state == "wrong" and says in verdict.text


# --- the leak ---------------------------------------------------------------------------------------------------------

def steal(filled, mask):
    n, hidden = mask[0].numel(), mask.sum((2, 3))
    mean = (filled * mask).sum((2, 3)) / hidden
    return (n * mean - (filled * ~mask).sum((2, 3))) / hidden


def test_a_right_theft_passes():
    assert check.hole_color(steal).passed


@pytest.mark.parametrize("answer, says", [
    (lambda f, m: (f * m).sum((2, 3)) / m.sum((2, 3)), "colour of the filling"),
    (lambda f, m: f.mean((2, 3)), "filled picture"),
    (lambda f, m: (f * ~m).sum((2, 3)) / (~m).sum((2, 3)), "what is seen"),
    (lambda f, m: steal(f, m) * m.sum((2, 3)), "sum over the hidden"),
    (lambda f, m: steal(f, m) * m.float().mean((2, 3)), "all pixels: what is left"),
    (lambda f, m: steal(f, m) * m.sum((2, 3)) / (~m).sum((2, 3)), "how many are seen"),
    (lambda f, m: 1 - steal(f, m), "not the mean colour"),
    (lambda f, m: steal(f, m)[:, :1], "shape"),
])
def test_each_slip_in_the_theft_is_called_by_its_name(answer, says):
    verdict = check.hole_color(answer)
    assert verdict.state == "wrong" and says in verdict.text


# --- the control ------------------------------------------------------------------------------------------------------

def test_right_controls_pass():
    assert check.control(lambda painter, x, m: by_the_library(painter(x), x, m)).passed
    assert check.control(lambda painter, x, m: (painter(x) - x).square()[m.expand_as(x)].mean()).passed


@pytest.mark.parametrize("answer, says", [
    (lambda p, x, m: by_the_library(p(torch.where(m, 0.5, x)), x, m), "that is the method itself"),
    (lambda p, x, m: by_the_library(p(x * ~m), x, m), "that is the method itself"),
    (lambda p, x, m: by_the_library(p(x * m), x, m), "nothing but what the method hides"),
    (lambda p, x, m: by_the_library(p(x.flip(0)), x, m), "something else"),
    (lambda p, x, m: by_the_library(torch.cat([p(x[i:i + 1]) for i in range(len(x))]), x, m), "times: once is enough"),
    (lambda p, x, m: F.mse_loss(p(x), x), "two things differ"),
    (lambda p, x, m: by_the_library(p(x), x, ~m), "the method does not hide"),
    (lambda p, x, m: F.l1_loss(p(x)[m.expand_as(x)], x[m.expand_as(x)]), "not squared"),
    (lambda p, x, m: ((p(x) - x).square() * m).sum(), "add up"),
    (lambda p, x, m: 2 * by_the_library(p(x), x, m), "not the squared error in the pixels"),
    (lambda p, x, m: by_the_library(p(x).detach(), x, m), "no gradient"),
    (lambda p, x, m: by_the_library(x, x, m), "never asked"),
])
def test_each_slip_in_the_control_is_called_by_its_name(answer, says):
    verdict = check.control(answer)
    assert verdict.state == "wrong" and says in verdict.text


# --- two players ------------------------------------------------------------------------------------------------------

def game(real, painted, judge, *, painter=adversarial_loss, judged=discriminator_loss, freeze=True, cut=True):
    fixed = copy.deepcopy(judge).requires_grad_(False) if freeze else judge
    return painter(fixed(painted)), judged(judge(real), judge(painted.detach() if cut else painted))


def test_a_right_game_passes():
    assert check.players(game).passed


@pytest.mark.parametrize("slip, says", [
    ({"painter": lambda said: F.softplus(said).mean()}, "being found out"),
    ({"painter": lambda said: -F.softplus(said).mean()}, "vanishes"),
    ({"painter": lambda said: F.softplus(-said).sum()}, "add up"),
    ({"painter": lambda said: said.mean()}, "painter's loss is not"),
    ({"judged": lambda real, said: discriminator_loss(said, real)}, "rewarded for mistakes"),
    ({"judged": lambda real, said: 6 * discriminator_loss(real, said)}, "add up"),
    ({"judged": lambda real, said: discriminator_loss(real, said) / 2}, "judge's loss is not"),
    ({"freeze": False}, "judge's weights"),
    ({"cut": False}, "painted pictures"),
    ({"painter": lambda said: adversarial_loss(said).detach()}, "reaches the painter"),
    ({"judged": lambda real, said: discriminator_loss(real, said).detach()}, "reaches the judge"),
])
def test_each_slip_in_the_game_is_called_by_its_name(slip, says):
    verdict = check.players(lambda *case: game(*case, **slip))
    assert verdict.state == "wrong" and says in verdict.text


def test_a_game_gives_two_losses():
    assert "two losses" in check.players(lambda *case: game(*case)[0]).text
