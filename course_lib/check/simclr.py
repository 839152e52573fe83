"""Checkers of notebook 10: NT-Xent, the training step around it, and the negatives that are none."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.check.base import Wrong, agree, checker, close, function, number, predicted, tensor, together


def others(i: int, n: int) -> list[int]:
    """The candidates of anchor i among 2n rows: everyone but itself."""
    return [k for k in range(2 * n) if k != i]


def other_view(i: int, n: int) -> int:
    """The row that shows the same picture as row i."""
    return (i + n) % (2 * n)


def slow_nt_xent(z1: Tensor, z2: Tensor, temperature: float = 0.5, *, normalize: Callable = F.normalize,
                 candidates: Callable = others, positive: Callable = other_view, anchors: Sequence[float] = (0, 1),
                 scale: Callable = lambda s, t: s / t, extra: Sequence[float] = ()) -> Tensor:
    """NT-Xent anchor by anchor, in float64, as its definition reads. Each option is a place for one mistake.

    anchors: the part of the 2N rows whose mean is the loss. extra: logits that stand among the candidates' by mistake.
    """
    n, z = len(z1), normalize(torch.cat([z1, z2]).double())
    losses = []
    for i in range(round(anchors[0] * 2 * n), round(anchors[1] * 2 * n)):
        among = scale(z[candidates(i, n)] @ z[i], temperature)
        right = scale(z[positive(i, n)] @ z[i], temperature)
        losses.append(torch.cat([among, among.new_tensor(extra)]).logsumexp(0) - right)
    return torch.stack(losses).mean()


def everyone(i: int, n: int) -> list[int]:
    """All rows as candidates, the anchor itself among them."""
    return list(range(2 * n))


# What is often done instead of NT-Xent, each with the option of `slow_nt_xent` that does it too.
SLIPS: dict[str, dict[str, Any]] = {
    "your loss counts each anchor as its own negative: take the diagonal out before the softmax, with -inf":
        {"candidates": everyone},
    "the diagonal is 0, and exp(0) = 1 still counts in the denominator: fill it with -inf":
        {"extra": (0.0,)},
    "the embeddings are not normalised: divide each row by its length first": {"normalize": lambda z: z},
    "you normalised each column over the batch: F.normalize(z, dim=1) makes each row of length 1":
        {"normalize": functools.partial(F.normalize, dim=0)},
    "you multiply by the temperature: divide by it, so that a small one makes differences larger":
        {"scale": lambda s, t: s * t},
    "the temperature is not used": {"scale": lambda s, t: s},
    "the positive is missing from the denominator: it is one of the 2N − 1 candidates":
        {"candidates": lambda i, n: [k for k in others(i, n) if k != other_view(i, n)]},
    "the negatives are only those of the other view: the same view of other pictures counts too":
        {"candidates": lambda i, n: [k + n * (i < n) for k in range(n)]},
    "only the first view's rows are anchors: the second view's are anchors too": {"anchors": (0, 0.5)},
    "only the second view's rows are anchors: the first view's are anchors too": {"anchors": (0.5, 1)},
    "each anchor's right answer is the row next to it: after torch.cat([z1, z2]) it is N rows further on":
        {"positive": lambda i, n: (i - 1) % (2 * n)},
    "rows 0 and 1, 2 and 3, … are taken for pairs: after torch.cat([z1, z2]) the partner is N rows further on":
        {"positive": lambda i, n: i ^ 1},
    "each anchor's right answer is the anchor itself: it is the other view, N rows further on":
        {"positive": lambda i, n: i, "candidates": everyone},
}
# And slips after it: what is done with the right loss of each anchor.
AFTERWARDS: dict[str, Callable] = {
    "the sign is wrong: a loss falls as the positive's probability rises": lambda loss, n: -loss,
    "you add up the anchors' losses: take their mean, or the learning rate depends on the batch":
        lambda loss, n: loss * 2 * n,
    "you divide by N, and there are 2N anchors": lambda loss, n: 2 * loss,
    "you divide by 2N twice: the mean has done it already": lambda loss, n: loss / (2 * n),
    "the logarithm has base 2: torch.log and cross_entropy use base e": lambda loss, n: loss / math.log(2),
    "the logarithm has base 10: torch.log and cross_entropy use base e": lambda loss, n: loss / math.log(10),
}


def slips(at_once: int = 3) -> Iterator[tuple[str, Callable]]:
    """(sentence, the loss with that mistake): single mistakes first, then up to `at_once` together."""
    for sentence, options in SLIPS.items():
        yield sentence, functools.partial(slow_nt_xent, **options)
    for sentence, change in AFTERWARDS.items():
        yield sentence, functools.partial(_changed, change)
    for told, several in together(SLIPS, 2, at_once):
        options = {name: value for sentence in several for name, value in SLIPS[sentence].items()}
        if len(options) == sum(len(SLIPS[sentence]) for sentence in several):
            yield told, functools.partial(slow_nt_xent, **options)


def _changed(change: Callable, z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    return change(slow_nt_xent(z1, z2, temperature), len(z1))


def pairs(n: int, d: int) -> tuple[Tensor, Tensor]:
    """Embeddings of two views that resemble each other, of different lengths."""
    z1 = torch.randn(n, d) * torch.rand(n, 1).add(0.5)
    return z1, 1.5 * z1 + torch.randn(n, d)


def same_gradient(student: Callable, loss: Callable, z1: Tensor, z2: Tensor, *args) -> None:
    """Raises Wrong where the gradient of either view is missing or another than the reference's."""
    z1, z2 = z1.clone().requires_grad_(), z2.clone().requires_grad_()
    wanted = torch.autograd.grad(loss(z1, z2, *args), (z1, z2))
    out = student(z1, z2, *args)
    if not (isinstance(out, Tensor) and out.requires_grad):
        raise Wrong("the value is right, but no gradient comes out of it: nothing would be learned. "
                    "Look for .detach(), .item() or torch.no_grad()")
    got = torch.autograd.grad(out, (z1, z2), allow_unused=True)
    for name, g, w in zip(("z1", "z2"), got, wanted, strict=True):
        if g is None or not g.any():
            raise Wrong(f"no gradient reaches {name}: NT-Xent learns from both views, so nothing is detached")
        if not close(g, w, 1e-3):
            raise Wrong(f"the value is right, but the gradient of {name} is not: is a part of it detached?")


