"""Checkers of notebook 01: what a shift costs, the limit of linear autoencoders, noise, and a denoising step."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.check.base import Expected, Spy, Wrong, afterwards, checker, exercise, function, prediction, tensor


@prediction(example=(3,))
def shift_that_costs_half(measured: int) -> Expected:
    """The predicted number of pixels by which a picture must move to cost more than hiding half of it."""
    return Expected(measured, within=1, unit=" pixels",
                    why="A squared error compares pixels in one place and does not know that they have only moved")


# --- the best that a linear autoencoder can do ------------------------------------------------------------------------

def slow_linear_limit(x: Float[Tensor, "n d"], k: int, *, centered: bool = True, power: int = 2,
                      lost: Callable = lambda values, k: values[k:]) -> Float[Tensor, ""]:
    """`linear_limit(x, k)`: the lowest mean squared error of any linear autoencoder with k numbers in the middle."""
    x = x - x.mean(0) if centered else x
    singular_values = torch.linalg.eigvalsh(x.T @ x).clamp(min=0).sqrt().flip(0)  # the largest first
    return lost(singular_values, k).pow(power).sum() / x.numel()


def points() -> Float[Tensor, "40 6"]:
    """Points that vary more in some directions than in others, around a mean that is not 0."""
    return torch.randn(40, 6) * torch.logspace(0.3, -1, 6) + torch.arange(6.0)


def without_numbers(student: Callable) -> tuple:
    """The student's error with k = 0, and what it should be."""
    x = points()
    return student(x, 0), (x - x.mean(0)).square().mean()


linear_limit = exercise(
    "linear_limit", slow_linear_limit, lambda: [(points(), k) for k in (1, 2, 4)],
    slips={"the mean is still in x: take x.mean(0) away first, as the decoder's bias does": {"centered": False},
           "that is what the k directions hold: what is lost is the rest": {"lost": lambda values, k: values[:k]},
           "one direction too few is kept: index k is the first that is lost":
               {"lost": lambda values, k: values[k - 1:]},
           "one direction too many is kept: index k is the first that is lost":
               {"lost": lambda values, k: values[k + 1:]},
           "square the singular values: the error is squared too": {"power": 1},
           "that is the error of a whole picture: divide by all entries of x":
               {"after": lambda error, x, k: error * x.shape[1]},
           "that is the sum over everything: divide by the entries of x":
               {"after": lambda error, x, k: error * x.numel()}},
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
    yield "each picture and each call by its own draw"
    for share in (0.3, 0.6):
        hit = (student(x, share) == 0)[:, 0]
        found, slack = hit.float().mean().item(), 4 * (share * (1 - share) / hit.numel()) ** 0.5
        if abs(found - share) > slack:
            hint = ": that is 1 − share, so turn the comparison round" if abs(1 - found - share) < slack else ""
            raise Wrong(f"with share = {share} you make {100 * found:.0f} % of the pixels black{hint}")
    yield "the right share of them"


# --- a training step --------------------------------------------------------------------------------------------------

def slow_denoising_loss(x: Float[Tensor, "n 3 h w"], corrupt: Spy, encoder: nn.Module, decoder: nn.Module, *,
                        show_clean: bool = False, want_spoilt: bool = False) -> Float[Tensor, ""]:
    """`denoising_loss(x, corrupt, encoder, decoder)`: all that a denoising autoencoder does with a batch."""
    spoilt = corrupt.replay(x)
    painted = decoder(encoder(x if show_clean else spoilt))
    return (painted - (spoilt if want_spoilt else x)).square().mean()


def denoising_case() -> tuple:
    """A batch, noise, and a small encoder and decoder."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(48, 6), nn.Tanh())
    decoder = nn.Sequential(nn.Linear(6, 48), nn.Unflatten(1, (3, 4, 4)))
    return torch.rand(5, 3, 4, 4), Spy(lambda x: x + 0.5 * torch.randn_like(x)), encoder, decoder


def spoilt_once(loss: Tensor, x: Tensor, corrupt: Spy, *parts: nn.Module) -> str | None:
    """What is wrong with how corrupt was called."""
    if len(corrupt.calls) != 1:
        return f"corrupt is called {len(corrupt.calls)} times: spoil each picture once"
    if not torch.equal(corrupt.inputs[0], x):
        return "corrupt is given something else than the batch: call corrupt(x)"
    return None


denoising_loss = exercise(
    "denoising_loss", slow_denoising_loss, lambda: [denoising_case()],
    slips={"the encoder sees the clean picture, so there is nothing to repair: give it the spoilt one":
               {"show_clean": True},
           "the target is the spoilt picture, and noise cannot be foreseen: compare with the clean one":
               {"want_spoilt": True},
           **afterwards(lambda x, *parts: x.numel(), what="squares", logarithm=False)},
    together=3, look={"each picture is spoilt once": spoilt_once},
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
