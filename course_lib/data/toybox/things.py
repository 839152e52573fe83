"""The ten things of the Toybox. Each is painted part by part, from back to front, in a frame of its own.

The frame runs from -1 to 1, u to the right and v up; a thing stands at v = -FOOT and faces right. `dice` gives each
picture its own proportions, `main` is the colour that the caption names, `glass` what windows show. Parts with a colour
of their own (wheels, trunks, tyres) keep it whatever `main` is: that is what a colourizing network can learn.
"""

from __future__ import annotations

import torch
from torch import Tensor

from course_lib.data.toybox.paint import (
    INK,
    WHITE,
    Canvas,
    Dice,
    box,
    choose,
    circle,
    ellipse,
    flat,
    lens,
    ring,
    sail,
    trapezoid,
    turned,
    wave,
)

CREAM, PEARL = (0.95, 0.90, 0.78), (0.95, 0.93, 0.85)
BRICK, TILE, SLATE, STRAW = (0.62, 0.24, 0.18), (0.78, 0.34, 0.20), (0.30, 0.33, 0.42), (0.80, 0.64, 0.32)
WOOD, BARK, LEAF, MOSS = (0.66, 0.44, 0.24), (0.42, 0.27, 0.16), (0.22, 0.58, 0.24), (0.36, 0.52, 0.16)
GOLD, FIRE, EMBER, ROSE = (1.0, 0.82, 0.25), (1.0, 0.72, 0.15), (0.95, 0.30, 0.10), (0.94, 0.55, 0.60)
NAVY, CRIMSON, TEAL, STEEL = (0.16, 0.22, 0.45), (0.80, 0.16, 0.20), (0.12, 0.55, 0.58), (0.70, 0.73, 0.78)


def round_shade(u: Tensor, light: Tensor, amount: float = 0.3) -> Tensor:
    """The shade of an upright cylinder whose sides are at u = -1 and 1: bright where the light comes from."""
    return 1 + (light * u - 0.5 * u * u) * amount


def house(c: Canvas, dice: Dice, main: Tensor, glass: Tensor, light: Tensor):
    """Walls, a pitched roof, a door, a window, a chimney."""
    wide, eaves, apex, over, ridge, door, smoke, roof, paint, two = dice(
        "house",
        (0.52, 0.8),
        (-0.15, 0.15),
        (0.7, 0.97),
        (0.08, 0.2),
        (0, 0.3),
        (-0.45, 0.45),
        (0, 1),
        (0, 1),
        (0, 1),
        (0, 1),
    )
    u, v = c.u, c.v
    roof = choose(roof, BRICK, TILE, SLATE, STRAW, NAVY, BARK)
    stack = apex - (apex - eaves) * smoke.abs() / wide + 0.2  # a little above the roof
    c.paint(box(u - smoke, v - (stack + eaves) / 2, 0.1, (stack - eaves) / 2), flat(BRICK))
    c.paint(box(u - smoke, v - stack, 0.13, 0.05), flat(SLATE))
    c.paint(box(u, v - (eaves - 0.95) / 2, wide, (eaves + 0.95) / 2), main, shade=1 + 0.12 * light * u)
    c.paint(trapezoid(u, v, eaves - 0.03, apex, wide + over, ridge), roof, shade=1.08 - 0.25 * (v - eaves))
    c.paint(box(u, v - eaves + 0.06, wide, 0.05), main * 0.72, solid=False)  # the shadow under the eaves
    door = torch.where(two < 0.5, (door - 0.15).sign() * wide * 0.5, door * 0)
    c.paint(box(u - door, v + 0.6, 0.15, 0.35), choose(paint, BARK, CRIMSON, NAVY, TEAL, WOOD), solid=False)
    panes = torch.where(two < 0.5, u + door * 0.8, u.abs() - wide * 0.62)  # one window beside the door, or two
    c.paint(box(panes, v - eaves + 0.42, 0.19, 0.2), flat(WHITE), solid=False)
    c.paint(box(panes.abs() - 0.07, v - eaves + 0.42, 0.055, 0.15), glass, solid=False)


