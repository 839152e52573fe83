"""The eight places of the Toybox: sky or wall above, ground below, in the frame of the picture.

The frame runs from 0 to 1, u to the right and v DOWN; `horizon` is where the ground begins, `light` in -1..1 where the
light comes from (1: the right). A place chooses its own colours and weather; what lies about is the same everywhere.
"""

from __future__ import annotations

import torch
from torch import Tensor

from course_lib.data.toybox.paint import INK, WHITE, Canvas, Dice, between, box, choose, circle, ellipse, flat, wave


def fade(c: Canvas, top: Tensor, bottom: Tensor, start, end) -> Tensor:
    """A colour for every row `[B, 3, H, 1]`, from `top` at v = start to `bottom` at v = end."""
    t = ((c.v - start) / (end - start)).clamp(0, 1)
    return top + (bottom - top) * t[:, None]


def sky(c: Canvas, top: Tensor, bottom: Tensor, horizon: Tensor):
    """A sky that fades from `top` down to `bottom` at the horizon."""
    c.rgb[:] = fade(c, top, bottom, 0.0, horizon)


def clouds(c: Canvas, dice: Dice, horizon: Tensor, color: Tensor):
    """Soft clouds above the horizon, from hardly any to many."""
    (amount,) = dice("clouds", (-0.9, 0.5))
    puffs = (c.noise(dice, "puffs", 0.4, 0.8, soft=True) + amount).clamp_(0, 1)
    c.glaze(puffs * ((horizon - c.v) * 6).clamp(0, 1), color)


def hills(c: Canvas, dice: Dice, name: str, horizon: Tensor, color: Tensor, sharp: bool = False):
    """A line of hills on the horizon, or of mountains where `sharp`."""
    high, often, phase, small = dice(name, (0.04, 0.12), (1.0, 2.2), (0, 1), (0.2, 0.5))
    x = c.u * often + phase
    ridge = (1 - 4 * (x - x.round()).abs()) * 1.3 if sharp else wave(x)
    top = horizon - high * (1 + ridge + small * wave(x * 2.7))
    c.glaze(c.cover(top - c.v), color)


def ground(c: Canvas, far: Tensor, near: Tensor, horizon: Tensor, texture: Tensor):
    """From the horizon to the lower edge, lighter and darker by the texture `[B, H, W]`."""
    c.glaze(c.cover(horizon - c.v), fade(c, far, near, horizon, 1.0) * (1 + texture)[:, None])


def scatter(c: Canvas, dice: Dice, name: str, rows: float, columns: float, radius: Tensor | float) -> Tensor:
    """The distance to dots that are spread over the picture: one in each cell of a grid, out of line."""
    down, across, seed = dice(name, (0, 9), (0, 9), (0.3, 0.7))
    y, x = c.v * rows + down, c.u * columns + across
    row = y.round()
    x = x + wave(row * 0.381966) * 2
    column = x.round()
    jitter = wave((row + 3) * (column + 5) * seed)
    return circle((x - column - 0.3 * jitter) / columns, (y - row - 0.3 * wave(jitter * 5)) / rows, radius)


def meadow(c: Canvas, dice: Dice, horizon: Tensor, light: Tensor):
    """Grass with flowers under a blue sky, with hills far away."""
    blue, far, green, dots, flowers = dice("meadow", (0, 1), (0, 1), (0, 1), (0, 1), (0, 1))
    sky(
        c,
        between(blue, (0.25, 0.50, 0.90), (0.40, 0.66, 0.95)),
        between(blue, (0.72, 0.86, 0.97), (0.88, 0.93, 0.95)),
        horizon,
    )
    clouds(c, dice, horizon, flat(WHITE))
    hills(c, dice, "hills", horizon, between(far, (0.30, 0.50, 0.48), (0.46, 0.64, 0.42)))
    grass = 0.07 * c.noise(dice, "grass", 1.0, 0.35) + 0.06 * c.noise(dice, "blades", 2.0, 1.0)
    ground(
        c,
        between(green, (0.50, 0.72, 0.30), (0.60, 0.76, 0.36)),
        between(green, (0.20, 0.48, 0.16), (0.34, 0.55, 0.18)),
        horizon,
        grass,
    )
    petals = torch.maximum(scatter(c, dice, "petals", 11, 7, 0.016), horizon + 0.06 - c.v)
    c.paint(petals, choose(dots, WHITE, (1.0, 0.85, 0.3), (0.95, 0.55, 0.7)), strength=(flowers < 0.6).float())


