"""Checkers of notebook 05: the best single colour, rebalanced bins, the annealed mean, a control, a training step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.check.base import Expected, Spy, Wrong, afterwards, checker, close, exercise, function, prediction
from course_lib.methods.pretext.colorization import color_bins, nearest_bin
from course_lib.parts.lab import gray, rgb_to_lab


@prediction()
def best_color() -> Expected:
    """The predicted chroma of the one colour with the least squared error, where half of the balloons are orange,
    (a, b) = (40, 60), and half are blue, (0, -40)."""
    orange, blue, mean = math.hypot(40, 60), math.hypot(0, -40), math.hypot(20, 10)
    half = "right half of the time, and so wrong otherwise that squares punish it"
    return Expected(
        mean, within=0.5,
        why="Of all colours, (a, b) = (20, 10) has the least squared error: the mean of the two, with a chroma of "
            f"{mean:.1f}, where theirs are {orange:.1f} and {blue:.1f}",
        slips={"that is the mean of the two chromas. The mean colour is another thing: take the mean of a and of b "
               "first": (orange + blue) / 2,
               "orange and blue are not quite opposite here, so their mean is not quite grey": 0.0,
               "you added the two colours: take their mean": 2 * mean,
               f"that is orange, {half}": orange, f"that is blue, {half}": blue})


# --- rebalanced bins --------------------------------------------------------------------------------------------------

def over_pixels(shares: list[float], weights: list[float]) -> float:
    """The mean weight of a pixel, where bins hold these shares of them."""
    return sum(p * w for p, w in zip(shares, weights, strict=True))


def slow_rebalance(share: Float[Tensor, " q"], uniform: float = 0.5, *, weigh: Callable = lambda p: 1 / p,
                   mix: Callable = lambda p, u, q: (1 - u) * p + u / q, mean: Callable = over_pixels
                   ) -> Float[Tensor, " q"]:
    """`rebalance(share, uniform)`: the weights of equation 4, with a mean of 1 over the pixels."""
    shares = share.tolist()
    weights = [weigh(mix(p, uniform, len(shares))) for p in shares]
    scale = mean(shares, weights)
    return torch.tensor([w / scale for w in weights])


def some_shares(bins: int) -> Float[Tensor, " q"]:
    """How often each bin occurs, very unevenly; they add up to 1."""
    share = torch.rand(bins) ** 3 + 0.01
    return share / share.sum()


def with_an_empty_bin(student: Callable) -> tuple:
    """The student's weights where one bin does not occur, and what they should be."""
    share = torch.tensor([0.75, 0.25, 0.0])
    return student(share, 0.5), slow_rebalance(share, 0.5)


rebalance = exercise(
    "rebalance", slow_rebalance, lambda: [(some_shares(6), 0.5), (some_shares(9), 0.2), (some_shares(4), 0.9)],
    slips={"the weights are not brought to a mean of 1 over the pixels: divide by (share * weights).sum()":
               {"mean": lambda p, w: 1},
           "the mean over bins is 1, and the mean over pixels should be: common bins have more pixels, so divide by "
           "(share * weights).sum()": {"mean": lambda p, w: sum(w) / len(w)},
           "the weights add up to 1, and should have a mean of 1 over the pixels: divide by (share * weights).sum()":
               {"mean": lambda p, w: sum(w)},
           "λ and 1 − λ have changed places: at λ = 1 all bins should weigh the same":
               {"mix": lambda p, u, q: u * p + (1 - u) / q},
           "common bins get the larger weights: take 1 over the mixture": {"weigh": lambda p: p},
           "λ is not used: mix the shares with the same share, 1 / Q, for every bin": {"mix": lambda p, u, q: p},
           "λ is added to each bin as it is: it is shared among the Q bins, λ / Q":
               {"mix": lambda p, u, q: (1 - u) * p + u},
           "the shares keep their full weight: the mixture is (1 − λ) · share + λ / Q":
               {"mix": lambda p, u, q: p + u / q}},
    limits={"at λ = 1 all bins weigh the same": lambda student: (student(some_shares(7), 1.0), torch.ones(7)),
            "a bin that does not occur has a finite weight": with_an_empty_bin},
    holds="equals weighing one bin after another", otherwise="other weights than counting bin by bin")


@prediction(example=(20,))
def loss_at_start(bins: int) -> Expected:
    """The predicted rebalanced loss of a network that gives each of the bins the same probability."""
    return Expected(
        math.log(bins), within=0.05,
        why=f"Each pixel costs −log(1/Q) = log {bins} = {math.log(bins):.4g}, times its bin's weight, and the weights "
            "have a mean of 1 over the pixels. So rebalancing does not move this limit",
        slips={"that is the logarithm to base 10, and losses use base e": math.log10(bins),
               "that is the logarithm to base 2, and losses use base e": math.log2(bins),
               "that is how often a guess is right, and the loss is minus its logarithm": 1 / bins,
               "the loss is minus a logarithm of a probability, so it is not below 0": -math.log(bins)})


