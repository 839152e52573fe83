"""Checkers of notebook 05: the best single colour, rebalanced bins, the annealed mean, and a training step."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from course_lib.check.base import (
    Wrong,
    agree,
    checker,
    close,
    function,
    gradient_reaches,
    number,
    predicted,
    together,
)
from course_lib.methods.pretext.colorization import color_bins, nearest_bin
from course_lib.parts.lab import gray, rgb_to_lab


@checker
def best_color(guess: float) -> Iterator[str]:
    """The predicted chroma of the one colour with the least squared error, where half of the balloons are orange,
    (a, b) = (40, 60), and half are blue, (0, -40)."""
    balloons = torch.tensor([[40.0, 60], [0, -40]])
    every = torch.cartesian_prod(torch.arange(-100.0, 101), torch.arange(-100.0, 101))
    best = every[torch.cdist(every, balloons).square().sum(1).argmin()]
    orange, blue = balloons.norm(dim=1).tolist()
    half = "right half of the time, and so wrong otherwise that squares punish it"
    yield predicted(
        guess, best.norm().item(), within=0.5,
        why=f"Of all colours, (a, b) = ({best[0]:.0f}, {best[1]:.0f}) has the least squared error: the mean of the "
            f"two, with a chroma of {best.norm():.1f}, where theirs are {orange:.1f} and {blue:.1f}",
        mistakes={"that is the mean of the two chromas. The mean colour is another thing: take the mean of a and of b "
                  "first": (orange + blue) / 2,
                  "orange and blue are not quite opposite here, so their mean is not quite grey": 0.0,
                  "you added the two colours: take their mean": 2 * best.norm().item(),
                  f"that is orange, {half}": orange, f"that is blue, {half}": blue})


def over_pixels(shares: list[float], weights: list[float]) -> float:
    """The mean weight of a pixel, where bins hold these shares of them."""
    return sum(p * w for p, w in zip(shares, weights, strict=True))


def slow_rebalance(share: Float[Tensor, " q"], uniform: float = 0.5, *, weigh: Callable = lambda p: 1 / p,
                   mix: Callable = lambda p, u, q: (1 - u) * p + u / q, mean: Callable = over_pixels
                   ) -> Float[Tensor, " q"]:
    """Weights of bins, one after another, in Python's own numbers. The options are places for mistakes."""
    shares = share.double().tolist()
    weights = [weigh(mix(p, uniform, len(shares))) for p in shares]
    scale = mean(shares, weights)
    return torch.tensor([w / scale for w in weights])


REBALANCE_SLIPS: dict[str, Callable] = {
    "the weights are not brought to a mean of 1 over the pixels: divide by (share * weights).sum()":
        lambda p, u: slow_rebalance(p, u, mean=lambda p, w: 1),
    "the mean over bins is 1, and the mean over pixels should be: common bins have more pixels, so divide by "
    "(share * weights).sum()": lambda p, u: slow_rebalance(p, u, mean=lambda p, w: sum(w) / len(w)),
    "the weights add up to 1, and should have a mean of 1 over the pixels: divide by (share * weights).sum()":
        lambda p, u: slow_rebalance(p, u, mean=lambda p, w: sum(w)),
    "λ and 1 − λ have changed places: at λ = 1 all bins should weigh the same":
        lambda p, u: slow_rebalance(p, 1 - u),
    "common bins get the larger weights: take 1 over the mixture":
        lambda p, u: slow_rebalance(p, u, weigh=lambda p: p),
    "λ is not used: mix the shares with the same share, 1 / Q, for every bin":
        lambda p, u: slow_rebalance(p, 0.0),
    "λ is added to each bin as it is: it is shared among the Q bins, λ / Q":
        lambda p, u: slow_rebalance(p, u, mix=lambda p, u, q: (1 - u) * p + u),
    "the shares keep their full weight: the mixture is (1 − λ) · share + λ / Q":
        lambda p, u: slow_rebalance(p, u, mix=lambda p, u, q: p + u / q),
}


def some_shares(bins: int) -> Float[Tensor, " q"]:
    """How often each bin occurs, very unevenly; they add up to 1."""
    share = torch.rand(bins) ** 3 + 0.01
    return share / share.sum()


@checker
def rebalance(answer: Callable) -> Iterator[str]:
    """`rebalance(share, uniform)`: the weights of equation 4, with a mean of 1 over the pixels."""
    student = function(answer)
    agree(student, [(some_shares(6), 0.5), (some_shares(9), 0.2), (some_shares(4), 0.9)], slow_rebalance,
          REBALANCE_SLIPS, "other weights than counting bin by bin")
    yield "equals weighing one bin after another"
    if not close(student(some_shares(7), 1.0), torch.ones(7)):
        raise Wrong("at λ = 1 all bins weigh the same, 1, and yours do not")
    yield "all alike at λ = 1"
    if not student(torch.tensor([0.75, 0.25, 0.0]), 0.5).isfinite().all():
        raise Wrong("a bin that does not occur, with share 0, should have a finite weight")
    yield "finite for a bin that does not occur"