def sea(c: Canvas, dice: Dice, horizon: Tensor, light: Tensor):
    """Open water with waves up to the horizon."""
    blue, deep, phase, rough = dice("sea", (0, 1), (0, 1), (0, 1), (0.05, 0.16))
    sky(
        c,
        between(blue, (0.35, 0.60, 0.90), (0.55, 0.72, 0.86)),
        between(blue, (0.82, 0.92, 0.97), (0.96, 0.90, 0.82)),
        horizon,
    )
    clouds(c, dice, horizon, flat(WHITE))
    t = (c.v - horizon).clamp(min=0)
    crests = wave(1.6 / (t + 0.12) + 0.35 * wave(c.u * 2 + phase) + 0.2 * wave(c.u * 5 - phase) + phase)
    swell = rough * crests + 0.04 * c.noise(dice, "foam", 1.0, 0.4)
    ground(
        c,
        between(deep, (0.36, 0.66, 0.82), (0.25, 0.62, 0.70)),
        between(deep, (0.08, 0.26, 0.58), (0.04, 0.38, 0.52)),
        horizon,
        swell,
    )
    glint = (1 - (c.u - 0.5 - 0.4 * light).abs() * 5).clamp(min=0) * crests.clamp(min=0)
    c.glaze(glint.mul_(0.5) * (t > 0), flat((1.0, 0.98, 0.85)))


def beach(c: Canvas, dice: Dice, horizon: Tensor, light: Tensor):
    """Sand, a strip of sea, and sky."""
    blue, water, sand, tide, phase = dice("beach", (0, 1), (0, 1), (0, 1), (0.05, 0.12), (0, 1))
    sky(
        c,
        between(blue, (0.30, 0.62, 0.92), (0.50, 0.76, 0.92)),
        between(blue, (0.80, 0.94, 0.97), (0.98, 0.95, 0.88)),
        horizon,
    )
    clouds(c, dice, horizon, flat(WHITE))
    shore = horizon + tide + 0.012 * wave(c.u * 2 + phase)
    c.glaze(
        c.cover(horizon - c.v),
        fade(
            c, between(water, (0.10, 0.45, 0.70), (0.10, 0.55, 0.65)), flat((0.45, 0.82, 0.84)), horizon, horizon + tide
        ),
    )
    c.glaze(c.cover(shore - 0.02 - c.v), flat(WHITE))
    grains = 0.035 * c.noise(dice, "dunes", 0.6, 1.0) + 0.04 * c.noise(dice, "grains", 5.0, 5.0)
    ground(
        c,
        between(sand, (0.90, 0.78, 0.52), (0.94, 0.84, 0.62)),
        between(sand, (0.82, 0.64, 0.36), (0.90, 0.74, 0.48)),
        shore,
        grains,
    )
    shells = torch.maximum(scatter(c, dice, "shells", 8, 4, 0.018), shore + 0.06 - c.v)
    c.paint(shells, flat((0.98, 0.93, 0.88)))


def snow(c: Canvas, dice: Dice, horizon: Tensor, light: Tensor):
    """Snow under a grey sky, with mountains; in some pictures more of it falls."""
    gray, far, cold, falls = dice("snow", (0, 1), (0, 1), (0, 1), (0, 1))
    sky(
        c,
        between(gray, (0.55, 0.62, 0.72), (0.68, 0.78, 0.88)),
        between(gray, (0.80, 0.84, 0.88), (0.88, 0.91, 0.94)),
        horizon,
    )
    hills(c, dice, "peaks", horizon, between(far, (0.50, 0.58, 0.70), (0.66, 0.73, 0.82)), sharp=True)
    drifts = 0.035 * c.noise(dice, "drifts", 0.5, 1.2)
    ground(
        c,
        between(cold, (0.90, 0.93, 0.97), (0.84, 0.89, 0.95)),
        between(cold, (0.97, 0.97, 0.98), (0.90, 0.94, 0.99)),
        horizon,
        drifts,
    )
    c.paint(scatter(c, dice, "flakes", 9, 5, 0.014), flat(WHITE), strength=(falls < 0.7).float())


