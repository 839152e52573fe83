"""Checkers of notebook 10: NT-Xent, the training step around it, the negatives that are none, and a fair control."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_lib.check.base import (
    Expected,
    NotAttempted,
    Spy,
    Wrong,
    afterwards,
    checker,
    exercise,
    hard_coded,
    number,
    prediction,
)

INF = math.inf
TEMPERATURES = (0.05, 0.07, 0.1, 0.2, 0.5)  # that are often written into the code


def _partner(i: int, n: int) -> int:
    """The row that shows the same picture as row i of 2n."""
    return (i + n) % (2 * n)


def _nt_xent(z1: Float[Tensor, "n d"], z2: Float[Tensor, "n d"], temperature: float, *,
             normalize: Callable = F.normalize, scale: Callable = lambda s, t: s / t,
             squash: Callable = lambda row: row, keep: Callable = lambda i, k, n: True, left_out: float = -INF,
             diagonal: float | None = -INF, at_last: Callable = lambda row: row, target: Callable = _partner,
             masked: bool = True, cost: Callable = lambda row, right: row.logsumexp(0) - right,
             anchors: Sequence[float] = (0, 1), reduce: Callable = torch.mean) -> Float[Tensor, ""]:
    """`nt_xent(z1, z2, temperature)`: the loss of equation 1, over all 2N anchors, one after another.

    Each option is a place for one mistake. keep(i, k, n): whether another row k stays a candidate of anchor i.
    left_out, diagonal: what stands for those that do not, and for the anchor itself; its own cosine if None. squash,
    at_last: what is done with a row of logits before and after the mask. masked: whether the right logit is read after
    the mask. cost: the loss of a row and its right logit. anchors: the part of the 2N rows whose mean is the loss.
    """
    n, z, losses = len(z1), normalize(torch.cat([z1, z2])), []
    for i in range(round(anchors[0] * 2 * n), round(anchors[1] * 2 * n)):
        logits = squash(scale(z @ z[i], temperature))
        stays = torch.tensor([k == i or keep(i, k, n) for k in range(2 * n)])
        row = torch.where(stays, logits, left_out)
        if diagonal is not None:
            row = torch.where(torch.arange(2 * n) == i, diagonal, row)
        right = (at_last(row) if masked else logits)[target(i, n)]
        losses.append(cost(at_last(row), right))
    return reduce(torch.stack(losses))


def _pairs(n: int, d: int) -> tuple[Tensor, Tensor]:
    """Embeddings of two views that resemble each other, of different lengths."""
    z1 = torch.randn(n, d) * torch.rand(n, 1).add(0.5)
    return z1, 1.5 * z1 + torch.randn(n, d)


# What is often done instead of NT-Xent.
_AGAIN = "F.cross_entropy takes a softmax itself: give it the cosines over τ as they are, without "
_HALVES = "each view's columns were normalised over the batch: F.normalize(z, dim=1) makes each row of length 1"
_NT_XENT_SLIPS: dict[str, dict[str, Any]] = {
    "your loss is NaN, since 0 times -inf is NaN: as in torch.eye(2N) * -inf, or with one-hot targets. Use "
    "masked_fill, and targets that are numbers of columns": {"after": lambda loss, *case: loss * math.nan},
    "your loss counts each anchor as its own negative: take the diagonal out before the softmax, with -inf":
        {"diagonal": None},
    "the diagonal is 0, and exp(0) = 1 still counts in the denominator: fill it with -inf": {"diagonal": 0.0},
    "the embeddings are not normalised: divide each row by its length first": {"normalize": lambda z: z},
    "you normalised each column over the batch: F.normalize(z, dim=1) makes each row of length 1":
        {"normalize": lambda z: F.normalize(z, dim=0)},
    _HALVES: {"normalize": lambda z: torch.cat([F.normalize(half, dim=0) for half in z.chunk(2)])},
    "you multiply by the temperature: divide by it, so that a small one makes differences larger":
        {"scale": lambda s, t: s * t},
    "both factors of the product are divided by the temperature, and so the cosine by its square: divide once":
        {"scale": lambda s, t: s / t**2},
    "the temperature is not used": {"scale": lambda s, t: s},
    "that is minus the partner's probability: nll_loss wants its logarithm, and F.cross_entropy takes both steps":
        {"cost": lambda row, right: -(right - row.logsumexp(0)).exp()},
    _AGAIN + "another softmax": {"at_last": lambda row: row.softmax(0)},
    _AGAIN + "a softmax before the mask": {"squash": lambda row: row.softmax(0)},
    _AGAIN + "exp": {"at_last": torch.exp},
    _AGAIN + "exp before the mask": {"squash": torch.exp},
    "your loss is infinite, since each anchor's right answer was taken out with -inf. Is it the anchor itself, as with "
    "arange(2N)? It is the other view, N rows further on. Or is that one masked too? Mask the diagonal alone":
        {"target": lambda i, n: i},
    "each anchor's right answer is the anchor itself, which is its own candidate too: take the diagonal out with -inf. "
    "The right answer is the other view, N rows further on": {"target": lambda i, n: i, "diagonal": None},
    "each anchor's right answer is the row next to it: after torch.cat([z1, z2]) it is N rows further on":
        {"target": lambda i, n: (i - 1) % (2 * n)},
    "rows 0 and 1, 2 and 3, … are taken for pairs: after torch.cat([z1, z2]) the partner is N rows further on":
        {"target": lambda i, n: i ^ 1},
    "the positive is missing from the denominator: it is one of the 2N − 1 candidates":
        {"keep": lambda i, k, n: k != _partner(i, n), "masked": False},
    "the negatives are only those of the other view: the same view of other pictures counts too":
        {"keep": lambda i, k, n: (k < n) != (i < n)},
    "only the first view's rows are anchors: the second view's are anchors too": {"anchors": (0, 0.5)},
    "only the second view's rows are anchors: the first view's are anchors too": {"anchors": (0.5, 1)},
    "that is one loss an anchor: take their mean": {"reduce": lambda losses: losses},
    "you divide by N, and there are 2N anchors": {"after": lambda loss, *case: 2 * loss},
    **afterwards(lambda z1, *case: 2 * len(z1), what="anchors' losses"),
}


_BOTH_LEARN = "NT-Xent learns from both views, so nothing is detached"
_ONE_COLOR = torch.ones(8, 4)


def _cold(f: Callable) -> tuple:
    z = F.normalize(_pairs(4, 8)[0], dim=1)
    return f(z, z, 0.005), _nt_xent(z.double(), z.double(), 0.005), (
        "at a temperature of 0.005 exp(200) is too large for float32: F.cross_entropy and torch.logsumexp subtract the "
        "largest logit first")


def _swapped(f: Callable) -> tuple:
    z1, z2 = _pairs(4, 8)
    return f(z2, z1, 0.5), f(z1, z2, 0.5), "swapping the two views changes the loss: both are anchors, so it must not"


nt_xent = exercise(
    "nt_xent", _nt_xent,
    lambda: [(*_pairs(n, d), temperature) for n, d, temperature in ((4, 8, 0.5), (5, 3, 0.3), (3, 6, 2))],
    slips={**_NT_XENT_SLIPS, **hard_coded(_nt_xent, TEMPERATURES)}, together=3, what="your loss",
    holds="equals a loop over the anchors", otherwise="your loss is not that of a loop over the anchors",
    limits={
        "log(2N − 1) where all embeddings are the same": lambda f: (
            f(_ONE_COLOR, _ONE_COLOR, 0.5), math.log(15), "embeddings that are all the same must give log(2N − 1)"),
        "the same when the views change places": _swapped,
        "safe at small temperatures": _cold},
    gradients={"z1": _BOTH_LEARN, "z2": _BOTH_LEARN})


@prediction()
def loss_at_random(pictures: int = 256, temperature: float = 0.5) -> Expected:
    """The predicted NT-Xent of embeddings that know nothing, for a batch of `pictures`."""
    n = pictures
    logits = F.normalize(torch.randn(2 * n, 4096), dim=1)
    logits = (logits @ logits.T / temperature).fill_diagonal_(-INF)
    return Expected(
        F.cross_entropy(logits, torch.arange(2 * n).roll(n)).item(), within=0.1,
        why="An encoder that knows nothing gives each of the 2N − 1 candidates the same chance, "
            f"and −log(1 / (2N − 1)) = log {2 * n - 1} = {math.log(2 * n - 1):.4g}",
        slips={"that is log(N), but an anchor also sees the other pictures' second views": math.log(n),
               "that is the logarithm to base 10, and losses use base e": math.log10(2 * n - 1),
               "that is the logarithm to base 2, and losses use base e": math.log2(2 * n - 1),
               "that is how often a guess is right, and the loss is minus its logarithm": 1 / (2 * n - 1),
               "a loss of 0 is that of an encoder that always finds the partner and is sure of it": 0.0,
               "that is what a fair coin costs, and there are 2N − 1 candidates": math.log(2),
               "that is how many candidates there are, and the loss is the logarithm of it": 2 * n - 1,
               "the loss is minus a logarithm of a probability, so it is not below 0": -math.log(2 * n - 1)})


# --- false negatives --------------------------------------------------------------------------------------------------

@prediction(example=(50.2, 256, 10))
def false_negatives_guess(measured: float, pictures: int, classes: int) -> Expected:
    """The predicted number of an anchor's negatives that are of its own class, beside the one counted."""
    others = pictures - 1
    return Expected(
        measured, within=3,
        why=f"{others} other pictures, one in {classes} of the anchor's class, two views each: "
            f"2 × {others} / {classes} = {2 * others / classes:.1f}",
        slips={"each of those pictures is there twice, once a view": others / classes,
               "that is how many are rightly negative": 2 * others * (1 - 1 / classes),
               "that is their share, and the question is how many": 1 / classes,
               "that is their share in percent, and the question is how many": 100 / classes})