@checker
def loss_at_start(guess: float, bins: int) -> Iterator[str]:
    """The predicted rebalanced loss of a network that gives each of the bins the same probability."""
    share = some_shares(bins)
    measured = float((share * slow_rebalance(share) * math.log(bins)).sum())
    yield predicted(
        guess, measured, within=0.05,
        why=f"Each pixel costs −log(1/Q) = log {bins} = {math.log(bins):.4g}, times its bin's weight, and the weights "
            "have a mean of 1 over the pixels. So rebalancing does not move this limit",
        mistakes={"that is the logarithm to base 10, and losses use base e": math.log10(bins),
                  "that is the logarithm to base 2, and losses use base e": math.log2(bins),
                  "that is how often a guess is right, and the loss is minus its logarithm": 1 / bins,
                  "the loss is minus a logarithm of a probability, so it is not below 0": -math.log(bins)})


def slow_annealed_mean(logits: Tensor, bins: Tensor, temperature: float = 0.38, *, dim: int = 1,
                       scale: Callable = lambda z, t: z / t) -> Tensor:
    """The annealed mean, place by place, in float64. The options are places for mistakes."""
    p = scale(logits.double(), temperature).softmax(dim)
    out = torch.zeros(len(logits), bins.shape[1], *logits.shape[2:], dtype=torch.float64)
    for i, y, x in itertools.product(*map(range, (logits.shape[0], *logits.shape[2:]))):
        for q in range(len(bins)):
            out[i, :, y, x] += p[i, q, y, x] * bins[q]
    return out


ANNEALED_SLIPS: dict[str, Callable] = {
    "you multiply by the temperature: divide by it, so that a low one makes the likeliest bin win":
        lambda z, b, t: slow_annealed_mean(z, b, t, scale=lambda z, t: z * t),
    "the temperature is not used": lambda z, b, t: slow_annealed_mean(z, b, 1.0),
    "the softmax runs over the pictures: the bins are dimension 1 of [N, Q, H, W]":
        lambda z, b, t: slow_annealed_mean(z, b, t, dim=0),
    "the softmax runs over the columns: the bins are dimension 1 of [N, Q, H, W]":
        lambda z, b, t: slow_annealed_mean(z, b, t, dim=3),
    "the softmax runs over the rows: the bins are dimension 1 of [N, Q, H, W]":
        lambda z, b, t: slow_annealed_mean(z, b, t, dim=2),
    "that is the mode, the likeliest bin alone: all bins count, each by its probability":
        lambda z, b, t: b[z.argmax(1)].permute(0, 3, 1, 2),
    "the softmax is taken twice": lambda z, b, t: slow_annealed_mean(z, b, t, scale=lambda z, t: (z / t).softmax(1)),
    "the temperature divides the logits, before the softmax: probabilities over T no longer add up to 1":
        lambda z, b, t: slow_annealed_mean(z, b, 1.0) / t,
}


@checker
def annealed_mean(answer: Callable) -> Iterator[str]:
    """`annealed_mean(logits, bins, temperature)`: `[N, Q, H, W]` and `[Q, 2]` to a colour a place, `[N, 2, H, W]`."""
    student = function(answer)
    bins = 40 * torch.randn(5, 2)
    cases = [(2 * torch.randn(3, 5, 2, 4), bins, 0.38), (2 * torch.randn(2, 5, 3, 2), bins, 2.0)]
    agree(student, cases, slow_annealed_mean, ANNEALED_SLIPS, "another colour than adding up bin by bin", 1e-3)
    yield "equals adding up bin by bin"
    logits = 2 * torch.randn(2, 5, 3, 4)
    if not close(student(logits, bins, 0.001), bins[logits.argmax(1)].permute(0, 3, 1, 2), 1e-2):
        raise Wrong("at a temperature near 0 the likeliest bin should win everywhere. Logits over 0.001 are large, and "
                    "exp of them is infinite: softmax takes care of that")
    yield "the likeliest bin as T goes to 0"
    if not close(student(torch.zeros(2, 5, 3, 4), bins, 0.7), bins.mean(0).view(1, 2, 1, 1).expand(2, 2, 3, 4), 1e-3):
        raise Wrong("where all bins are equally likely the colour is the mean of all bins, and yours is another")
    yield "the mean of all bins where the network does not know"