def night(c: Canvas, dice: Dice, horizon: Tensor, light: Tensor):
    """Dark ground under stars and a moon."""
    dark, hue, up, phase, moss = dice("night", (0, 1), (0, 1), (0.08, 0.22), (0.035, 0.075), (0, 1))
    sky(
        c,
        between(dark, (0.03, 0.04, 0.16), (0.08, 0.05, 0.22)),
        between(dark, (0.15, 0.18, 0.42), (0.30, 0.20, 0.45)),
        horizon,
    )
    c.paint(scatter(c, dice, "stars", 9, 6, 0.010), flat((0.95, 0.93, 0.80)))
    c.paint(scatter(c, dice, "far stars", 15, 11, 0.004), flat((0.75, 0.80, 0.95)))
    moon = circle(c.u - 0.5 - light * 0.4, c.v - up, 0.085)
    c.paint(
        torch.maximum(moon, -circle(c.u - 0.5 - light * 0.4 + phase, c.v - up + 0.02, 0.08)), flat((0.98, 0.95, 0.78))
    )
    hills(c, dice, "hills", horizon, between(hue, (0.09, 0.11, 0.26), (0.13, 0.10, 0.28)))
    grass = 0.10 * c.noise(dice, "grass", 1.0, 0.4) + 0.05 * c.noise(dice, "blades", 2.5, 1.5)
    ground(
        c,
        between(moss, (0.13, 0.22, 0.30), (0.20, 0.20, 0.36)),
        between(moss, (0.08, 0.15, 0.16), (0.12, 0.12, 0.24)),
        horizon,
        grass,
    )


def room(c: Canvas, dice: Dice, horizon: Tensor, light: Tensor):
    """A papered wall with a picture on it, above a wooden floor."""
    wall, pattern, often, hang, up, floor, art = dice(
        "room", (0, 1), (0, 1), (5, 9), (0.12, 0.88), (0.14, 0.26), (0, 1), (0, 1)
    )
    paper = choose(
        wall,
        (0.93, 0.86, 0.70),
        (0.70, 0.82, 0.80),
        (0.86, 0.70, 0.68),
        (0.62, 0.70, 0.84),
        (0.80, 0.84, 0.66),
        (0.76, 0.66, 0.80),
    )
    c.rgb[:] = paper * (1 - 0.1 * c.v + 0.12 * light * (c.u - 0.5))[:, None]
    stripes = ((c.u * often).round() - c.u * often).abs() - 0.25 + 0 * c.v
    dots = scatter(c, dice, "paper", 7, 5, 0.028) * 12
    mark = torch.where(pattern < 0.4, stripes * 3, torch.where(pattern < 0.7, dots, torch.ones(())))
    c.glaze((0.5 - mark * 2).clamp_(0, 1) * 0.5, paper * 0.86)
    frame = box(c.u - hang, c.v - up, 0.12, 0.1)
    c.paint(frame, flat((0.45, 0.28, 0.16)))
    c.paint(frame + 0.025, choose(art, (0.55, 0.78, 0.95), (0.15, 0.18, 0.38), (0.95, 0.93, 0.86), (0.55, 0.68, 0.45)))
    depth = (c.v - horizon).clamp(min=0)
    boards = wave((c.u - 0.5) / (depth + 0.35) * 3).abs().clamp(max=0.3) * 0.3 + 0.04 * c.noise(dice, "wood", 0.5, 2.0)
    ground(
        c,
        choose(floor, (0.62, 0.42, 0.26), (0.72, 0.56, 0.40), (0.48, 0.34, 0.28), (0.62, 0.62, 0.64)),
        choose(floor, (0.74, 0.52, 0.32), (0.84, 0.68, 0.48), (0.58, 0.40, 0.30), (0.76, 0.76, 0.78)),
        horizon,
        boards - 0.05,
    )
    c.glaze(c.cover((c.v - horizon + 0.02).abs() - 0.02) + 0 * c.u, flat((0.96, 0.94, 0.90)))


def sunset(c: Canvas, dice: Dice, horizon: Tensor, light: Tensor):
    """Bare earth under a red sky with a low sun."""
    warm, far, earth, low = dice("sunset", (0, 1), (0, 1), (0, 1), (0.02, 0.16))
    sky(
        c,
        between(warm, (0.42, 0.22, 0.50), (0.85, 0.38, 0.36)),
        between(warm, (0.99, 0.66, 0.34), (1.0, 0.82, 0.48)),
        horizon,
    )
    clouds(c, dice, horizon, between(warm, (0.92, 0.48, 0.44), (0.98, 0.70, 0.55)))
    c.paint(circle(c.u - 0.5 - light * 0.38, c.v - horizon + low, 0.12), flat((1.0, 0.93, 0.66)))
    hills(c, dice, "peaks", horizon, between(far, (0.42, 0.24, 0.42), (0.56, 0.30, 0.36)), sharp=True)
    soil = 0.08 * c.noise(dice, "soil", 0.8, 0.8) + 0.06 * c.noise(dice, "stones", 3.0, 2.0)
    ground(
        c,
        between(earth, (0.66, 0.40, 0.28), (0.74, 0.48, 0.30)),
        between(earth, (0.36, 0.20, 0.16), (0.46, 0.28, 0.20)),
        horizon,
        soil,
    )