def count_false_negatives(y: Int64[Tensor, " n"]) -> float:
    """How many of an anchor's 2N − 2 negatives are of its class, as a mean over all anchors, counted one by one."""
    n, labels = len(y), torch.cat([y, y]).tolist()
    return sum(labels[i] == labels[k] and k not in (i, _partner(i, n))
               for i in range(2 * n) for k in range(2 * n)) / (2 * n)


def _apart(z1: Float[Tensor, "n d"], z2: Float[Tensor, "n d"], y: Int64[Tensor, " n"], temperature: float, *,
           stays: Callable = lambda i, k, same, n: not same or k == _partner(i, n), **options) -> Float[Tensor, ""]:
    """`nt_xent_apart(z1, z2, y, temperature)`: NT-Xent whose denominator leaves out the false negatives.

    stays(i, k, same, n): whether another row k, of the anchor's class or not, is a candidate. options: `_nt_xent`'s.
    """
    labels = torch.cat([y, y]).tolist()
    return _nt_xent(z1, z2, temperature, keep=lambda i, k, n: stays(i, k, labels[i] == labels[k], n), **options)


nt_xent_apart = exercise(
    "nt_xent_apart", _apart,
    lambda: [(*_pairs(len(y), d), torch.tensor(y), temperature)
             for y, d, temperature in (([0, 1, 0, 2, 1, 0], 8, 0.5), ([0, 0, 0, 1, 2], 4, 0.2),
                                       ([0, 1, 2, 3], 6, 1), ([0, 0], 6, 0.5))],  # these two tell apart what gives inf
    slips={
        "the false negatives still count: nothing was left out": {"stays": lambda i, k, same, n: True},
        "the positive is of the anchor's class too and was left out with the rest, so its logit is -inf: put it back":
            {"stays": lambda i, k, same, n: not same},
        "the positive is of the anchor's class too and was left out with the rest: put it back":
            {"stays": lambda i, k, same, n: not same, "masked": False},
        "you left out the negatives of other classes and kept those of the anchor's: turn the mask round":
            {"stays": lambda i, k, same, n: same},
        "what is left out is 0, and exp(0) = 1 still counts in the denominator: fill it with -inf":
            {"left_out": 0.0, "diagonal": 0.0},
        "the negatives are only those of the other view: the same view of other pictures counts too":
            {"stays": lambda i, k, same, n: (k < n) != (i < n) and (not same or k == _partner(i, n))},
        "false negatives are left out among one view only: they are there in both":
            {"stays": lambda i, k, same, n: not same or (i < n) == (k < n) or k == _partner(i, n)},
        **{sentence: slip for sentence, slip in _NT_XENT_SLIPS.items() if "keep" not in slip},
        **hard_coded(_apart, TEMPERATURES)},
    what="your loss", holds="equals a loop over the anchors",
    otherwise="your loss is not that of a loop over the anchors",
    limits={"NT-Xent where all classes differ": lambda f: (
        f(*(z := _pairs(6, 8)), torch.arange(6), 0.5), _nt_xent(*z, 0.5),
        "where all classes differ there is nothing to leave out, and yours is not NT-Xent")},
    gradients={"z1": _BOTH_LEARN, "z2": _BOTH_LEARN})