def tree(c: Canvas, dice: Dice, main: Tensor, glass: Tensor, light: Tensor):
    """A trunk under a round or a pointed crown, in some pictures with fruit."""
    kind, wide, base, lean, fruit, trunk, lumps = dice(
        "tree", (0, 1), (0.5, 0.75), (-0.4, -0.15), (-0.12, 0.12), (0, 1), (0.09, 0.15), (0.85, 1.1)
    )
    u, v = c.u, c.v
    c.paint(trapezoid(u, v, -0.95, base + 0.2, trunk * 1.4, trunk * 0.8), flat(BARK), shade=round_shade(u * 7, light))
    r = wide * 0.6
    left, right = circle(u + r, v - base - r * 0.75, r * lumps), circle(u - r, v - base - r * 0.85, r)
    top, middle = circle(u - lean, v - 0.9 + r * 1.15, r * 1.15), circle(u, v - base - 0.4, r * 1.2)
    broad = torch.minimum(torch.minimum(left, right), torch.minimum(top, middle))
    step = (0.95 - base) / 3
    low = trapezoid(u, v, base, base + step * 1.5, wide * 1.05, wide * 0.2)
    middle = trapezoid(u, v, base + step * 0.9, base + step * 2.2, wide * 0.85, wide * 0.15)
    high = trapezoid(u, v, base + step * 1.8, 0.97, wide * 0.62, 0.0)
    fir = torch.minimum(low, torch.minimum(middle, high))
    bands = torch.where(kind < 0.4, low.clamp(min=-0.15) - middle.clamp(min=-0.15), (left - right) * 0.2 * light)
    shade = 0.92 + 0.28 * (v - base) * 0.6 + 0.35 * light * u * 0.5 + 0.4 * bands
    crown = torch.where(kind < 0.4, fir, broad)
    c.paint(crown, main, shade=shade)
    apples = torch.minimum(circle(u.abs() - r * 0.9, v - base - r * 0.6, 0.075), circle(u - 0.1, v - 0.5, 0.075))
    apples = torch.minimum(apples, circle(u + 0.18, v - 0.15, 0.075))
    c.paint(
        torch.maximum(apples, crown), choose(fruit * 2 % 1, CRIMSON, GOLD), strength=(fruit > 0.5).float(), solid=False
    )


def car(c: Canvas, dice: Dice, main: Tensor, glass: Tensor, light: Tensor):
    """A body and a cabin with windows on two wheels."""
    length, roof, cabin, back, wheel, trim, slope, hub = dice(
        "car", (0.82, 0.97), (0.4, 0.62), (0.4, 0.6), (-0.3, 0.05), (0.19, 0.25), (0, 1), (0.6, 0.9), (0, 1)
    )
    u, v = c.u, c.v
    c.paint(trapezoid(u - back, v, -0.05, roof, cabin, cabin * slope), main * 0.94, shade=1 + 0.1 * v)
    panes = trapezoid(u - back, v, 0.07, roof - 0.08, cabin - 0.1, cabin * slope - 0.1)
    c.paint(torch.maximum(panes, 0.04 - (u - back).abs()), glass, shade=1 + 0.3 * (u - back) * light, solid=False)
    c.paint(box(u, v + 0.14, length, 0.22, 0.14), main, shade=1.1 + 0.55 * (v + 0.1))
    c.paint(box(u, v + 0.29, length, 0.05), choose(trim, STEEL, INK, WHITE), solid=False)
    c.paint(ellipse(u - length + 0.06, v + 0.07, 0.08, 0.08), flat(GOLD), solid=False)
    c.paint(box(u + length - 0.04, v + 0.08, 0.05, 0.07), flat(CRIMSON), solid=False)
    wheels = circle(u.abs() - length * 0.58, v + 0.55 - wheel, wheel)
    c.paint(wheels, flat(INK))
    c.paint(wheels + wheel * 0.5, choose(hub, STEEL, WHITE, GOLD), solid=False)


