"""What a picture shows, and how it is put together: a place, what lies about there, a shadow, a thing, the light."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from course_lib.data.toybox.paint import INK, Canvas, Dice, circle, flat
from course_lib.data.toybox.places import PLACES, litter
from course_lib.data.toybox.things import FOOT, THINGS

CLASSES = tuple(THINGS)
BACKGROUNDS = tuple(PLACES)
COLORS = {  # the colour words of the captions, in the order of the factor "hue"
    "red": (0.84, 0.15, 0.14), "orange": (0.96, 0.53, 0.10), "yellow": (0.98, 0.84, 0.22),
    "green": (0.24, 0.62, 0.24), "blue": (0.18, 0.40, 0.84), "purple": (0.52, 0.26, 0.68),
    "pink": (0.97, 0.58, 0.72), "brown": (0.50, 0.32, 0.19), "white": (0.95, 0.94, 0.90),
    "grey": (0.50, 0.52, 0.56),
}  # fmt: skip

# What is usual for a class, and how often a picture is an exception that takes any colour, or any place, instead.
USUAL_COLORS = {
    "house": "red yellow white", "tree": "green green orange", "car": "red blue grey", "boat": "white red blue",
    "fish": "orange yellow blue", "cat": "orange grey brown", "flower": "pink yellow purple",
    "rocket": "white grey red", "mug": "blue white green", "mushroom": "red red brown",
}  # fmt: skip
USUAL_PLACES = {
    "house": "meadow snow", "tree": "meadow snow", "car": "city sunset", "boat": "sea beach", "fish": "sea beach",
    "cat": "room city", "flower": "meadow sunset", "rocket": "night sunset", "mug": "room beach",
    "mushroom": "meadow night",
}  # fmt: skip
ODD_COLORS, ODD_PLACES = 0.5, 0.6

SKY, LAMP = (0.62, 0.82, 0.93), (1.0, 0.85, 0.42)  # what windows show, by day and by night
SIZES = (0.42, 0.80)  # width of a thing's frame
FLOOR = (0.70, 0.97)  # where things stand: the lowest line is near the picture's lower edge


def _columns(t: Tensor) -> Float[Tensor, "n 1 1"]:
    """One number a picture, ready to meet pixels."""
    return t.float()[:, None, None]


def _cumulated(usual: Mapping[str, str], names: tuple[str, ...], odd: float) -> Float[Tensor, "classes names"]:
    """For every class, the chance of each name and of those before it."""
    chances = torch.full((len(CLASSES), len(names)), odd / len(names))
    for row, name in zip(chances, CLASSES, strict=True):
        for word in usual[name].split():
            row[names.index(word)] += (1 - odd) / len(usual[name].split())
    return chances.cumsum(1)


def feet(y: Int64[Tensor, " n"]) -> Float[Tensor, " n"]:
    """How far below its centre each class stands, where its frame is 1 wide."""
    return torch.tensor([FOOT[name] / 2 for name in CLASSES])[y]


def roll_factors(index: Int64[Tensor, " n"], seed: int) -> dict[str, Tensor]:
    """What the pictures of these numbers show: the factors of `Images`, see the package's docstring."""
    # Every ten numbers in a row hold each class once, in an order of their own, so every data set is balanced.
    ten = Dice.of(index.div(len(CLASSES), rounding_mode="floor"), seed)("order", *[(0, 1)] * len(CLASSES))
    order = torch.cat(ten, 1).squeeze(2).argsort(1)
    y = order.gather(1, (index % len(CLASSES))[:, None]).squeeze(1)
    hue, background, size, x, down, tilt, light, facing = (t.flatten() for t in Dice.of(index, seed)(
        "factors", (0, 1), (0, 1), SIZES, (0, 1), (0, 1), (-10, 10), (-1, 1), (0, 1)))
    stand = torch.maximum(2 * size * feet(y), torch.tensor(FLOOR[0]))  # low enough for all of it to be in the picture
    return {
        "class": y,
        "hue": (hue[:, None] > _cumulated(USUAL_COLORS, tuple(COLORS), ODD_COLORS)[y, :-1]).sum(1),
        "size": size,
        "x": 0.38 * size + (1 - 0.76 * size) * x,
        "y": stand + (FLOOR[1] - stand) * down - size * feet(y),
        "tilt": tilt,
        "background": (background[:, None] > _cumulated(USUAL_PLACES, BACKGROUNDS, ODD_PLACES)[y, :-1]).sum(1),
        "light": light,
        "facing": (facing >= 0.5).long(),
    }


