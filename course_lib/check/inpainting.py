"""Checkers of notebook 04: how much is hidden, the loss of a hole, a leak, a control, and two players."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from course_lib.check.base import (
    Expected,
    Spy,
    Wrong,
    afterwards,
    agree,
    checker,
    close,
    exercise,
    function,
    gradient_reaches,
    prediction,
    tensor,
)


@prediction(example=(26.0,))
def hidden_share(measured: float) -> Expected:
    """The predicted share of a picture, in percent, that five random blocks hide on average."""
    slips = {"that would be right if blocks never overlapped": 100 * 5 / 16, "that is one block alone": 100 / 16}
    return Expected(measured, within=3, unit=" %", slips=slips,
                    why="Blocks overlap, and those that do hide less than the sum of their areas")


# --- the loss of a hole -----------------------------------------------------------------------------------------------

def holes(n: int, side: int) -> Bool[Tensor, "n 1 s s"]:
    """Masks of very different areas, so that a mean over pictures is not a mean over pixels."""
    mask = torch.rand(n, 1, side, side) < torch.linspace(0.1, 0.7, n)[:, None, None, None]
    mask[:, :, 0, 0] = True  # each hides something
    return mask


def slow_hole_loss(output: Float[Tensor, "n 3 h w"], target: Float[Tensor, "n 3 h w"], mask: Bool[Tensor, "n 1 h w"],
                   *, hidden: bool = True, error: Callable = torch.square) -> Float[Tensor, ""]:
    """`hole_loss(output, target, mask)`: mean squared error over the hidden pixels alone."""
    places = (mask == hidden).nonzero().tolist()
    return torch.stack([error(output[i, :, y, x] - target[i, :, y, x]) for i, _, y, x in places]).mean()


def hole_cases() -> list[tuple]:
    """Outputs, targets and holes, of two sizes."""
    return [(*torch.rand(2, n, 3, side, side), holes(n, side)) for n, side in ((4, 6), (3, 5))]


def other_visible_pixels(student: Callable) -> tuple:
    """The student's loss where what is painted on visible pixels is far off, and what it should be."""
    output, target, mask = hole_cases()[0]
    return student(torch.where(mask, output, 9.0), target, mask), slow_hole_loss(output, target, mask)


def mean_of_means(output: Tensor, target: Tensor, mask: Tensor) -> Float[Tensor, ""]:
    """The mean over pictures of each hole's mean squared error."""
    return (((output - target).square() * mask).sum((1, 2, 3)) / (3 * mask.sum((1, 2, 3)))).mean()


hole_loss = exercise(
    "hole_loss", slow_hole_loss, hole_cases,
    slips={"you average over the whole picture: divide by the number of hidden values":
               {"after": lambda loss, output, target, mask: loss * mask.double().mean()},
           "the mask is not used: visible pixels count too":
               lambda output, target, mask: (output - target).square().mean(),
           "the mask is the wrong way round: True is hidden": {"hidden": False},
           "you divide by the hidden places, and each has three channels": {"after": lambda loss, *case: 3 * loss},
           "you average each picture's hole first, so a pixel of a small hole counts more: divide once, at the end":
               mean_of_means,
           "the errors are not squared": {"error": torch.abs},
           **afterwards(lambda output, target, mask: 3 * mask.sum(), what="squares", logarithm=False)},
    limits={"visible pixels do not count": other_visible_pixels}, gradients={"output": "nothing would be learned"},
    what="your loss", holds="equals a loop over hidden pixels",
    otherwise="your loss is not that of a loop over hidden pixels")


# --- what a filling gives away ----------------------------------------------------------------------------------------

def slow_hole_color(filled: Float[Tensor, "n 3 h w"], mask: Bool[Tensor, "n 1 h w"]) -> Float[Tensor, "n 3"]:
    """`hole_color(filled, mask)`: the mean colour of what is hidden, where holes hold the picture's own mean."""
    colors = []
    for picture, hidden in zip(filled, mask[:, 0], strict=True):
        mean = picture[:, hidden][:, 0]  # any hidden pixel tells the mean of the whole picture,
        everything = mean * hidden.numel()  # and so the sum of all its pixels
        colors.append((everything - picture[:, ~hidden].sum(1)) / hidden.sum())
    return torch.stack(colors)


def mean_color(x: Float[Tensor, "n 3 h w"], where: Bool[Tensor, "n 1 h w"]) -> Float[Tensor, "n 3"]:
    """The mean of a part of each picture."""
    return (x * where).sum((2, 3)) / where.sum((2, 3))