def boat(c: Canvas, dice: Dice, main: Tensor, glass: Tensor, light: Tensor):
    """A hull, a mast, sails and a flag."""
    wide, deck, mast, jib, stern, cloth, stripe, flag = dice(
        "boat", (0.72, 0.95), (-0.5, -0.32), (-0.15, 0.2), (0.35, 0.7), (0.45, 0.8), (0, 1), (0, 1), (0, 1)
    )
    u, v = c.u, c.v
    cloth = choose(cloth, WHITE, CREAM, WHITE, CRIMSON, GOLD, TEAL)
    c.paint(box(u - mast, v - 0.2, 0.04, 0.75), flat(BARK))
    c.paint(sail(u - mast - 0.07, v, deck + 0.16, 0.75, jib), cloth * 0.93, shade=1 + 0.15 * light * v)
    main_sail = sail(mast - 0.05 - u, v, deck + 0.12, 0.9, stern)
    c.paint(main_sail, cloth, shade=1 - 0.2 * light * (u - mast))
    band = torch.maximum(main_sail, (v - deck - 0.45).abs() - 0.09)
    c.paint(band, main, strength=(stripe < 0.5).float(), solid=False)
    c.paint(sail(u - mast, -v, -0.98, -0.8, 0.28), choose(flag, CRIMSON, GOLD, NAVY))
    hull = trapezoid(u, v, -0.9, deck, wide * 0.62, wide)
    c.paint(hull, main, shade=1.15 + 0.45 * (v - deck))
    c.paint(torch.maximum(hull, deck - 0.11 - v), choose(flag, WHITE, WOOD, CREAM), solid=False)
    ports = circle((u.abs() - 0.24).abs() - 0.14, v - deck + 0.27, 0.06)
    c.paint(ports, glass, strength=(stripe > 0.4).float(), solid=False)


def fish(c: Canvas, dice: Dice, main: Tensor, glass: Tensor, light: Tensor):
    """A body with a tail, fins, an eye and, in some pictures, stripes."""
    high, tail, fin, first, bands, trim, gape = dice(
        "fish", (0.36, 0.54), (0.3, 0.5), (0.15, 0.35), (-0.2, 0.05), (0, 1), (0, 1), (0.05, 0.1)
    )
    u, v = c.u, c.v
    trim = torch.where(trim[:, None] < 0.5, main * 0.7, choose(trim * 2 % 1, GOLD, EMBER, NAVY, TEAL, CREAM))
    c.paint(trapezoid(v, -u, 0.3, 0.97, 0.08, tail), trim, shade=1.05 - 0.3 * (v.abs()))
    c.paint(trapezoid(u + 0.02 + 0.5 * (v - high), v, high * 0.5, high + fin, 0.42, 0.12), trim)
    c.paint(trapezoid(u + 0.02 - 0.5 * (v + high), -v, high * 0.5, high + 0.14, 0.2, 0.08), trim)
    body = ellipse(u - 0.17, v, 0.72, high)
    c.paint(body, main, shade=1 + 0.45 * v / high * 0.5)
    c.paint(torch.maximum(body, v + high * 0.4), flat(PEARL), strength=0.45, solid=False)
    stripes = torch.maximum(body, ((u - first + 0.08 * v).abs() - 0.17).abs() - 0.065)
    c.paint(stripes, torch.where(bands[:, None] < 0.3, flat(WHITE), trim), strength=(bands < 0.65).float(), solid=False)
    c.paint(circle(u - 0.58, v - 0.1, 0.13), flat(WHITE), solid=False)
    c.paint(circle(u - 0.61, v - 0.1, 0.07), flat(INK), solid=False)
    c.paint(box(u - 0.82, v + 0.12, gape, 0.025), flat(INK), solid=False)


def cat(c: Canvas, dice: Dice, main: Tensor, glass: Tensor, light: Tensor):
    """A sitting cat: body, head with ears and eyes, tail."""
    wide, head, side, chin, ears, tail, eyes, coat, belly = dice(
        "cat", (0.4, 0.56), (0.4, 0.48), (-0.1, 0.12), (0.28, 0.4), (0.24, 0.38), (0.24, 0.34), (0, 1), (0, 1), (0, 1)
    )
    u, v = c.u, c.v
    dark = torch.where(coat[:, None] < 0.5, main * 0.55, main * 0.8)
    curl = torch.maximum(ring(u + wide + 0.1, v + 0.5, tail, 0.085), u + wide + 0.1 - 0.15 * v - 0.25)
    c.paint(curl, dark)
    c.paint(trapezoid(u, v, -0.95, 0.2, wide, wide * 0.55) - 0.02, main, shade=round_shade(u / wide, light))
    c.paint(ellipse(u, v + 0.55, wide * 0.5, 0.36), torch.where(belly[:, None] < 0.6, flat(CREAM), main), solid=False)
    c.paint(ellipse(u.abs() - wide * 0.5, v + 0.87, 0.17, 0.1), torch.where(belly[:, None] < 0.6, flat(WHITE), main))
    c.paint(box(u, v + 0.72, 0.025, 0.2), dark, solid=False)
    u, v = u - side, v - chin
    near = u.abs()
    ear = trapezoid(near - head * 0.62 - 0.12 * (v - head), v, head * 0.35, head + ears, 0.24, 0.0)
    c.paint(ear, main)
    c.paint(ear + 0.07, flat(ROSE), solid=False)
    face = ellipse(u, v, head * 1.12, head * 0.95)
    c.paint(face, main, shade=1.05 + 0.12 * v)
    brow = torch.maximum(torch.maximum(face, (near - 0.11).abs() - 0.045), head * 0.5 - v)
    c.paint(brow, dark, strength=(coat < 0.5).float(), solid=False)
    c.paint(ellipse(u, v + head * 0.42, head * 0.45, head * 0.32), flat(WHITE), strength=0.8, solid=False)
    c.paint(ellipse(near - head * 0.46, v - head * 0.1, 0.12, 0.13), choose(eyes, MOSS, GOLD, GOLD, TEAL), solid=False)
    c.paint(ellipse(near - head * 0.46, v - head * 0.1, 0.055, 0.12), flat(INK), solid=False)
    c.paint(circle(u, v + head * 0.27, 0.065), flat((0.75, 0.32, 0.36)), solid=False)


