"""Checkers of notebook 04: how much is hidden, the loss of a hole, a leak, and two players."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from course_lib.check.base import Wrong, agree, checker, close, function, predicted, tensor


@checker
def hidden_share(answer: float, measured: float) -> Iterator[str]:
    """A prediction. measured: the share of a picture, in percent, that five random blocks hide on average."""
    yield predicted(answer, measured, within=3, unit=" %", mistakes={
        "that would be right if blocks never overlapped": 100 * 5 / 16,
        "that is one block alone": 100 / 16,
    }, why="Blocks overlap, and those that do hide less than the sum of their areas")


# --- the loss of a hole -----------------------------------------------------------------------------------------------

def holes(n: int, side: int) -> Bool[Tensor, "n 1 s s"]:
    """Masks of very different areas, so that a mean over pictures is not a mean over pixels."""
    mask = torch.rand(n, 1, side, side) < torch.linspace(0.1, 0.7, n)[:, None, None, None]
    mask[:, :, 0, 0] = True  # each hides something
    return mask


def slow_hole_loss(output: Float[Tensor, "n 3 h w"], target: Float[Tensor, "n 3 h w"],
                   mask: Bool[Tensor, "n 1 h w"]) -> Float[Tensor, ""]:
    """The mean of the squared errors of hidden pixels, collected one by one, in float64."""
    errors = [(output[i, :, y, x] - target[i, :, y, x]).double().square()
              for i, _, y, x in mask.nonzero().tolist()]
    return torch.stack(errors).mean()


@checker
def hole_loss(answer: Callable) -> Iterator[str]:
    """`hole_loss(output, target, mask)`: mean squared error over the hidden pixels alone."""
    student = function(answer)
    cases = [(*torch.rand(2, n, 3, side, side), holes(n, side)) for n, side in ((4, 6), (3, 5))]
    tensor(student(*cases[0]), (), "your loss")
    yield "one number"

    def squares(output, target):
        return (output - target).square()

    agree(student, cases, slow_hole_loss, {
        "you average over the whole picture: divide by the number of hidden values":
            lambda o, t, m: (squares(o, t) * m).mean(),
        "the mask is not used: visible pixels count too": lambda o, t, m: squares(o, t).mean(),
        "the mask is the wrong way round: True is hidden": lambda o, t, m: slow_hole_loss(o, t, ~m),
        "you divide by the hidden places, and each has three channels":
            lambda o, t, m: (squares(o, t) * m).sum() / m.sum(),
        "you add up the squares: divide by the number of hidden values": lambda o, t, m: (squares(o, t) * m).sum(),
        "you average each picture's hole first, so a pixel of a small hole counts more: divide once, at the end":
            lambda o, t, m: ((squares(o, t) * m).sum((1, 2, 3)) / (3 * m.sum((1, 2, 3)))).mean(),
        "the errors are not squared": lambda o, t, m: ((o - t).abs() * m).sum() / (3 * m.sum()),
    }, "your loss is not that of a loop over hidden pixels")
    yield "equals a loop over hidden pixels"
    output, target, mask = cases[0]
    if not close(student(torch.where(mask, output, 9.0), target, mask), slow_hole_loss(output, target, mask)):
        raise Wrong("a change of the visible pixels changes your loss, and only hidden ones may")
    yield "visible pixels do not count"
    output = output.requires_grad_()
    loss = student(output, target, mask)
    if not loss.requires_grad:
        raise Wrong("no gradient comes out of your loss: nothing would be learned")
    yield "it has a gradient"


# --- what a filling gives away ----------------------------------------------------------------------------------------

@checker
def hole_color(answer: Callable) -> Iterator[str]:
    """`hole_color(filled, mask)`: the mean colour of what is hidden, where holes hold the picture's own mean."""
    student = function(answer)
    cases, truths = [], []
    for n, side in ((4, 6), (3, 8)):
        x, mask = torch.rand(n, 3, side, side), holes(n, side)
        cases.append((torch.where(mask, x.mean((2, 3), keepdim=True), x), mask))
        truths.append((x * mask).sum((2, 3)) / mask.sum((2, 3)))
    tensor(student(*cases[0]), truths[0].shape, "the colours")
    yield "a colour a picture"
    found = iter(truths)
    agree(student, cases, lambda *case: next(found), {
        "that is the colour of the filling, the mean of the whole picture: what is seen must be taken out of it":
            lambda filled, mask: (filled * mask).sum((2, 3)) / mask.sum((2, 3)),
        "that is the mean of the filled picture: the filling itself must not count as seen":
            lambda filled, mask: filled.mean((2, 3)),
        "that is the mean of what is seen": lambda filled, mask: (filled * ~mask).sum((2, 3)) / (~mask).sum((2, 3)),
        "that is the sum over the hidden pixels: divide by how many they are": _stolen,
    }, "not the mean colour of what is hidden")
    yield "the exact colour of what nobody was to see"