def filled_case(n: int, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures with their own mean colour in their holes, the holes, and the mean colour that was there before."""
    x, mask = torch.rand(n, 3, side, side), holes(n, side)
    return torch.where(mask, x.mean((2, 3), keepdim=True), x), mask, mean_color(x, mask)


def exact_color(student: Callable) -> tuple:
    """What the student steals, and the colour of the pictures before they were filled."""
    filled, mask, truth = filled_case(5, 7)
    return student(filled, mask), truth


hole_color = exercise(
    "hole_color", slow_hole_color, lambda: [filled_case(4, 6)[:2], filled_case(3, 8)[:2]],
    slips={"that is the colour of the filling, the mean of the whole picture: what is seen must be taken out of it":
               mean_color,
           "that is the mean of the filled picture: the filling itself must not count as seen":
               lambda filled, mask: filled.mean((2, 3)),
           "that is the mean of what is seen": lambda filled, mask: mean_color(filled, ~mask),
           "that is the sum over the hidden pixels: divide by how many they are":
               {"after": lambda color, filled, mask: color * mask.sum((2, 3))},
           "you divide by all pixels: what is left of the sum is of the hidden pixels alone":
               {"after": lambda color, filled, mask: color * mask.double().mean((2, 3))},
           "you divide by how many are seen: what is left of the sum is of the hidden pixels":
               {"after": lambda color, filled, mask: color * mask.sum((2, 3)) / (~mask).sum((2, 3))}},
    limits={"the exact colour of what nobody was to see": exact_color},
    holds="equals stealing it picture by picture", otherwise="not the mean colour of what is hidden")


# --- a control --------------------------------------------------------------------------------------------------------

def slow_control(painter: Spy, x: Float[Tensor, "n 3 h w"], mask: Bool[Tensor, "n 1 h w"], **options
                 ) -> Float[Tensor, ""]:
    """`control(painter, x, mask)`: the loss of a painter that sees the whole picture, in the pixels that the method
    hides. options: `slow_hole_loss`'s.
    """
    return slow_hole_loss(painter.replay(x), x, mask, **options)


def control_cases() -> list[tuple]:
    """Painters, pictures and holes."""
    return [(Spy(nn.Conv2d(3, 3, 3, padding=1)), torch.rand(n, 3, side, side), holes(n, side))
            for n, side in ((4, 6), (3, 5))]


def what_it_sees(out: object, painter: Spy, x: Tensor, mask: Tensor) -> str | None:
    """What is wrong with what the painter was shown."""
    if not painter.calls:
        return "the painter is never asked: painter(...) paints a batch of pictures"
    if len(painter.calls) > 1:
        return f"the painter is asked {len(painter.calls)} times: once is enough, for the whole batch"
    seen = painter.inputs[0]
    if seen.shape == x.shape and close(seen, x):
        return None
    if seen.shape == x.shape and close(seen * ~mask, x * ~mask):
        return ("the painter does not see what is hidden: that is the method itself. A control takes away the one "
                "thing that is to be tested, and here this is the hiding")
    if seen.shape == x.shape and close(seen * mask, x * mask):
        return "the painter sees nothing but what the method hides: show it the whole picture"
    return "the painter is shown something else than the pictures x"


control = exercise(
    "control", slow_control, control_cases, look={"the painter sees the whole picture": what_it_sees},
    slips={"all pixels count: then two things differ from the method, what is shown and what is counted. Count the "
           "pixels that the method counts": lambda painter, x, mask: (painter.replay(x) - x).square().mean(),
           "the pixels count that the method does not hide: then what is counted differs as well": {"hidden": False},
           "the errors are not squared": {"error": torch.abs},
           **afterwards(lambda painter, x, mask: 3 * mask.sum(), what="squares", logarithm=False)},
    gradients={"painter": "the control must be trained as the method is"},
    what="your loss", holds="the same pixels count as in the method",
    otherwise="your loss is not the squared error in the pixels that the method hides")


# --- two players ------------------------------------------------------------------------------------------------------

@checker(given='''
def players(real, painted, judge):
    """(painter's loss, judge's loss). judge: pictures to logits, large for real. F.softplus(-logit) is −log D."""
    said_real, said_painted = judge(real), judge(painted)
    painter = F.softplus(said_painted).mean()
    found = F.softplus(said_real).mean() + F.softplus(-said_painted).mean()
    return painter, found
''')
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
    summed = "you add up the losses of the pictures: take their mean, or the learning rate depends on the batch"
    agree(lambda: painter, [()], lambda: F.softplus(-said).mean(), {
        "the painter is rewarded for being found out: it wants a large D(painted), and −log D is softplus(−logit)":
            lambda: F.softplus(said).mean(),
        "that is log(1 − D), whose gradient vanishes just when the painter is found out: use −log D":
            lambda: -F.softplus(said).mean(),
        summed: lambda: F.softplus(-said).sum(),
    }, "the painter's loss is not the mean of −log D(painted) = softplus(−logit)")
    yield "the painter wants to be taken for real"
    agree(lambda: found, [()], lambda: F.softplus(-said_real).mean() + F.softplus(said).mean(), {
        "the judge is rewarded for mistakes: −log D(real) is softplus(−logit), −log(1 − D(painted)) softplus(logit)":
            lambda: F.softplus(said_real).mean() + F.softplus(-said).mean(),
        summed: lambda: F.softplus(-said_real).sum() + F.softplus(said).sum(),
    }, "the judge's loss is not −log D(real) − log(1 − D(painted)), a mean over pictures for each")
    yield "the judge wants to tell them apart"

    weights = list(judge.parameters())
    gradient_reaches(painter, [painted], "the painter from the painter's loss")
    gradient_reaches(painter, weights, "the judge's weights from the painter's loss", wanted=False,
                     why="the judge would help the painter. Ask a frozen copy of it")
    yield "the painter's loss moves the painter alone"
    gradient_reaches(found, weights, "the judge from the judge's loss")
    gradient_reaches(found, [painted], "the painted pictures from the judge's loss", wanted=False,
                     why="the painter would help the judge. Give it painted.detach()")
    yield "the judge's loss moves the judge alone"