def flower(c: Canvas, dice: Dice, main: Tensor, glass: Tensor, light: Tensor):
    """Petals around a heart, on a stem with leaves."""
    petals, radius, sway, leaf, heart, fat, rise = dice(
        "flower", (0, 1), (0.34, 0.42), (-0.2, 0.2), (0.3, 0.5), (0, 1), (0.2, 0.25), (-0.75, -0.5)
    )
    u, v = c.u, c.v
    bend = sway * (v + 0.95) * (v + 0.95) * 0.55
    c.paint(box(u - bend, v + 0.35, 0.055, 0.6), flat(MOSS))
    pu, pv = turned((u - sway * 0.1).abs() - leaf * 0.75, v - rise - leaf * 0.3, 0.82, 0.57)
    c.paint(ellipse(pu, pv, leaf * 0.85, 0.14), flat(LEAF), shade=1 + 0.8 * pv)
    u, v = u - sway * 0.95, v - 0.4
    near = u.abs()  # the flower is symmetric: a petal drawn at one side is drawn at the other
    turns = torch.tensor([[90.0, 18, -54, -54], [90, 30, -30, -90], [67.5, 22.5, -22.5, -67.5]], dtype=torch.float64)
    turns = turns[(petals.flatten() * 3).long()].deg2rad()[..., None, None]
    head = None
    for k in range(4):
        x, y = turns[:, k].cos().float() * radius, turns[:, k].sin().float() * radius
        petal = circle(near - x, v - y, fat)
        head = petal if head is None else torch.minimum(head, petal)
    middle = circle(u, v, radius * 0.45)
    c.paint(head, main, shade=0.86 + 0.5 * (middle + 0.1).clamp(max=0.5) + 0.2 * light * u)
    c.paint(middle - 0.05, choose(heart, GOLD, GOLD, BARK, CREAM), shade=1 - 0.8 * middle.clamp(min=-0.1), solid=False)


def rocket(c: Canvas, dice: Dice, main: Tensor, glass: Tensor, light: Tensor):
    """A pointed body with fins, a porthole and a flame."""
    wide, fins, tip, port, flame, trim, bands = dice(
        "rocket", (0.3, 0.42), (0.55, 0.75), (0.38, 0.55), (0.02, 0.2), (0, 1), (0, 1), (0, 1)
    )
    u, v = c.u, c.v
    trim = choose(trim, CRIMSON, NAVY, GOLD, TEAL, STEEL, EMBER)
    c.paint(ellipse(u, v + 0.72, 0.18, 0.26), flat(EMBER), strength=(flame < 0.6).float(), solid=False)
    c.paint(ellipse(u, v + 0.68, 0.1, 0.18), flat(FIRE), strength=(flame < 0.6).float(), solid=False)
    near = u.abs()
    c.paint(
        sail(near - wide * 0.35, v, -0.95 + 0.35 * (fins - near), 0.0, fins - wide * 0.35),
        trim,
        shade=1 + 0.2 * light * u,
    )
    c.paint(box(u, v + 0.66, wide * 0.55, 0.12), flat(SLATE))
    body = torch.maximum(lens(u, v - 0.05, wide, 0.95), -0.6 - v)
    shade = round_shade(u / wide, light, 0.4)
    c.paint(body, main, shade=shade)
    c.paint(torch.maximum(body, tip - v), trim, shade=shade, solid=False)
    c.paint(
        torch.maximum(body, (v + 0.38).abs() - 0.07), trim, shade=shade, strength=(bands < 0.6).float(), solid=False
    )
    c.paint(circle(u, v - port, 0.19), flat(STEEL), solid=False)
    c.paint(circle(u, v - port, 0.125), glass, shade=1 + 1.5 * light * u, solid=False)


