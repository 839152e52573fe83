"""Checkers of notebook 01: the limit of linear autoencoders, noise, a rival that learns nothing, what a shift costs,
and a denoising step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from course_lib.check.base import (
    Spy,
    Wrong,
    afterwards,
    checker,
    close,
    exercise,
    function,
    gradient_reaches,
    number,
    predicted,
    tensor,
    variants,
)


@checker(predicts=True, example=(3,), right=lambda: 3, wrong=lambda: {"too high": 16, "too low": 1, "costs nothing": 0})
def shift_that_costs_half(answer: Any, measured: int) -> Iterator[str]:
    """The predicted number of pixels by which a picture must move to cost more than hiding half of it."""
    if isinstance(answer, (str, bytes, bool)):
        raise Wrong(f"a whole number of pixels is wanted, and this is a {type(answer).__name__}")
    guess = number(answer, "a prediction")
    if guess != round(guess):
        raise Wrong(f"a whole number of pixels is wanted, and {guess:.4g} is none")
    if guess < 0:
        raise Wrong("the picture moves to the right, so the number of pixels is not below 0")
    if guess == 0:
        raise Wrong("a picture that moves by 0 pixels is the picture as it was, and costs nothing")
    why = ("Pixels beside each other are mostly alike, so a short move costs little" if guess < measured - 1 else
           "A squared error compares pixels in one place and does not know that they have only moved")
    yield predicted(guess, measured, within=1, unit=" pixels", why=why)


# --- the best that a linear autoencoder can do ------------------------------------------------------------------------

def slow_linear_limit(x: Float[Tensor, "n d"], k: int, *, centered: bool = True, standard: int | None = None,
                      power: int = 2, lost: Callable = lambda values, k: values[k:], fewer: int = 0
                      ) -> Float[Tensor, ""]:
    """`linear_limit(x, k)`: the lowest mean squared error of any linear autoencoder with k numbers in the middle."""
    x = x - x.mean(0) if centered else x
    x = x if standard is None else x / x.std(0, correction=standard)
    singular_values = torch.linalg.eigvalsh(x.T @ x).clamp(min=0).sqrt().flip(0)  # the largest first
    return lost(singular_values, k).pow(power).sum() / ((len(x) - fewer) * x.shape[1])


def points() -> Float[Tensor, "40 6"]:
    """Points that vary more in some directions than in others, around a mean that is not 0."""
    return torch.randn(40, 6) * torch.logspace(0.3, -1, 6) + torch.arange(6.0)


def limit_with_v_for_vh(x: Float[Tensor, "n d"], k: int) -> Float[Tensor, ""]:
    """The error where what torch.linalg.svd gives last is taken for V, with a direction in each column."""
    x = x - x.mean(0)
    directions = torch.linalg.svd(x, full_matrices=False).Vh[:, :k]
    return (x - x @ directions @ directions.T).square().mean()


def without_numbers(student: Callable) -> tuple:
    """The student's error with k = 0, and what it should be."""
    x = points()
    return student(x, 0), (x - x.mean(0)).square().mean()


linear_limit = exercise(
    "linear_limit", slow_linear_limit, lambda: [(points(), k) for k in (1, 2, 4)],
    slips={"the mean is still in x: take x.mean(0) away first, as the decoder's bias does": {"centered": False},
           "that is what the k directions hold: what is lost is the rest": {"lost": lambda values, k: values[:k]},
           "the values begin with the smallest, as eigvalsh gives them, so you count the wrong ones as lost":
               {"lost": lambda values, k: values.flip(0)[k:]},
           "those are the k smallest values, and that is not how many are lost":
               {"lost": lambda values, k: values.flip(0)[:k]},
           "one direction too few is kept: index k is the first that is lost":
               {"lost": lambda values, k: values[k - 1:]},
           "one direction too many is kept: index k is the first that is lost":
               {"lost": lambda values, k: values[k + 1:]},
           "you take rows for columns: torch.linalg.svd gives Vh last, and torch.svd gives V": limit_with_v_for_vh,
           "each pixel is divided by its standard deviation, but the error is wanted of the pixels as they are":
               {"standard": 1},
           "each pixel is divided by its spread, as in torch.corrcoef, but the error is of the pixels as they are":
               {"standard": 0},
           "you divide by one picture less than there are, as torch.cov does, but a mean divides by all N":
               {"fewer": 1},
           "square the singular values: the error is squared too": {"power": 1},
           "that is the error of a whole picture: divide by all entries of x":
               {"after": lambda error, x, k: error * x.shape[1]},
           "that is the sum over everything: divide by the entries of x":
               {"after": lambda error, x, k: error * x.numel()}},
    together=3,
    limits={"with no number at all the best guess is the mean, and the error is the variance": without_numbers,
            "with as many numbers as pixels nothing is lost": lambda student: (student(points(), 6), 0.0)},
    holds="the error of a projection on the k main directions",
    otherwise="not the error that the best linear map leaves")


# --- noise ------------------------------------------------------------------------------------------------------------