@checker
def nt_xent(answer: Callable) -> Iterator[str]:
    """`nt_xent(z1, z2, temperature)`: the loss of equation 1, over all 2N anchors."""
    student = function(answer)
    z1, z2 = pairs(4, 8)
    tensor(student(z1, z2, 0.5), (), "your loss")
    yield "one number"
    agree(student, [(z1, z2, 0.5), (*pairs(5, 3), 0.2), (*pairs(3, 6), 1.3)], slow_nt_xent, slips(),
          "your loss is not that of a loop over the anchors")
    yield "equals a loop over the anchors"
    same = torch.ones(8, 4)
    if not close(student(same, same, 0.5), math.log(15)):
        raise Wrong(f"embeddings that are all the same must give log(2N − 1) = {math.log(15):.4f} for N = 8, "
                    f"and yours gives {number(student(same, same, 0.5)):.4f}")
    yield "log(2N − 1) where all embeddings are the same"
    if not close(student(z1, z2, 0.5), student(z2, z1, 0.5)):
        raise Wrong("swapping the two views changes the loss: both are anchors, so it must not")
    yield "the same when the views change places"
    same_gradient(student, slow_nt_xent, z1, z2, 0.5)
    yield "a gradient to both views"
    z1 = F.normalize(z1, dim=1)
    cold = student(z1, z1, 0.005)
    if not close(cold, slow_nt_xent(z1, z1, 0.005)):
        raise Wrong(f"at a temperature of 0.005 your loss is {float(cold):.3g}: exp(200) is too large for float32. "
                    "F.cross_entropy and torch.logsumexp subtract the largest logit first")
    yield "safe at small temperatures"


