"""The checkers of notebook 01: right answers pass, and each slip is called by its name, however it is written."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from course_lib.check import autoencoders as check
from course_lib.methods.reconstruction.denoising import corrupt


@pytest.mark.parametrize("guess, state, says", [(3, "passed", "only moved"), (4, "passed", ""),
                                                (2.0, "passed", ""), (torch.tensor(3), "passed", "only moved"),
                                                (16, "wrong", "too high. A squared error compares"),
                                                (1, "wrong", "too low. Pixels beside each other are mostly alike"),
                                                (0, "wrong", "costs nothing"), (-1, "wrong", "not below 0"),
                                                (2.5, "wrong", "whole number of pixels is wanted, and 2.5 is none"),
                                                ("3", "wrong", "whole number of pixels is wanted, and this is a str"),
                                                (True, "wrong", "whole number"), (float("nan"), "wrong", "finite"),
                                                ([3], "wrong", "must be a number"), (..., "waiting", "not attempted")])
def test_a_guess_of_the_shift(guess, state, says):
    verdict = check.shift_that_costs_half(guess, 3)
    assert verdict.state == state and says in verdict.text


def test_a_right_guess_of_the_shift_is_explained():
    assert repr(check.shift_that_costs_half(3, 3)) == (
        "✓ shift_that_costs_half: you said 3 pixels, measured is 3 pixels. A squared error compares pixels in one "
        "place and does not know that they have only moved")


# --- the limit of linear autoencoders ---------------------------------------------------------------------------------

def by_svd(x, k, *, center=True, square=True, rest=True, shift=0, over=None):
    x = x - x.mean(0) if center else x
    s = torch.linalg.svdvals(x)
    s = s[k + shift:] if rest else s[:k]
    return (s.square() if square else s).sum() / (over or (lambda x: x.numel()))(x)


def by_cov(x, k, *, ascending=False, unbiased=False, whole=False):
    values = torch.linalg.eigvalsh(torch.cov(x.T, correction=int(unbiased)))
    return (values if ascending else values.flip(0))[k:].sum() / (1 if whole else x.shape[1])


def by_projection(x, k, directions):
    x = x - x.mean(0)
    p = directions(x)
    return (x - x @ p[:, :k] @ p[:, :k].T).square().mean()


@pytest.mark.parametrize("answer", [by_svd, by_cov, lambda x, k: by_projection(x, k, lambda x: torch.svd(x)[2]),
                                    lambda x, k: by_projection(x, k, lambda x: torch.linalg.svd(x)[2].T)])
def test_a_right_limit_passes(answer):
    assert check.linear_limit(answer).passed


@pytest.mark.parametrize("slip, says", [
    ({"center": False}, "mean is still in"), ({"rest": False}, "what the k directions hold"),
    ({"shift": -1}, "too few"), ({"shift": 1}, "too many"), ({"square": False}, "square the singular"),
    ({"over": len}, "whole picture"), ({"over": lambda x: 1}, "sum over everything"),
    ({"over": lambda x: x.numel() - x.shape[1]}, "one picture less"), ({"over": lambda x: 7}, "not the error"),
])
def test_each_slip_in_the_limit_is_called_by_its_name(slip, says):
    verdict = check.linear_limit(lambda x, k: by_svd(x, k, **slip))
    assert verdict.state == "wrong" and says in verdict.text


@pytest.mark.parametrize("answer, says", [
    (lambda x, k: by_cov(x, k, ascending=True), "begin with the smallest"),
    (lambda x, k: torch.linalg.eigvalsh(torch.cov(x.T, correction=0))[:k].sum() / 6, "the k smallest"),
    (lambda x, k: by_cov(x, k, unbiased=True), "one picture less"),
    (lambda x, k: by_cov(x, k, ascending=True, unbiased=True), "2 mistakes at once; one of them: the values begin"),
    (lambda x, k: by_cov(x, k, unbiased=True, whole=True), "2 mistakes at once; one of them: you divide by one"),
    (lambda x, k: by_cov(x, k, ascending=True, unbiased=True, whole=True), "3 mistakes at once; one of them: the val"),
    (lambda x, k: by_svd((x - x.mean(0)) / x.std(0), k), "divided by its standard deviation"),
    (lambda x, k: by_svd(x / (x.std(0) + 1e-8), k), "divided by its standard deviation"),
    (lambda x, k: torch.linalg.eigvalsh(torch.corrcoef(x.T)).flip(0)[k:].mean() * (6 - k) / 6, "its spread"),
    (lambda x, k: by_svd(x / x.std(0), k, center=False), "2 mistakes at once; one of them: the mean is still in"),
    (lambda x, k: by_projection(x, k, lambda x: torch.linalg.svd(x)[2]), "Vh last"),
    (lambda x, k: by_projection(x, k, lambda x: torch.linalg.svd(x, full_matrices=False)[2]), "Vh last"),
    (lambda x, k: by_projection(x, k, lambda x: torch.svd(x)[2].T), "Vh last"),
])
def test_other_ways_to_the_limit_go_wrong_in_other_ways(answer, says):
    verdict = check.linear_limit(answer)
    assert verdict.state == "wrong" and says in verdict.text


def test_the_limit_must_hold_at_both_ends():
    assert "no number at all" in check.linear_limit(lambda x, k: by_svd(x, k) if k else by_svd(x, 1)).text
    assert "nothing is lost" in check.linear_limit(lambda x, k: by_svd(x, k) if k < 6 else by_svd(x, 5)).text


# --- noise ------------------------------------------------------------------------------------------------------------

def just_so_many(x, share):
    """In each picture the same number of pixels, drawn without order."""
    order = torch.rand(len(x), x[0, 0].numel()).argsort(1).view_as(x[:, :1])
    return x * (order >= share * x[0, 0].numel())


@pytest.mark.parametrize("answer", [lambda x, share: corrupt(x, share, "masking"), just_so_many])
def test_noise_that_hits_pixel_by_pixel_passes(answer):
    assert check.mask_pixels(answer).passed


def test_pixels_hit_one_by_one_are_not_taken_for_shapes():
    torch.manual_seed(1)
    assert not any(check.hit_together(torch.rand(8, 24, 24) < share) for share in (0.1, 0.3, 0.6) for _ in range(100))


def spread(mask, side):
    return mask.repeat_interleave(side, 2).repeat_interleave(side, 3)


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
    (lambda x, share: x.masked_fill_(torch.rand_like(x[:, :1]) < share, 0), "leave those as they are"),
    (lambda x, share: x.mul_(torch.rand_like(x[:, :1]) > share).clone(), "leave those as they are"),
    (lambda x, share: x * (torch.rand_like(x[:, :1, :, :1]) > share), "whole rows are"),
    (lambda x, share: x * (torch.rand_like(x[:, :1, :1]) > share), "whole columns are"),
    (lambda x, share: x * (torch.rand_like(x[:, :1, :1, :1]) > share), "whole pictures are"),
    (lambda x, share: x * spread(torch.rand_like(x[:, :1, ::2, ::2]) > share, 2), "blocks of pixels"),
    (lambda x, share: x * spread(torch.rand_like(x[:, :1, ::3, ::3]) > share, 3), "blocks of pixels"),
    (lambda x, share: x * (torch.rand_like(x[:, :1, :12]) > share).repeat(1, 1, 2, 1), "some pixels of a picture"),
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
    (around, "some hidden pixels are still black, 19 of 2329: all"),
    (lambda y: around(y, visible=False), "too dark"),
    (lambda y: torch.where((y == 0).all(1, keepdim=True), y.roll(1, 3), y), "still black"),
    (lambda y: torch.where(y == 0, y.mean((1, 2, 3), keepdim=True), y), "too dark"),
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
@pytest.mark.parametrize("cut", ["", "encoder", "both"])
def test_the_first_of_several_slips_in_a_step_is_named_and_all_are_counted(slips, cut):
    verdict = check.denoising_loss(lambda *case: step(*case, cut=cut, **dict.fromkeys(slips, True)))
    count = len(slips) + bool(cut)
    assert verdict.state == "wrong" and SLIPS[slips[0]] in verdict.text
    assert (f"{count} mistakes at once" in verdict.text) == (count > 1)


def test_the_given_step_in_other_words_has_four_mistakes():
    def given(x, corrupt, encoder, decoder):
        spoilt = corrupt(x)
        return (decoder(encoder(x).detach()) - spoilt).square().sum()

    assert check.denoising_loss(given).text.startswith("4 mistakes at once; one of them: the encoder sees the clean")


@pytest.mark.parametrize("count, says", [
    (lambda squares, hit: squares[hit.expand_as(squares)].mean(), "looks at the changed pixels alone"),
    (lambda squares, hit: (squares * hit).sum() / (3 * hit.sum()), "looks at the changed pixels alone"),
    (lambda squares, hit: (squares * hit).mean(), "is 0 wherever a pixel was not changed"),
    (lambda squares, hit: (squares * hit).sum(), "2 mistakes at once; one of them: your loss is 0 wherever"),
    (lambda squares, hit: squares[~hit.expand_as(squares)].mean(), "is not the mean"),
])
def test_a_loss_on_some_of_the_pixels_is_refused(count, says):
    def loss(x, corrupt, encoder, decoder):
        spoilt = corrupt(x)
        return count((decoder(encoder(spoilt)) - x).square(), (spoilt == 0).all(1, keepdim=True))

    verdict = check.denoising_loss(loss)
    assert verdict.state == "wrong" and verdict.text.startswith(("your loss", "2 mistakes")) and says in verdict.text


@pytest.mark.parametrize("slip, says", [({"cut": "encoder"}, "no gradient reaches encoder: look for .detach()"),
                                        ({"cut": "both"}, "no gradient comes out of it"), ({"spoil": 2}, "2 times"),
                                        ({"of": 0.5}, "call corrupt(x)")])
def test_other_slips_in_a_step(slip, says):
    verdict = check.denoising_loss(lambda *case: step(*case, **slip))
    assert verdict.state == "wrong" and says in verdict.text


def test_a_step_that_spoils_nothing_or_pays_something_else():
    assert "0 times" in check.denoising_loss(lambda x, c, e, d: F.mse_loss(d(e(x)), x)).text
    assert "is not the mean" in check.denoising_loss(lambda x, c, e, d: F.l1_loss(d(e(c(x))), x)).text