@checker
def mask_pixels(answer: Callable) -> Iterator[str]:
    """`mask_pixels(x, share)`: pictures with a share of their pixels black, each pixel by its own draw."""
    student = function(answer)
    x = torch.rand(8, 3, 24, 24) * 0.9 + 0.1  # nothing is black to begin with
    out = tensor(student(x, 0.3), x.shape, "your pictures")
    black = out == 0
    if not black.any():
        raise Wrong("no pixel is black: 0 is black, and about a share of `share` of the pixels should be")
    given = x.clone()
    function(lambda share: answer(given, share))(0.3)  # as it is called in earnest: not on a copy
    if not torch.equal(given, x):
        raise Wrong("the pictures that your function was given are spoilt as well, and a clean target is needed: "
                    "return new ones and leave those as they are")
    if not torch.equal(out[~black], x[~black]):
        raise Wrong("pixels that were not hit have changed: they should stay as they are")
    yield "other pixels stay"
    if not torch.equal(black.all(1), black.any(1)):
        raise Wrong("you hit channels one by one, so a lost red can be copied from green and blue: draw one number a "
                    "pixel, of shape [N, 1, H, W]")
    yield "whole pixels are hit"
    if bool((black == black[:1]).all()):
        raise Wrong("the same pixels are black in every picture: draw for each picture, and not [1, 1, H, W]")
    if torch.equal(student(x, 0.3), out):
        raise Wrong("a second call hits the same pixels: draw anew each time, without a seed of your own")
    if shape := hit_together(black[:, 0]):
        raise Wrong(f"{shape} black together, and whether a pixel is hit must tell nothing about another pixel")
    yield "each picture and each call by its own draw"
    for share in (0.3, 0.6):
        hit = (student(x, share) == 0)[:, 0]
        found, slack = hit.float().mean().item(), 4 * (share * (1 - share) / hit.numel()) ** 0.5
        if abs(found - share) > slack:
            hint = ": that is 1 − share, so turn the comparison round" if abs(1 - found - share) < slack else ""
            raise Wrong(f"with share = {share} you make {100 * found:.0f} % of the pixels black{hint}")
    yield "the right share of them"


def hit_together(hit: Bool[Tensor, "n h w"]) -> str | None:
    """In words, what is black together where pixels are not hit one by one; None where they are.

    Measured is how far two pixels of one picture agree, at every distance between them: 1 if always, 0 if by chance.
    """
    off = hit.double() - hit.double().mean()
    power = torch.fft.fft2(off).abs().square().mean(0)
    agree = torch.fft.ifft2(power).real / off.square().sum((1, 2)).mean()
    across, down = (pair > 0.9 for pair in (agree[0, 1:].min(), agree[1:, 0].min()))
    if across or down:
        return f"whole {'pictures' if across and down else 'rows' if across else 'columns'} are"
    if min(agree[0, 1], agree[1, 0]) > 0.1:
        return "blocks of pixels beside each other are"
    return "some pixels of a picture are" if agree.abs().flatten()[1:].max() > 0.1 else None


# --- a rival that learns nothing --------------------------------------------------------------------------------------