# --- the training step ------------------------------------------------------------------------------------------------

def _step(x: Float[Tensor, "n 3 h w"], views: Spy, encoder: Spy, projector: Spy, temperature: float, *,
          project: bool = True, **options) -> Float[Tensor, ""]:
    """`training_loss(x, views, encoder, projector, temperature)`: all that SimCLR does with a batch of pictures.

    project: whether the projector is used. options: `_nt_xent`'s.
    """
    drawn = views.replay(x, x)
    of = _which(torch.cat(views.inputs), x).argsort(stable=True)  # the views may have been drawn in any order
    h = encoder(drawn[of])
    z = projector(h) if project else h
    return _nt_xent(z[0::2], z[1::2], temperature, **options)


def _which(rows: Float[Tensor, "m 3 h w"], pictures: Float[Tensor, "n 3 h w"]) -> Int64[Tensor, " m"]:
    """The number of each row among the pictures, -1 where it is none of them."""
    far = torch.cdist(rows.flatten(1), pictures.flatten(1))
    return torch.where(far.min(1).values < 1e-6, far.argmin(1), -1)


def _two_views(loss: Tensor, x: Tensor, views: Spy, encoder: Spy, projector: Spy, temperature: float) -> str | None:
    drawn, shown = sum(map(len, views.inputs)), encoder.inputs
    if not shown:
        return "the encoder was never asked: give it the views"
    raw = int((_which(torch.cat(shown), x) >= 0).sum())
    if raw and not drawn:
        return "the pictures go into the encoder as they are: draw views of them"
    if raw:
        return "one of each two is the picture itself: draw both views, and give both to the encoder"
    if drawn == len(x):
        return ("one view is drawn and used twice, so both embeddings are the same and there is nothing to learn: "
                "call views(x) once for each")
    if drawn != 2 * len(x):
        return f"{drawn} views are drawn of {len(x)} pictures, and two of each are wanted"
    if len(_which(torch.cat(shown), torch.cat(views.outputs)).unique()) < drawn:
        return "two views are drawn, and the encoder is shown one of them alone: give it both"
    return None