@checker
def loss_at_random(guess: float, pictures: int = 256, temperature: float = 0.5) -> Iterator[str]:
    """The predicted NT-Xent of embeddings that know nothing, for a batch of `pictures`."""
    z1, z2 = torch.randn(2, pictures, 4096)
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    logits = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    measured = F.cross_entropy(logits, torch.arange(2 * pictures).roll(pictures)).item()
    n = pictures
    yield predicted(
        guess, measured, within=0.1,
        why="An encoder that knows nothing gives each of the 2N − 1 candidates the same chance, "
            f"and −log(1 / (2N − 1)) = log {2 * n - 1} = {math.log(2 * n - 1):.4g}",
        mistakes={"that is log(N), but an anchor also sees the other pictures' second views": math.log(n),
                  "that is the logarithm to base 10, and losses use base e": math.log10(2 * n - 1),
                  "that is the logarithm to base 2, and losses use base e": math.log2(2 * n - 1),
                  "that is how often a guess is right, and the loss is minus its logarithm": 1 / (2 * n - 1),
                  "the loss is minus a logarithm of a probability, so it is not below 0": -math.log(2 * n - 1)})


@checker
def false_negatives_guess(guess: float, measured: float, pictures: int, classes: int) -> Iterator[str]:
    """The predicted number of an anchor's negatives that are of its own class, beside the one counted."""
    n = pictures
    yield predicted(
        guess, measured, within=3,
        why=f"{n - 1} other pictures, one in {classes} of the anchor's class, two views each: "
            f"2 × {n - 1} / {classes} = {2 * (n - 1) / classes:.1f}",
        mistakes={"each of those pictures is there twice, once a view": (n - 1) / classes,
                  "that is how many are rightly negative": 2 * (n - 1) * (1 - 1 / classes),
                  "that is their share, and the question is how many": 1 / classes,
                  "that is their share in percent, and the question is how many": 100 / classes})


def negative(i: int, k: int, n: int) -> bool:
    """Whether row k is a negative of anchor i: neither itself nor its other view."""
    return k not in (i, other_view(i, n))


def slow_false_negatives(y: Tensor, count: Callable[[int, int, int], bool] = negative) -> float:
    """How many rows k are of anchor i's class, mean over the 2N anchors; `count(i, k, n)` says which rows count."""
    n, labels = len(y), torch.cat([y, y]).tolist()
    rows = range(2 * n)
    return sum(labels[i] == labels[k] and count(i, k, n) for i in rows for k in rows) / (2 * n)


@checker
def false_negatives(answer: Callable) -> Iterator[str]:
    """`false_negatives(y)`: how many of an anchor's 2N − 2 negatives are of its class, mean over anchors."""
    student = function(answer)
    cases = [(torch.randint(3, (8,)),), (torch.randint(10, (31,)),), (torch.zeros(5, dtype=torch.int64),)]
    agree(student, cases, slow_false_negatives, {
        "the anchor and its positive are of one class, and neither is a negative: leave both out":
            lambda y: slow_false_negatives(y, lambda i, k, n: True),
        "the anchor's own positive is of its class, and is no negative: leave it out":
            lambda y: slow_false_negatives(y, lambda i, k, n: k != i),
        "you count pictures, and each one is there twice, once a view": lambda y: slow_false_negatives(y) / 2,
        "that is their share of the negatives, and the question is how many":
            lambda y: slow_false_negatives(y) / (2 * len(y) - 2),
        "you add up all anchors: take the mean": lambda y: slow_false_negatives(y) * 2 * len(y),
        "you count the negatives of other classes: those are the right ones":
            lambda y: 2 * len(y) - 2 - slow_false_negatives(y),
    }, "another number than counting one by one")
    yield "equals counting one by one"
    if number(student(torch.arange(7))) != 0:
        raise Wrong("where every picture is of another class there is no false negative, "
                    f"and yours gives {number(student(torch.arange(7))):.3g}")
    yield "none where all classes differ"


class _Recorded(nn.Module):
    """Views that are remembered: the pictures that went in, and what came out."""

    def __init__(self):
        super().__init__()
        self.seen: list[Tensor] = []
        self.made: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        self.made.append(x + torch.rand_like(x))
        return self.made[-1]


