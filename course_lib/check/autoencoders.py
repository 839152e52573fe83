"""Checkers of notebook 01: what a shift costs, the limit of linear autoencoders, noise, and a denoising step."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.check.base import Wrong, agree, checker, close, function, gradient_reaches, predicted, tensor


@checker
def shift_that_costs_half(answer: float, measured: int) -> Iterator[str]:
    """A prediction. measured: by how many pixels a picture must move to cost more than hiding half of it."""
    yield predicted(answer, measured, within=1, unit=" pixels",
                    why="A squared error compares pixels in one place and does not know that they have only moved")


# --- the best that a linear autoencoder can do ------------------------------------------------------------------------

def slow_linear_limit(x: Float[Tensor, "n d"], k: int, *, centered: bool = True, divide: int = 0,
                      kept: slice | None = None, power: int = 2) -> Float[Tensor, ""]:
    """Mean squared error left by the k main directions of x, by eigenvalues in float64. Options are mistakes."""
    x = x.double()
    x = x - x.mean(0) if centered else x
    values = torch.linalg.eigvalsh(x.T @ x).clamp(min=0).flip(0)  # squared singular values, the largest first
    return values[slice(k, None) if kept is None else kept].pow(power / 2).sum() / ([x.numel(), len(x), 1][divide])


@checker
def linear_limit(answer: Callable) -> Iterator[str]:
    """`linear_limit(x, k)`: the lowest mean squared error of any linear autoencoder with k numbers in the middle."""
    student = function(answer)
    stretch = torch.logspace(0.3, -1, 6)
    cases = [(torch.randn(40, 6) * stretch + torch.arange(6.0), k) for k in (1, 2, 4)]
    agree(student, cases, slow_linear_limit, {
        "the mean is still in x: take x.mean(0) away first, as the decoder's bias does":
            lambda x, k: slow_linear_limit(x, k, centered=False),
        "that is what the k directions hold: what is lost is the rest":
            lambda x, k: slow_linear_limit(x, k, kept=slice(0, k)),
        "one direction too few is kept: index k is the first that is lost":
            lambda x, k: slow_linear_limit(x, k, kept=slice(k - 1, None)),
        "one direction too many is kept: index k is the first that is lost":
            lambda x, k: slow_linear_limit(x, k, kept=slice(k + 1, None)),
        "square the singular values: the error is squared too": lambda x, k: slow_linear_limit(x, k, power=1),
        "that is the error of a whole picture: divide by all entries of x":
            lambda x, k: slow_linear_limit(x, k, divide=1),
        "that is the sum over everything: divide by the entries of x": lambda x, k: slow_linear_limit(x, k, divide=2),
    }, "not the error that the best linear map leaves")
    yield "the error of a projection on the k main directions"
    x = cases[0][0]
    if not close(student(x, 0), (x - x.mean(0)).square().mean()):
        raise Wrong("with no number at all the best guess is the mean, and the error is the variance; yours is another")
    yield "the variance where k = 0"
    if not close(student(x, 6), 0.0):
        raise Wrong("with as many numbers as pixels nothing is lost, and the error is 0; yours is not")
    yield "0 where nothing is squeezed"


# --- noise ------------------------------------------------------------------------------------------------------------

@checker
def mask_pixels(answer: Callable) -> Iterator[str]:
    """`mask_pixels(x, share)`: pictures with a share of their pixels black, each pixel by its own draw."""
    student, share = function(answer), 0.3
    x = torch.rand(8, 3, 24, 24) * 0.9 + 0.1  # nothing is black to begin with
    out = tensor(student(x, share), x.shape, "your pictures")
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
    hit = black[:, 0]
    if bool((hit == hit[:1]).all()):
        raise Wrong("the same pixels are black in every picture: draw for each picture, and not [1, 1, H, W]")
    if torch.equal(student(x, share), out):
        raise Wrong("a second call hits the same pixels: draw anew each time, without a seed of your own")
    yield "each picture and each call by its own draw"
    found, slack = hit.float().mean().item(), 4 * (share * (1 - share) / hit.numel()) ** 0.5
    if abs(found - share) > slack:
        hint = ": that is 1 − share, so turn the comparison round" if abs(1 - found - share) < slack else ""
        raise Wrong(f"with share = {share} you make {100 * found:.0f} % of the pixels black{hint}")
    yield "the right share of them"


# --- a training step --------------------------------------------------------------------------------------------------

class Spoils(nn.Module):
    """Adds noise, and remembers what it made."""

    def __init__(self):
        super().__init__()
        self.made: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.made.append(x.detach() + 0.5 * torch.randn_like(x))
        return self.made[-1]


# What the loss may be made of, the right one first, each with what to say of the wrong one.
SEEN = ("", "the encoder sees the clean picture, so there is nothing to repair: give it the spoilt one")
TARGET = ("", "the target is the spoilt picture, and noise cannot be foreseen: compare with the clean one")
REDUCED = ("", "you add up the squares: take their mean, or the learning rate depends on the size of the batch")


@checker
def denoising_loss(answer: Callable) -> Iterator[str]:
    """`denoising_loss(x, corrupt, encoder, decoder)`: all that a denoising autoencoder does with a batch."""
    student = function(answer)
    x, corrupt = torch.rand(5, 3, 4, 4), Spoils()
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(48, 6), nn.Tanh())
    decoder = nn.Sequential(nn.Linear(6, 48), nn.Unflatten(1, (3, 4, 4)))
    loss = tensor(student(x, corrupt, encoder, decoder), (), "your loss")
    if len(corrupt.made) != 1:
        raise Wrong(f"corrupt is called {len(corrupt.made)} times: spoil each picture once")
    yield "each picture is spoilt once"
    pictures = (corrupt.made[0], x)  # index 0: what should be seen
    for wrong in itertools.product((0, 1), repeat=3):
        seen, target, summed = wrong
        squares = (decoder(encoder(pictures[seen])) - pictures[1 - target]).square()
        if close(loss, squares.sum() if summed else squares.mean()):
            break
    else:
        raise Wrong("your loss is not the mean of (painted − clean)² over pixels, channels and pictures")
    for sentences, is_wrong in zip((SEEN, TARGET, REDUCED), wrong, strict=True):
        if is_wrong:
            raise Wrong(sentences[1])
    yield "spoilt picture in, clean picture wanted, mean of squares"
    for name, part in (("the encoder", encoder), ("the decoder", decoder)):
        gradient_reaches(loss, list(part.parameters()), name)
    yield "encoder and decoder both learn"