class _Watched(nn.Module):
    """A small encoder that remembers the pictures it was shown."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, 2, 1)
        self.seen: list[Tensor] = []

    def maps(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach())
        return self.conv(x).tanh()


# Slips of the training step. All are told apart from each other on random pictures, one or several together.
WRONG_CHANNELS = ("the targets are made of L and a, and the network is to guess a and b: of rgb_to_lab's three "
                  "channels these are 1 and 2")
SHUFFLED = ("the logits are mixed up: [N, Q, h, w] read row by row is no list of places with Q numbers each. Bring the "
            "bins to the end first: permute(0, 2, 3, 1)")
SOFTMAX = "F.cross_entropy takes a softmax itself: give it the painter's logits as they are"
UNWEIGHTED = "all bins weigh the same: common colours drown the others. Use the weights of `rebalance`"
STEP_SLIPS = (SHUFFLED, WRONG_CHANNELS, SOFTMAX, UNWEIGHTED)


def step_loss(x: Float[Tensor, "n 3 h w"], logits: Float[Tensor, "n q p r"], bins: Float[Tensor, "q 2"],
              slips: tuple[str, ...] = ()) -> Float[Tensor, ""]:
    """The colourizer's loss, or what it is with some of the slips above."""
    lab = rgb_to_lab(x)
    ab = F.adaptive_avg_pool2d(lab[:, :2] if WRONG_CHANNELS in slips else lab[:, 1:], logits.shape[2:])
    target = nearest_bin(ab, bins).flatten()
    rows = logits.reshape(-1, len(bins)) if SHUFFLED in slips else logits.permute(0, 2, 3, 1).flatten(0, 2)
    weights = slow_rebalance(target.bincount(minlength=len(bins)) / len(target), 1.0 if UNWEIGHTED in slips else 0.5)
    costs = F.cross_entropy(rows.softmax(1) if SOFTMAX in slips else rows, target, reduction="none")
    return (weights[target] * costs).mean()


def is_gray(x: Float[Tensor, "n 3 h w"]) -> Bool[Tensor, ""]:
    """Whether red, green and blue are the same everywhere."""
    return (x - x[:, :1]).abs().max() < 1e-4


@checker
def training_loss(answer: Callable) -> Iterator[str]:
    """`training_loss(x, encoder, painter, bins)`: all that the colourizer does with a batch of pictures."""
    student = function(answer)
    bins = color_bins(40)
    x, encoder, painter = torch.rand(4, 3, 8, 8) ** 2, _Watched(), nn.Conv2d(6, len(bins), 1)
    nn.init.normal_(painter.weight, std=3)  # so sure of itself that a second softmax tells
    loss = student(x, encoder, painter, bins)
    number(loss, "your loss")
    if len(encoder.seen) != 1 or encoder.seen[0].shape != x.shape:
        raise Wrong(f"the encoder should be shown the batch once, and it was asked {len(encoder.seen)} times: call "
                    "encoder.maps(…) with all pictures")
    seen = encoder.seen[0]
    if close(seen, x):
        raise Wrong("the encoder is shown the colours that it should guess: the answer stands in the question. "
                    "Give it grey(x)")
    if not is_gray(seen) or not (_order(seen[:, 0]) == _order(gray(x)[:, 0])).all():
        raise Wrong("what the encoder is shown is not the grey picture: give it grey(x)")
    yield "the encoder sees the grey pictures alone"
    logits = painter(encoder.maps(seen))
    wanted = step_loss(x, logits, bins)
    if not close(loss, wanted):
        raise Wrong(_diagnose(number(loss), x, logits, bins))
    yield "the rebalanced cross-entropy of a and b in bins"
    gradient_reaches(loss, [*encoder.parameters(), *painter.parameters()], "the encoder")
    yield "a gradient to encoder and painter"


def _order(values: Float[Tensor, "n h w"]) -> Int64[Tensor, " m"]:
    """The places from the darkest to the brightest."""
    return values.flatten().argsort()


def _diagnose(loss: float, x: Tensor, logits: Tensor, bins: Tensor) -> str:
    """Which slips, one or several together, give this loss."""
    for sentence, slips in together(STEP_SLIPS):
        if close(loss, step_loss(x, logits, bins, slips)):
            return sentence
    wanted, places = step_loss(x, logits, bins).item(), len(x) * math.prod(logits.shape[2:])
    if close(loss, wanted * places):
        return "you add up the losses of all places: take their mean, or the learning rate depends on the batch"
    return f"your loss is {loss:.4g} where {wanted:.4g} is right: the rebalanced cross-entropy of the bins"