# --- the annealed mean ------------------------------------------------------------------------------------------------

def slow_annealed_mean(logits: Float[Tensor, "n q h w"], bins: Float[Tensor, "q 2"], temperature: float = 0.38, *,
                       dim: int = 1, scale: Callable = lambda z, t: z / t) -> Float[Tensor, "n 2 h w"]:
    """`annealed_mean(logits, bins, temperature)`: `[N, Q, H, W]` and `[Q, 2]` to a colour a place, `[N, 2, H, W]`."""
    p = scale(logits, temperature).softmax(dim)
    return sum(p[:, q, None] * color[:, None, None] for q, color in enumerate(bins))


def mode(logits: Float[Tensor, "n q h w"], bins: Float[Tensor, "q 2"], temperature: float) -> Float[Tensor, "n 2 h w"]:
    """The colour of the likeliest bin alone."""
    return bins[logits.argmax(1)].permute(0, 3, 1, 2)


def nearly_zero(student: Callable) -> tuple:
    """The student's colours at a temperature near 0, and what they should be; no two logits are nearly equal."""
    logits, bins = torch.linspace(-4, 4, 120)[torch.randperm(120)].view(2, 5, 3, 4), 40 * torch.randn(5, 2)
    return student(logits, bins, 0.001), mode(logits, bins, 0.001), (
        "at a temperature near 0 the likeliest bin should win everywhere. Logits over 0.001 are large, and exp of them "
        "is infinite: softmax takes care of that")


def undecided(student: Callable) -> tuple:
    """The student's colours where all logits are 0, and what they should be."""
    bins = 40 * torch.randn(5, 2)
    return student(torch.zeros(2, 5, 3, 4), bins, 0.7), bins.mean(0)[:, None, None].expand(2, 2, 3, 4)


annealed_mean = exercise(
    "annealed_mean", slow_annealed_mean,
    lambda: [(2 * torch.randn(3, 5, 2, 4), 40 * torch.randn(5, 2), 0.38),
             (2 * torch.randn(2, 5, 3, 2), 40 * torch.randn(5, 2), 2.0)],
    slips={"you multiply by the temperature: divide by it, so that a low one makes the likeliest bin win":
               {"scale": lambda z, t: z * t},
           "the temperature is not used": {"scale": lambda z, t: z},
           "the softmax runs over the pictures: the bins are dimension 1 of [N, Q, H, W]": {"dim": 0},
           "the softmax runs over the columns: the bins are dimension 1 of [N, Q, H, W]": {"dim": 3},
           "the softmax runs over the rows: the bins are dimension 1 of [N, Q, H, W]": {"dim": 2},
           "that is the mode, the likeliest bin alone: all bins count, each by its probability": mode,
           "the softmax is taken twice": {"scale": lambda z, t: (z / t).softmax(1)},
           "the temperature divides the logits, before the softmax: probabilities over T no longer add up to 1":
               {"scale": lambda z, t: z, "after": lambda ab, z, bins, t: ab / t}},
    limits={"the likeliest bin as T goes to 0": nearly_zero,
            "where all bins are equally likely the colour is the mean of all bins": undecided},
    holds="equals adding up bin by bin", otherwise="another colour than adding up bin by bin", tolerance=1e-3)


# --- a control --------------------------------------------------------------------------------------------------------

@checker
def control(answer: Callable) -> Iterator[str]:
    """`control(trained, untrained)`: the two halves of the encoder that tells what the training of half 2 was worth."""
    trained, untrained = (tuple(nn.Linear(2, 2) for _ in range(2)) for _ in range(2))
    names = {id(half): f"{word} half {i + 1}" for word, halves in (("trained", trained), ("untrained", untrained))
             for i, half in enumerate(halves)}
    out = function(answer)(trained, untrained)
    halves = out if isinstance(out, (tuple, list)) else (out,)
    if not all(id(half) in names for half in halves):
        raise Wrong("the control is made of the halves that you were given: return two of them, (half 1, half 2)")
    chosen = tuple(names[id(half)] for half in halves)
    if len(chosen) != 2:
        raise Wrong(f"you compare with {' and '.join(chosen)} alone: it has half of the features and sees one part of "
                    "the picture, so more than a training differs. The control has two halves too")
    if [name[-1] for name in chosen] != ["1", "2"]:
        raise Wrong(f"your control is {' and '.join(chosen)}: it must see the whole picture, half 1 the lightness and "
                    "half 2 the colours, in this order")
    yield "two halves that see the whole picture"

    mistakes = {("trained half 1", "trained half 2"): "that is the split-brain itself: nothing differs",
                ("untrained half 1", "untrained half 2"): "both halves are untrained, so the difference is what both "
                                                          "trainings were worth: half 1 must stay as it is",
                ("untrained half 1", "trained half 2"): "the wrong half is untrained: the difference is what the "
                                                        "training of half 1 was worth"}
    if chosen in mistakes:
        raise Wrong(mistakes[chosen])
    yield "nothing differs but the training of half 2"