def mug(c: Canvas, dice: Dice, main: Tensor, glass: Tensor, light: Tensor):
    """A cup with a handle, in some pictures with a motif or steam."""
    wide, top, taper, grip, motif, trim, steam, drink = dice(
        "mug", (0.46, 0.6), (0.3, 0.62), (0.78, 1.0), (0.24, 0.34), (0, 1), (0, 1), (0, 1), (0, 1)
    )
    u, v = c.u + 0.15, c.v
    middle = (top - 0.85) / 2
    plume = torch.maximum((u.abs() - 0.16 + 0.07 * wave(v * 2.2)).abs() - 0.05, (v - top - 0.3).abs() - 0.2)
    c.paint(plume, flat(WHITE), strength=(steam < 0.6).float() * 0.6, solid=False)
    c.paint(ring(u - wide * 0.95, v - middle, grip, 0.085), main, shade=0.95 + 0.25 * (v - middle))
    body = trapezoid(u, v, -0.85, top, wide * taper, wide) - 0.03
    shade = round_shade(u / wide, light, 0.4)
    c.paint(body, main, shade=shade)
    trim = choose(trim, WHITE, CREAM, NAVY, CRIMSON, GOLD, TEAL)
    stripe = torch.maximum(body, (v - middle).abs() - 0.13)
    dot = circle((u + 0.02).abs() - 0.17, v - middle, 0.12)
    heart = torch.minimum(dot, torch.maximum(trapezoid(u, -v, -middle, 0.28 - middle, 0.28, 0.0), v - middle - 0.02))
    c.paint(torch.where(motif < 0.4, stripe, heart), trim, shade=shade, strength=(motif < 0.75).float(), solid=False)
    c.paint(ellipse(u, v - top, wide + 0.04, 0.13), main * 1.12)
    c.paint(ellipse(u, v - top, wide - 0.06, 0.08), choose(drink, BARK, (0.30, 0.16, 0.10), CREAM, BRICK), solid=False)


def mushroom(c: Canvas, dice: Dice, main: Tensor, glass: Tensor, light: Tensor):
    """A spotted cap on a stem."""
    stem, wide, cap, high, dots, spot, skirt = dice(
        "mushroom", (0.18, 0.32), (0.68, 0.95), (-0.1, 0.2), (0.6, 0.8), (0, 1), (0.1, 0.15), (0, 1)
    )
    u, v = c.u, c.v
    c.paint(trapezoid(u, v, -0.95, cap + 0.1, stem * 1.35, stem), flat(CREAM), shade=round_shade(u / stem * 0.8, light))
    c.paint(
        trapezoid(u, v, cap - 0.4, cap - 0.22, stem * 1.6, stem),
        flat(WHITE),
        strength=(skirt < 0.5).float(),
        solid=False,
    )
    c.paint(ellipse(u, v - cap, wide * 0.94, 0.14), flat((0.80, 0.68, 0.54)))
    dome = torch.maximum(ellipse(u, v - cap, wide, high), cap - 0.03 - v)
    c.paint(dome, main, shade=0.95 + 0.3 * (v - cap) + 0.25 * light * u)
    spots = torch.minimum(
        circle(u.abs() - wide * 0.52, v - cap - high * 0.25, spot), circle(u + 0.05, v - cap - high * 0.62, spot * 1.2)
    )
    spots = torch.minimum(spots, circle(u - 0.02, v - cap - high * 0.12, spot * 0.8))
    spots = torch.maximum(spots, dome + 0.03)
    c.paint(spots, flat(WHITE), strength=(dots < 0.75).float(), solid=False)


THINGS = {
    "house": house,
    "tree": tree,
    "car": car,
    "boat": boat,
    "fish": fish,
    "cat": cat,
    "flower": flower,
    "rocket": rocket,
    "mug": mug,
    "mushroom": mushroom,
}
FOOT = {
    "house": 0.95,
    "tree": 0.95,
    "car": 0.55,
    "boat": 0.9,
    "fish": 0.58,
    "cat": 0.96,
    "flower": 0.95,
    "rocket": 0.95,
    "mug": 0.88,
    "mushroom": 0.95,
}