def paint_scene(
    dice: Dice, factors: Mapping[str, Tensor], size: int, lift: Float[Tensor, " n"]
) -> tuple[UInt8[Tensor, "n 3 h w"], UInt8[Tensor, "n h w"]]:
    """Pictures and masks. `lift` is how far above the ground each thing is: its shadow stays on the ground."""
    rgb = torch.empty(len(lift), 3, size, size)
    masks = torch.empty(len(lift), size, size, dtype=torch.uint8)
    at = (torch.arange(size) + 0.5) / size
    u, v = at.view(1, 1, -1), at.view(1, -1, 1)
    light = _columns(factors["light"])
    (horizon,) = dice("horizon", (0.35, 0.66))
    for number, pick in _groups(factors["background"]):
        place, _ = PLACES[BACKGROUNDS[number]]
        c = Canvas(torch.empty(len(pick), 3, size, size), u, v, 1 / size)
        place(c, dice[pick], horizon[pick], light[pick])
        litter(c, dice[pick], horizon[pick], light[pick])
        rgb[pick] = c.rgb
    for number, pick in _groups(factors["class"]):
        some = {name: values[pick] for name, values in factors.items()}
        c = Canvas(rgb[pick], u, v, 1 / size)
        masks[pick] = _place_thing(c, CLASSES[number], dice[pick], some, lift[pick])
        rgb[pick] = c.rgb
    bright, warm = dice("exposure", (0.78, 1.12), (-0.08, 0.08))
    rgb *= torch.stack([bright + warm, bright, bright - warm], 1)
    rgb *= (1 + 0.28 * light * (u - 0.5))[:, None]
    return rgb.clamp_(0, 1).mul_(255).round_().to(torch.uint8), masks


def _groups(labels: Int64[Tensor, " n"]):
    """Each label that occurs, with the rows where it does."""
    for label in labels.unique().tolist():
        yield label, (labels == label).nonzero().squeeze(1)


def _place_thing(c: Canvas, name: str, dice: Dice, factors: Mapping[str, Tensor], lift: Tensor) -> Tensor:
    """Put a thing and its shadow into the picture; returns its mask."""
    light, half, lift = _columns(factors["light"]), _columns(factors["size"]) / 2, _columns(lift)
    x, y = (c.u - _columns(factors["x"])) / half, (_columns(factors["y"]) - c.v) / half
    turn = factors["tilt"].double().deg2rad()  # in double, so that its last bits do not depend on vector code
    cosine, sine = _columns(turn.cos()), _columns(turn.sin())

    wide = 0.75 / (1 + 4 * lift)
    shadow = circle((x + 0.25 * light) / wide, (y + FOOT[name] + lift / half) / 0.13, 1.3)
    c.glaze((shadow * -1.6).clamp_(0, 1) * 0.45, flat(INK) * 0.6)

    facing = 2 * _columns(factors["facing"]) - 1
    thing = Canvas(c.rgb, (x * cosine + y * sine) * facing, y * cosine - x * sine, c.pixel / half)
    tint = torch.stack(dice("tint", *[(-0.05, 0.05)] * 3), 1)
    main = torch.tensor(list(COLORS.values()))[factors["hue"]][..., None, None] + tint
    windows = torch.tensor([LAMP if place in ("night", "sunset") else SKY for place in BACKGROUNDS])
    THINGS[name](thing, dice, main, windows[factors["background"]][..., None, None], light * facing)
    return _light(thing, x, y, light)


def _light(c: Canvas, x: Tensor, y: Tensor, light: Tensor) -> Tensor:
    """Light the thing on the canvas from above and from one side, and draw its outline; returns its mask."""
    inside = c.cover(c.solid)
    # The rim turns away from us, and the gradient of the distance says which way.
    right, down = torch.zeros_like(c.solid), torch.zeros_like(c.solid)
    right[:, :, 1:-1] = c.solid[:, :, 2:] - c.solid[:, :, :-2]
    down[:, 1:-1] = c.solid[:, 2:] - c.solid[:, :-2]
    rim = (1 + 4 * c.solid).clamp_(0, 1)
    shade = (light * right - down) / (2 * c.pixel) * rim * 0.28 + (light * x + y) * 0.08
    edge = (1 - (c.solid / c.pixel + 0.5).abs()).clamp_(0, 1)
    c.rgb *= ((1 + shade * inside) * (1 - 0.4 * edge))[:, None]
    return (inside >= 0.5).to(torch.uint8)