# --- a training step --------------------------------------------------------------------------------------------------

def slow_training_loss(x: Float[Tensor, "n 3 h w"], encoder: Spy, painter: nn.Module, bins: Float[Tensor, "q 2"], *,
                       channels: slice = slice(1, 3), by_place: bool = True, softmax: bool = False,
                       uniform: float = 0.5) -> Float[Tensor, ""]:
    """`training_loss(x, encoder, painter, bins)`: all that the colourizer does with a batch of pictures."""
    logits = painter(encoder.maps(encoder.inputs[0] if encoder.inputs else gray(x)))  # any grey that was shown will do
    ab = F.adaptive_avg_pool2d(rgb_to_lab(x)[:, channels], logits.shape[2:])
    target = nearest_bin(ab, bins).flatten()
    rows = logits.permute(0, 2, 3, 1).flatten(0, 2) if by_place else logits.reshape(-1, len(bins))
    weights = slow_rebalance(target.bincount(minlength=len(bins)) / len(target), uniform)
    costs = F.cross_entropy(rows.softmax(1) if softmax else rows, target, reduction="none")
    return (weights[target] * costs).mean()


class MapEncoder(Spy):
    """A spy that is like the library's encoders: `maps` gives maps, and a plain call only their mean over places."""

    def maps(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c p r"]:
        return super().forward(x)

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c"]:
        return self.maps(x).mean((2, 3))


def training_case(n: int) -> tuple:
    """n pictures, a small encoder, a painter so sure of itself that a second softmax tells, and bins."""
    bins = color_bins(40)
    encoder, painter = MapEncoder(nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.Tanh())), nn.Conv2d(6, len(bins), 1)
    nn.init.normal_(painter.weight, std=3)
    return torch.rand(n, 3, 8, 8) ** 2, encoder, painter, bins


def sees_gray(loss: Tensor, x: Float[Tensor, "n 3 h w"], encoder: Spy, *rest) -> str | None:
    """What is wrong with what the encoder was shown."""
    if len(encoder.calls) != 1 or encoder.inputs[0].shape != x.shape:
        return (f"the encoder should be shown the batch once, and it was asked {len(encoder.calls)} times: call "
                "encoder.maps(…) with all pictures")
    seen = encoder.inputs[0]
    if close(seen, x):
        return ("the encoder is shown the colours that it should guess: the answer stands in the question. "
                "Give it gray(x)")
    in_order = seen[:, 0].flatten().argsort()  # from dark to bright: any scale of greys will do
    if not torch.equal(in_order, gray(x)[:, 0].flatten().argsort()) or not close(seen, seen[:, :1].expand_as(seen)):
        return "what the encoder is shown is not the grey picture: give it gray(x)"
    return None


training_loss = exercise(
    "training_loss", slow_training_loss, lambda: [training_case(4), training_case(3)],
    slips={"the logits are mixed up: [N, Q, h, w] read row by row is no list of places with Q numbers each. Bring the "
           "bins to the end first: permute(0, 2, 3, 1)": {"by_place": False},
           "the targets are made of L and a, and the network is to guess a and b: of rgb_to_lab's three channels these "
           "are 1 and 2": {"channels": slice(0, 2)},
           "F.cross_entropy takes a softmax itself: give it the painter's logits as they are": {"softmax": True},
           "all bins weigh the same: common colours drown the others. Use the weights of `rebalance`": {"uniform": 1.0},
           **afterwards(lambda x, *rest: len(x) * 4 * 4, what="losses of all places")},  # encoder.maps is 4×4
    together=4, look={"the encoder sees the grey pictures alone": sees_gray},
    gradients={"encoder": "look for .detach() or torch.no_grad()", "painter": "look for .detach() or torch.no_grad()"},
    what="your loss", holds="the rebalanced cross-entropy of a and b in bins",
    otherwise="your loss is not the rebalanced cross-entropy of the bins",
    given='''
def training_loss(x, encoder, painter, bins):
    """The rebalanced loss, λ = 0.5, of pictures x: [N, 3, H, W] in [0, 1]. painter: maps to logits [N, Q, h, w]."""
    logits = painter(encoder.maps(x))
    lab = rgb_to_lab(x)
    ab = F.adaptive_avg_pool2d(lab[:, :2], logits.shape[2:])
    target = colorization.nearest_bin(ab, bins).flatten()
    share = target.bincount(minlength=len(bins)) / len(target)
    rows = logits.reshape(-1, len(bins)).softmax(1)  # "one row a place"
    costs = F.cross_entropy(rows, target, reduction="none")
    return (colorization.rebalance(share, 0.5)[target] * costs).mean()
''')
