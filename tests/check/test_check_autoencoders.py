"""The checkers of notebook 01: right answers pass, and each slip is called by its name, however it is written."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from course_lib.check import autoencoders as check
from course_lib.methods.reconstruction.denoising import corrupt


@pytest.mark.parametrize("guess, state, says", [(3, "passed", "only moved"), (4, "passed", ""),
                                                (16, "wrong", "too high"), (1, "wrong", "too low")])
def test_a_guess_of_the_shift(guess, state, says):
    verdict = check.shift_that_costs_half(guess, 3)
    assert verdict.state == state and says in verdict.text


# --- the limit of linear autoencoders ---------------------------------------------------------------------------------

def by_svd(x, k, *, center=True, square=True, rest=True, shift=0, over=None):
    x = x - x.mean(0) if center else x
    s = torch.linalg.svdvals(x)
    s = s[k + shift:] if rest else s[:k]
    return (s.square() if square else s).sum() / (over or (lambda x: x.numel()))(x)


def test_a_right_limit_passes():
    assert check.linear_limit(by_svd).passed


@pytest.mark.parametrize("slip, says", [
    ({"center": False}, "mean is still in"), ({"rest": False}, "what the k directions hold"),
    ({"shift": -1}, "too few"), ({"shift": 1}, "too many"), ({"square": False}, "square the singular"),
    ({"over": len}, "whole picture"), ({"over": lambda x: 1}, "sum over everything"),
    ({"over": lambda x: x.numel() - x.shape[1]}, "not the error"),
])
def test_each_slip_in_the_limit_is_called_by_its_name(slip, says):
    verdict = check.linear_limit(lambda x, k: by_svd(x, k, **slip))
    assert verdict.state == "wrong" and says in verdict.text


def test_the_limit_must_hold_at_both_ends():
    assert "no number at all" in check.linear_limit(lambda x, k: by_svd(x, k) if k else by_svd(x, 1)).text
    assert "nothing is lost" in check.linear_limit(lambda x, k: by_svd(x, k) if k < 6 else by_svd(x, 5)).text


# --- noise ------------------------------------------------------------------------------------------------------------

def test_the_librarys_noise_passes():
    assert check.mask_pixels(lambda x, share: corrupt(x, share, "masking")).passed


@pytest.mark.parametrize("answer, says", [
    (lambda x, share: x, "no pixel is black"),
    (lambda x, share: x * (torch.rand_like(x) > share), "channels one by one"),
    (lambda x, share: x * (torch.rand_like(x[:1, :1]) > share), "every picture"),
    (lambda x, share: x * (torch.rand_like(x[:, :1]) < share), "1 − share"),
    (lambda x, share: x * (torch.rand_like(x[:, :1]) > 0.5), "with share = 0.3 you make"),
    (lambda x, share: x * (torch.rand_like(x[:, :1]) > 0.3), "with share = 0.6 you make"),
    (lambda x, share: x * (torch.rand_like(x[:, :1]) > share) / (1 - share), "not hit have changed"),
    (lambda x, share: x * (torch.rand(x[:, :1].shape, generator=torch.Generator().manual_seed(1)) > share),
     "second call"),
    (lambda x, share: x[:1], "shape"),
])
def test_each_slip_in_the_noise_is_called_by_its_name(answer, says):
    verdict = check.mask_pixels(answer)
    assert verdict.state == "wrong" and says in verdict.text


# --- a rival that learns nothing --------------------------------------------------------------------------------------

def around(spoilt, *, times=1, visible=True, keep=True):
    """Black pixels take the mean of the 3 x 3 around them, so often."""
    out = spoilt
    for _ in range(times):
        seen = (out != 0).any(1, keepdim=True).float()
        mean = F.avg_pool2d(out, 3, 1, 1) / (F.avg_pool2d(seen, 3, 1, 1).clamp(min=1e-6) if visible else 1)
        out = torch.where((seen > 0) & keep, out, mean)
    return out


def left_neighbor(spoilt):
    out = spoilt
    for _ in range(spoilt.shape[3]):
        out = torch.where((out == 0).all(1, keepdim=True), out.roll(1, 3), out)
    return out


@pytest.mark.parametrize("answer", [check.nearest_visible, lambda y: around(y, times=9), left_neighbor])
def test_rivals_that_copy_what_is_near_pass(answer):
    assert check.repair_without_learning(answer).passed


@pytest.mark.parametrize("answer, says", [
    (lambda y: y, "as it was given"),
    (around, "still black"),
    (lambda y: around(y, times=9, visible=False), "too dark"),
    (lambda y: around(y, times=9, keep=False), "not hidden have changed"),
    (check.one_color, "one mean colour"),
    (lambda y: torch.where(y == 0, y.mean(), y), "comes alone"),
    (lambda y: torch.where(y == 0, torch.rand_like(y), y), "comes alone"),
    (lambda y: torch.where(y == 0, y / 0, y), "not finite"),
    (lambda y: torch.where(y == 0, torch.full_like(y, 0.5), y), "one mean colour"),
    (lambda y: y[:, :1], "shape"),
])
def test_each_slip_of_a_rival_is_called_by_its_name(answer, says):
    verdict = check.repair_without_learning(answer)
    assert verdict.state == "wrong" and says in verdict.text


def test_holes_close_from_their_edge_and_what_is_all_black_stays():
    x = torch.rand(2, 3, 16, 16) * 0.1 + 0.5
    spoilt = x.clone()
    spoilt[:, :, 2:12, 2:12] = 0
    out = check.nearest_visible(spoilt)
    assert torch.equal(out[:, :, 12:], x[:, :, 12:]) and bool((out > 0.49).all())
    assert not check.nearest_visible(torch.zeros(1, 3, 8, 8)).any()


# --- a training step --------------------------------------------------------------------------------------------------

def step(x, corrupt, encoder, decoder, *, see_clean=False, want_spoilt=False, add_up=False, cut="", spoil=1, of=1.0):
    for _ in range(spoil):
        spoilt = corrupt(of * x)
    h = encoder(x if see_clean else spoilt)
    painted = decoder(h.detach() if cut == "encoder" else h)
    if cut == "both":
        painted = painted.detach()
    return F.mse_loss(painted, spoilt if want_spoilt else x, reduction="sum" if add_up else "mean")


def test_a_right_step_passes():
    assert check.denoising_loss(step).passed


SLIPS = {"see_clean": "sees the clean picture", "want_spoilt": "target is the spoilt", "add_up": "add up"}


@pytest.mark.parametrize("slips", [s for n in (1, 2, 3) for s in itertools.combinations(SLIPS, n)])
def test_the_first_of_several_slips_in_a_step_is_named(slips):
    verdict = check.denoising_loss(lambda *case: step(*case, cut="encoder", **dict.fromkeys(slips, True)))
    assert verdict.state == "wrong" and SLIPS[slips[0]] in verdict.text


@pytest.mark.parametrize("slip, says", [({"cut": "encoder"}, "no gradient reaches encoder: look for .detach()"),
                                        ({"cut": "both"}, "no gradient comes out of it"), ({"spoil": 2}, "2 times"),
                                        ({"of": 0.5}, "call corrupt(x)")])
def test_other_slips_in_a_step(slip, says):
    verdict = check.denoising_loss(lambda *case: step(*case, **slip))
    assert verdict.state == "wrong" and says in verdict.text


def test_a_step_that_spoils_nothing_or_pays_something_else():
    assert "0 times" in check.denoising_loss(lambda x, c, e, d: F.mse_loss(d(e(x)), x)).text
    assert "is not the mean" in check.denoising_loss(lambda x, c, e, d: F.l1_loss(d(e(c(x))), x)).text
