"""What the Toybox is painted with: counted dice, shapes given by their distance, and a canvas.

A shape is a signed distance: negative inside, zero on its edge, positive outside. Unions are minima, intersections are
maxima, and an edge is smoothed by letting the paint fade over one pixel. A shape takes coordinates `[B, H, W]` and
numbers that are floats or `[B, 1, 1]`, so a whole batch is drawn at once, each picture with its own proportions.

Per pixel only `+ - * / sqrt min max abs round` are used. They round the same way everywhere, in vector code or not, so
a picture does not depend on the pictures drawn beside it, on the number of threads, or on the machine.
"""

from __future__ import annotations

import functools
import zlib

import torch
from jaxtyping import Float, Int64
from torch import Tensor

WHITE, INK = (0.97, 0.97, 0.95), (0.13, 0.12, 0.15)

# ---------------------------------------------------------------------------------------------------------- dice


def _mix(h: Int64[Tensor, "..."]) -> Int64[Tensor, "..."]:
    """The SplitMix64 finaliser: every bit of the result depends on every bit of `h`. Products wrap at 64 bits."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        h = (h ^ ((h >> shift) & ((1 << (64 - shift)) - 1))) * factor  # the mask makes the shift bring in zeros
    return h ^ ((h >> 31) & ((1 << 33) - 1))


class Dice:
    """Random numbers that are counted, not drawn: each is a function of (seed, picture, name) alone.

    key: int64 `[B]`, one a picture. A generator would hand a picture whatever number comes next, so the picture would
    depend on how many were drawn before it.
    """

    def __init__(self, key: Int64[Tensor, " b"]):
        self.key = key

    @staticmethod
    def of(index: Int64[Tensor, " b"], seed: int) -> Dice:
        return Dice(_mix(_mix(torch.full_like(index, seed)) + index))

    def __getitem__(self, pick: Tensor) -> Dice:
        return Dice(self.key[pick])

    def __call__(self, name: str, *ranges: tuple[float, float]) -> tuple[Float[Tensor, "b 1 1"], ...]:
        """One number a picture for every range (low, high), uniform; the same name gives the same numbers again."""
        field = torch.arange(1, len(ranges) + 1) * 0x632BE59BD9B4E019 + zlib.crc32(name.encode())
        bits = (_mix(self.key[:, None] + _mix(field)) >> 40) & 0xFFFFFF  # 24 bits: what a float32 holds exactly
        low, high = torch.tensor(ranges).T
        return tuple((low + (high - low) * (bits * 2.0**-24)).T[..., None, None])


def flat(color: tuple[float, float, float]) -> Float[Tensor, "1 3 1 1"]:
    """One colour for all pictures."""
    return torch.tensor(color).view(1, 3, 1, 1)


def choose(u: Float[Tensor, "b 1 1"], *colors: tuple[float, float, float]) -> Float[Tensor, "b 3 1 1"]:
    """One of the colours for each picture, by `u` in [0, 1)."""
    return torch.tensor(colors)[(u.flatten() * len(colors)).long()][..., None, None]


def between(
    u: Float[Tensor, "b 1 1"], first: tuple[float, float, float], second: tuple[float, float, float]
) -> Float[Tensor, "b 3 1 1"]:
    """A colour on the way from the first to the second: `u` = 0 gives the first."""
    first, second = flat(first), flat(second)
    return first + (second - first) * u[:, None]


# -------------------------------------------------------------------------------------------------------- shapes


def circle(u, v, radius):
    """Signed distance to a circle around the origin: negative inside."""
    return (u * u + v * v).sqrt_() - radius


def ellipse(u, v, wide, high):
    """Half axes `wide` and `high`. The distance is exact on the edge and near enough beside it."""
    p, q = u / wide, v / high
    return ((p * p + q * q).sqrt_() - 1) * torch.minimum(torch.as_tensor(wide), torch.as_tensor(high))


def box(u, v, wide, high, corner=None):
    """Half sides `wide` and `high`; `corner` is the radius of the corners."""
    if corner is None:
        return torch.maximum(u.abs() - wide, v.abs() - high)
    p, q = u.abs() - (wide - corner), v.abs() - (high - corner)
    return circle(p.clamp(min=0), q.clamp(min=0), corner) + torch.maximum(p, q).clamp_(max=0)


def trapezoid(u, v, bottom, top, wide_bottom, wide_top):
    """Upright, symmetric about u = 0, half widths `wide_bottom` and `wide_top`; a triangle where one is 0."""
    slope = (wide_top - wide_bottom) / (top - bottom)
    side = (u.abs() - v * slope - (wide_bottom - slope * bottom)) / (1 + slope * slope) ** 0.5
    return torch.maximum(side, (v - (top + bottom) / 2).abs() - (top - bottom) / 2)


def sail(u, v, bottom, top, length):
    """A right-angled triangle: its mast is u = 0, its foot runs from u = 0 to `length`."""
    slope = length / (top - bottom)
    slant = (u - (top - v) * slope) / (1 + slope * slope) ** 0.5
    return torch.maximum(torch.maximum(slant, -u), bottom - v)


def lens(u, v, wide, high):
    """Two arcs that meet in a point at the top and at the bottom; half width `wide`, half height `high`."""
    radius = (wide * wide + high * high) / (2 * wide)
    return circle(u.abs() + (radius - wide), v, radius)


def ring(u, v, radius, thick):
    """Signed distance to a ring around the origin, `thick` to each side of `radius`."""
    return circle(u, v, radius).abs() - thick


def turned(u, v, cosine, sine):
    """The coordinates of a frame that is turned anticlockwise."""
    return u * cosine + v * sine, v * cosine - u * sine


def wave(t):
    """A sine wave of period 1, by parabolas."""
    t = t - t.round()
    return t * (8 - 16 * t.abs())


@functools.cache
def _noise_tile(soft: bool, side: int = 256) -> Float[Tensor, "side side"]:
    """Noise that tiles the plane, stronger the longer its waves are, more so where `soft`; mean 0, deviation 1."""
    (white,) = Dice.of(torch.arange(side * side), 0)("noise", (-1, 1))
    f = torch.fft.fftfreq(side, 1 / side)
    long = (1 + f[:, None] ** 2 + f[None] ** 2) ** (-0.9 if soft else -0.5)
    noise = torch.fft.ifft2(torch.fft.fft2(white.view(side, side)) * long).real
    return ((noise - noise.mean()) / noise.std() * 32).round() / 32  # the transform's last bits differ by machine


# -------------------------------------------------------------------------------------------------------- canvas


class Canvas:
    """A batch of pictures being painted.

    rgb: float `[B, 3, H, W]`.
    u, v: where each pixel is, in the frame that shapes are drawn in, broadcastable to `[B, H, W]`.
    pixel: how wide a pixel is in that frame.
    solid: the distance to everything painted with `solid=True`, from which the mask and the shading come.
    """

    def __init__(self, rgb: Float[Tensor, "b 3 h w"], u: Tensor, v: Tensor, pixel: Tensor | float):
        self.rgb, self.u, self.v, self.pixel, self.solid = rgb, u, v, pixel, None

    def cover(self, distance: Tensor) -> Float[Tensor, "b h w"]:
        """How much of each pixel the shape covers, 0 to 1."""
        return (0.5 - distance / self.pixel).clamp_(0, 1)

    def glaze(self, cover: Tensor, color: Tensor):
        """Let `cover` of each pixel, `[B, H, W]` in 0..1, take the colour `[B, 3, 1 or H, 1 or W]`."""
        self.rgb += (color - self.rgb).mul_(cover[:, None])

    def paint(self, distance: Tensor, color: Tensor, *, shade: Tensor | None = None, strength=1.0, solid=True):
        """Put a shape of one colour, times `shade` `[B, H, W]`, over what is there."""
        self.glaze(self.cover(distance) * strength, color if shade is None else color * shade[:, None])
        if solid:
            self.solid = distance if self.solid is None else torch.minimum(self.solid, distance)

    def noise(self, dice: Dice, name: str, across: float, down: float, soft=False) -> Float[Tensor, "b h w"]:
        """A texture, mean 0 and deviation 1; `across` and `down` say how much of the noise tile a picture spans."""
        tile, size = _noise_tile(soft), self.rgb.shape[-1]
        at = (torch.arange(size) + 0.5) / size * len(tile)
        dx, dy = dice(name, (0, len(tile)), (0, len(tile)))
        rows = (at[:, None] * down + dy).long() % len(tile)
        columns = (at * across + dx).long() % len(tile)
        return tile.flatten()[rows * len(tile) + columns]