def nearest_visible(spoilt: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Pictures without their black pixels: each takes the mean of the visible ones beside it, and then counts as
    visible itself, so that larger holes close from their edge inwards. A picture that is all black stays so."""
    known = (spoilt != 0).any(1, keepdim=True).to(spoilt.dtype)
    out = spoilt
    for _ in range(max(spoilt.shape[2:])):
        around = [F.avg_pool2d(y, 3, 1, padding=1) for y in (out * known, known)]
        reached = (known == 0) & (around[1] > 0)
        out = torch.where(reached, around[0] / around[1].clamp(min=1e-6), out)
        known = torch.where(reached, 1.0, known)
    return out


def one_color(spoilt: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Pictures whose black pixels all take the mean colour of that picture's visible ones."""
    seen = (spoilt != 0).any(1, keepdim=True).to(spoilt.dtype)
    mean = spoilt.sum((2, 3), keepdim=True) / seen.sum((2, 3), keepdim=True).clamp(min=1)
    return torch.where(seen > 0, spoilt, mean)


@checker(right=lambda: nearest_visible, wrong=lambda: {"a weaker one than you can build": lambda spoilt: spoilt,
                                                      "a visible pixel nearby knows more": one_color})
def repair_without_learning(answer: Callable) -> Iterator[str]:
    """`repair(spoilt)`: the pictures as a rival repairs them that learned nothing and sees the spoilt ones alone."""
    student = function(answer)
    coarse = F.interpolate(torch.rand(8, 3, 4, 4), size=(24, 24), mode="bicubic")
    x = 0.1 + 0.8 * coarse.clamp(0, 1)  # neighbours are alike, and nothing is black to begin with
    hit = torch.rand_like(x[:, :1]) < 0.5
    spoilt = x.masked_fill(hit, 0.0)
    out = tensor(student(spoilt.clone()), x.shape, "your pictures")
    if torch.equal(out, spoilt):
        raise Wrong("that is the picture as it was given: doing nothing is a rival too, but a weaker one than you can "
                    "build")
    if not out.isfinite().all():
        raise Wrong("your pictures hold values that are not finite: where no neighbour is visible you divide by 0")
    if not close(out.masked_fill(hit, 0.0), spoilt):
        raise Wrong("pixels that were not hidden have changed: what is visible needs no repair, so keep it")
    if not close(student(spoilt[:1].clone()), out[:1]):
        raise Wrong("a picture is repaired in another way when it comes alone: use nothing from other pictures, and no "
                    "random numbers")
    yield "each picture by itself, and what is visible stays"
    black = (out == 0).all(1, keepdim=True)
    if (out - x)[(hit & ~black).expand_as(x)].mean() < -0.04:  # first: a second pass would not mend that
        raise Wrong("what you fill in is too dark: black pixels are in your average, so divide by the number of "
                    "visible ones")
    if black.any():
        raise Wrong(f"some hidden pixels are still black, {int(black.sum())} of {int(hit.sum())}: all neighbours may "
                    "be hidden too, so go on until none is left")
    error, lazy = ((y - x).square().sum().item() / (3 * hit.sum().item()) for y in (out, one_color(spoilt)))
    if error > 0.5 * lazy:
        raise Wrong(f"your squared error at the hidden pixels is {error:.4f}, and one mean colour for all of them in a "
                    f"picture costs {lazy:.4f}: a visible pixel nearby knows more")
    yield f"squared error at the hidden pixels {error:.4f}, where one mean colour a picture costs {lazy:.4f}"


# --- a training step --------------------------------------------------------------------------------------------------

def slow_denoising_loss(x: Float[Tensor, "n 3 h w"], corrupt: Spy, encoder: nn.Module, decoder: nn.Module, *,
                        show_clean: bool = False, want_spoilt: bool = False,
                        count: Callable = lambda squares, changed: squares) -> Float[Tensor, ""]:
    """`denoising_loss(x, corrupt, encoder, decoder)`: all that a denoising autoencoder does with a batch."""
    spoilt = corrupt.replay(x)
    painted = decoder(encoder(x if show_clean else spoilt))
    return count((painted - (spoilt if want_spoilt else x)).square(), spoilt != x).mean()


def denoising_case() -> tuple:
    """A batch, what spoils about half of its pixels, and a small encoder and decoder."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(48, 6), nn.Tanh())
    decoder = nn.Sequential(nn.Linear(6, 48), nn.Unflatten(1, (3, 4, 4)))
    return torch.rand(5, 3, 4, 4), Spy(lambda x: x * (torch.rand_like(x[:, :1]) < 0.5)), encoder, decoder


def spoilt_once(loss: Tensor, x: Tensor, corrupt: Spy, *parts: nn.Module) -> str | None:
    """What is wrong with how corrupt was called."""
    if len(corrupt.calls) != 1:
        return f"corrupt is called {len(corrupt.calls)} times: spoil each picture once"
    if not torch.equal(corrupt.inputs[0], x):
        return "corrupt is given something else than the batch: call corrupt(x)"
    return None


STEP_SLIPS = {
    "the encoder sees the clean picture, so there is nothing to repair: give it the spoilt one": {"show_clean": True},
    "the target is the spoilt picture, and noise cannot be foreseen: compare with the clean one": {"want_spoilt": True},
    "your loss looks at the changed pixels alone, and the whole picture is to be painted":
        {"count": lambda squares, changed: squares[changed]},
    "your loss is 0 wherever a pixel was not changed, and the whole picture is to be painted":
        {"count": lambda squares, changed: squares * changed},
    **afterwards(lambda x, *parts: x.numel(), what="squares", logarithm=False)}


def cut_off_besides(loss: Tensor, x: Tensor, corrupt: Spy, encoder: nn.Module, decoder: nn.Module) -> str | None:
    """What is wrong with the value, where besides no gradient reaches the encoder, so that this is counted as well."""
    if not isinstance(loss, Tensor) or loss.ndim:
        return None
    try:
        gradient_reaches(loss, list(encoder.parameters()), "encoder")
    except Wrong:
        for told, wrong in variants(slow_denoising_loss, STEP_SLIPS, 3):
            if close(loss, wrong(x, corrupt, encoder, decoder)):
                count, _, first = told.rpartition(" mistakes at once; one of them: ")
                return f"{int(count or 1) + 1} mistakes at once; one of them: {first}"
    return None


denoising_loss = exercise(
    "denoising_loss", slow_denoising_loss, lambda: [denoising_case()], slips=STEP_SLIPS, together=3,
    look={"each picture is spoilt once": lambda *case: spoilt_once(*case) or cut_off_besides(*case)},
    gradients={"encoder": "look for .detach() on the code", "decoder": "look for .detach() on what it paints"},
    what="your loss", holds="spoilt picture in, clean picture wanted, mean of squares",
    otherwise="your loss is not the mean of (painted − clean)² over pixels, channels and pictures",
    given='''
def denoising_loss(x, corrupt, encoder, decoder):
    """The loss of a batch of clean pictures x: [N, 3, H, W]. corrupt(x) spoils pictures."""
    spoilt = corrupt(x)
    code = encoder(x)
    painted = decoder(code.detach())  # "saves memory"
    return (painted - spoilt).square().sum()
''')