def _batch(pictures: int, temperature: float) -> tuple:
    """Small pictures, views, an encoder and a projector."""
    views, encoder = Spy(lambda x: x + torch.rand_like(x)), nn.Sequential(nn.Flatten(), nn.Linear(48, 6), nn.Tanh())
    return torch.rand(pictures, 3, 4, 4), views, Spy(encoder), Spy(nn.Linear(6, 4)), temperature


_BOTH_VIEWS = ("it should be that of both views, and not of one alone. Look for torch.no_grad() or .detach(): only "
               "methods without negatives stop a gradient")

training_loss = exercise(
    "training_loss", _step, lambda: [_batch(5, 0.2), _batch(5, 0.7), _batch(4, 2.0)],
    slips={"the projector is not used: the loss is taken of z = projector(encoder(view))": {"project": False},
           **_NT_XENT_SLIPS, **hard_coded(_step, TEMPERATURES)}, together=3, what="your loss",
    look={"two views of each picture": _two_views},
    holds="NT-Xent of their projections", otherwise="your loss of two views is not NT-Xent",
    gradients={"encoder": _BOTH_VIEWS, "projector": _BOTH_VIEWS},
    given='''
def training_loss(x, views, encoder, projector, temperature=0.5):
    """NT-Xent of a batch of pictures x: [N, 3, H, W]."""
    view = views(x)
    z1 = projector(encoder(view))
    with torch.no_grad():  # "saves memory"
        z2 = projector(encoder(view))
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    logits = z @ z.T * temperature
    logits = logits * (1 - torch.eye(len(z)))  # "removes the anchor itself"
    positive = torch.arange(len(z)).roll(1)
    return F.cross_entropy(logits, positive)
''')