def _parts() -> tuple[Tensor, _Recorded, nn.Module, nn.Module]:
    """Five small pictures, views, an encoder and a projector."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(48, 6), nn.Tanh())
    return torch.rand(5, 3, 4, 4), _Recorded(), encoder, nn.Linear(6, 4)


@checker
def training_loss(answer: Callable) -> Iterator[str]:
    """`training_loss(x, views, encoder, projector, temperature)`: all that SimCLR does with a batch of pictures."""
    student = function(answer)
    losses, cases = [], []
    for temperature in (0.2, 0.7, 2.0):
        x, views, encoder, projector = _parts()
        loss = student(x, views, encoder, projector, temperature)
        tensor(loss, (), "your loss")
        _two_views(sum(map(len, views.seen)), len(x))
        v1, v2 = torch.cat(views.made).chunk(2)
        if close(loss, slow_nt_xent(encoder(v1), encoder(v2), temperature)):
            raise Wrong("the projector is not used: the loss is taken of z = projector(encoder(view))")
        losses.append(loss)
        cases.append((projector(encoder(v1)), projector(encoder(v2)), temperature))
    yield "two views of each picture"

    found = iter(losses)
    agree(lambda *case: next(found), cases, slow_nt_xent, slips(at_once=4), "your loss of two views is not NT-Xent")
    yield "NT-Xent of their projections"

    if not loss.requires_grad:
        raise Wrong("no gradient comes out of your loss: both views were made without one")
    weights = [*encoder.parameters(), *projector.parameters()]
    got = torch.autograd.grad(loss, weights, allow_unused=True)
    wanted = torch.autograd.grad(slow_nt_xent(*cases[-1]), weights)
    if not all(g is not None and close(g, w, 1e-3) for g, w in zip(got, wanted, strict=True)):
        raise Wrong("the value is right, but the gradient is that of one view alone: look for torch.no_grad() or "
                    ".detach(). SimCLR learns from both; only methods without negatives stop a gradient")
    yield "a gradient through both"


def _two_views(drawn: int, pictures: int) -> None:
    if drawn == 0:
        raise Wrong("the pictures go into the encoder as they are: draw views of them")
    if drawn == pictures:
        raise Wrong("one view is drawn and used twice, so both embeddings are the same and there is nothing to learn: "
                    "call views(x) once for each")
    if drawn != 2 * pictures:
        raise Wrong(f"{drawn} views are drawn of {pictures} pictures, and two of each are wanted")


def _apart(z1: Tensor, z2: Tensor, y: Tensor, temperature: float, *, keep: Callable | None = None, **options) -> Tensor:
    """`slow_nt_xent` with some candidates left out: `keep(i, k, labels, n)` says which stay."""
    labels = torch.cat([y, y]).tolist()
    keep = keep or (lambda i, k, labels, n: labels[i] != labels[k] or k == other_view(i, n))
    return slow_nt_xent(z1, z2, temperature, **options,
                        candidates=lambda i, n: [k for k in range(2 * n) if keep(i, k, labels, n)])


@checker
def nt_xent_apart(answer: Callable) -> Iterator[str]:
    """`nt_xent_apart(z1, z2, y, temperature)`: NT-Xent whose denominator leaves out the false negatives."""
    student = function(answer)
    z1, z2 = pairs(6, 8)
    tensor(student(z1, z2, torch.arange(6), 0.5), (), "your loss")
    yield "one number"
    cases = [(*pairs(6, 8), torch.tensor([0, 1, 0, 2, 1, 0]), 0.5), (*pairs(5, 4), torch.tensor([0, 0, 0, 1, 2]), 0.2)]
    slip = functools.partial(functools.partial, _apart)
    agree(student, cases, _apart, {
        "the false negatives still count: nothing was left out": slip(keep=lambda i, k, labels, n: k != i),
        "the positive is of the anchor's class too and was left out with the rest: put it back":
            slip(keep=lambda i, k, labels, n: labels[i] != labels[k]),
        "your loss counts each anchor as its own negative: leave the diagonal out too":
            slip(keep=lambda i, k, labels, n: labels[i] != labels[k] or k in (i, other_view(i, n))),
        "you left out the negatives of other classes and kept those of the anchor's: turn the mask round":
            slip(keep=lambda i, k, labels, n: labels[i] == labels[k] and k != i),
        "false negatives are left out among one view only: they are there in both":
            slip(keep=lambda i, k, labels, n: k != i and (labels[i] != labels[k] or (i < n) == (k < n)
                                                          or k == other_view(i, n))),
        "the embeddings are not normalised: divide each row by its length first": slip(normalize=lambda z: z),
    }, "your loss is not that of a loop over the anchors")
    yield "equals a loop over the anchors"
    if not close(student(z1, z2, torch.arange(6), 0.5), slow_nt_xent(z1, z2, 0.5)):
        raise Wrong("where all classes differ there is nothing to leave out, and yours is not NT-Xent")
    yield "NT-Xent where all classes differ"