def _stolen(filled: Tensor, mask: Tensor) -> Float[Tensor, "n 3"]:
    """The sum of the hidden pixels: all there is, less what is seen."""
    mean = (filled * mask).sum((2, 3)) / mask.sum((2, 3))
    return mean * mask[0].numel() - (filled * ~mask).sum((2, 3))


# --- two players ------------------------------------------------------------------------------------------------------

@checker
def players(answer: Callable) -> Iterator[str]:
    """`players(real, painted, judge)`: (the painter's loss, the judge's loss), each with a gradient for its owner."""
    student = function(answer)
    judge = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0))
    real, painted = torch.rand(6, 3, 4, 4), torch.rand(6, 3, 4, 4).requires_grad_()
    out = student(real, painted, judge)
    if not isinstance(out, (tuple, list)) or len(out) != 2:
        raise Wrong("two losses are wanted: return painter, found")
    painter, found = tensor(out[0], (), "the painter's loss"), tensor(out[1], (), "the judge's loss")
    yield "two numbers"

    said_real, said = judge(real), judge(painted)
    fooled, caught = F.softplus(-said).mean(), F.softplus(-said_real).mean() + F.softplus(said).mean()
    if close(painter, F.softplus(said).mean()):
        raise Wrong("the painter is rewarded for being found out: it wants a large D(painted), and −log D is "
                    "softplus(−logit)")
    if close(painter, -F.softplus(said).mean()):
        raise Wrong("that is log(1 − D), whose gradient vanishes just when the painter is found out: use −log D")
    if not close(painter, fooled):
        raise Wrong("the painter's loss is not the mean of −log D(painted) = softplus(−logit)")
    yield "the painter wants to be taken for real"
    if close(found, F.softplus(said_real).mean() + F.softplus(-said).mean()):
        raise Wrong("the judge is rewarded for mistakes: −log D(real) is softplus(−logit), and −log(1 − D(painted)) "
                    "softplus(logit)")
    if not close(found, caught):
        raise Wrong("the judge's loss is not −log D(real) − log(1 − D(painted)), a mean over pictures for each")
    yield "the judge wants to tell them apart"

    weights = list(judge.parameters())
    for loss, who, own, other, what in ((painter, "painter", [painted], weights, "the judge's weights"),
                                        (found, "judge", weights, [painted], "the painted pictures")):
        if not loss.requires_grad or not _reaches(loss, own):
            raise Wrong(f"no gradient of the {who}'s loss reaches the {who}: nothing would be learned")
        if _reaches(loss, other):
            raise Wrong(f"the {who}'s loss sends a gradient to {what}, which one optimizer would follow: the players "
                        "would help each other")
        yield f"the {who}'s loss moves the {who} alone"


def _reaches(loss: Tensor, leaves: list[Tensor]) -> bool:
    return any(g is not None and bool(g.any())
               for g in torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True))