def city(c: Canvas, dice: Dice, horizon: Tensor, light: Tensor):
    """A street before a row of houses with windows."""
    haze, often, phase, wall, road, lit = dice("city", (0, 1), (4, 7), (0, 9), (0, 1), (0.1, 0.2), (0, 1))
    sky(
        c,
        between(haze, (0.60, 0.74, 0.86), (0.78, 0.78, 0.80)),
        between(haze, (0.88, 0.90, 0.90), (0.95, 0.86, 0.78)),
        horizon,
    )
    x = c.u * often + phase
    block = x.round()
    high = 0.12 + 0.36 * (block * block * 0.381966 + phase).remainder(1)
    tint = (block * block * 0.7548).remainder(1) * 0.25
    houses = torch.maximum(horizon - high - c.v, c.v - horizon)
    c.paint(houses + 0 * c.u, between(wall, (0.52, 0.55, 0.64), (0.66, 0.58, 0.56)) * (0.85 + tint)[:, None])
    y = c.v * 15
    panes = torch.maximum(((x * 3 - (x * 3).round()).abs() - 0.22) / 15, ((y - y.round()).abs() - 0.25) / 15)
    c.paint(
        torch.maximum(panes, houses + 0.02),
        choose(lit, (0.98, 0.90, 0.60), (0.40, 0.46, 0.58), (0.86, 0.92, 0.96)),
        strength=0.7,
    )
    ground(
        c,
        between(haze, (0.66, 0.65, 0.64), (0.58, 0.57, 0.60)),
        flat((0.44, 0.44, 0.47)),
        horizon,
        0.06 * c.noise(dice, "tar", 2.0, 2.0),
    )
    dash = torch.maximum(
        (c.v - horizon - road).abs() - 0.012, ((c.u * 3 + phase) - (c.u * 3 + phase).round()).abs() - 0.28
    )
    c.paint(dash, flat((0.95, 0.92, 0.80)))


def litter(c: Canvas, dice: Dice, horizon: Tensor, light: Tensor):
    """Balls, blocks and cones that lie about behind the thing: clutter that belongs to no class."""
    for k in range(3):
        here, shape, x, down, size, tone, fat = dice(
            f"litter {k}", (0, 1), (0, 1), (0.02, 0.98), (0.1, 1), (0.07, 0.14), (0, 1), (0.7, 1.3)
        )
        size = size * (0.4 + 0.6 * down)  # smaller further off
        u, v = c.u - x, c.v - horizon - down * (0.97 - horizon) + size
        ball, block = ellipse(u, v, size * fat, size), box(u, v, size * fat, size)
        cone = (u.abs() * 1.8 - v * 0.9 - size * 0.9).maximum(v - size) * 0.6
        d = torch.where(shape < 0.4, ball, torch.where(shape < 0.75, block, cone))
        color = choose(
            tone,
            (0.80, 0.30, 0.25),
            (0.92, 0.66, 0.22),
            (0.35, 0.56, 0.34),
            (0.28, 0.44, 0.70),
            (0.58, 0.38, 0.60),
            (0.55, 0.53, 0.50),
            (0.40, 0.36, 0.34),
            (0.90, 0.87, 0.80),
        )
        here = (here < 0.55).float()
        c.glaze(
            c.cover(ellipse(u + light * size * 0.4, v - size, size * fat * 1.2, size * 0.3)) * here * 0.35, flat(INK)
        )
        c.paint(d, color, shade=0.95 + (light * u - v) * 2.2, strength=here)


PLACES = {
    "meadow": (meadow, "on green grass under a blue sky"),
    "sea": (sea, "on the blue sea"),
    "beach": (beach, "on yellow sand by the water"),
    "snow": (snow, "in the white snow"),
    "night": (night, "at night under the stars"),
    "room": (room, "on the floor of a room"),
    "sunset": (sunset, "on brown earth at sunset"),
    "city": (city, "on a grey street in the city"),
}