# --- a control --------------------------------------------------------------------------------------------------------

FIRST = {"batch_size": 256, "group": None, "epochs": 3.6, "lr": 6e-3}
SECOND = {"batch_size": 32, "group": None, "epochs": 3.6, "lr": 7.5e-4}


@checker(predicts=True, example=(FIRST, SECOND))
def control(answer: Mapping[str, float | None], first: Mapping[str, float | None],
            second: Mapping[str, float | None]) -> Iterator[str]:
    """The settings of a training with as many negatives as the second and all else of the first: batch_size, group,
    epochs and lr. first, second: those of the two trainings."""
    if not isinstance(answer, Mapping):
        raise Wrong(f"a dict with {', '.join(first)} is wanted, and this is a {type(answer).__name__}")
    for name in first:
        if answer.get(name, ...) is ...:
            raise NotAttempted(f"write a value for {name}")
    batch, wanted = first["batch_size"], second["group"] or second["batch_size"]
    if number(answer["batch_size"], "batch_size") != batch:
        few = answer["batch_size"] < batch
        raise Wrong(f"with another batch_size than {batch} more changes than the negatives: an epoch has "
                    f"{'more' if few else 'fewer'} steps, and BatchNorm sees {'fewer' if few else 'more'} pictures")
    yield f"batches of {batch}, so as many steps, and BatchNorm sees as many pictures"
    if answer["group"] is None:
        raise Wrong(f"without a group all {batch} pictures are held against each other: {2 * batch - 2} negatives, as "
                    "in the first training")
    group = number(answer["group"], "group")
    if group != wanted:
        counts = {2 * wanted - 2: "that is how many negatives there are, and a group counts pictures: each is there "
                                  "twice, once a view",
                  wanted - 1: "a group counts the anchor's own picture too",
                  batch / wanted: "that is how many groups there are, and `group` is how many pictures are in one"}
        raise Wrong(counts.get(group, f"a group of {group:g} has {2 * group - 2:g} negatives a view, and a batch of "
                                      f"{wanted} has {2 * wanted - 2}"))
    yield f"{2 * wanted - 2} negatives a view, as in the second"
    for name in ("epochs", "lr"):
        if number(answer[name], name) != first[name]:
            raise Wrong(f"{name} is {answer[name]:g} here and {first[name]:g} in the first training: a control changes "
                        "one thing")
    yield "epochs and learning rate of the first"
