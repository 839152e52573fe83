"""How often the interval of `paired` holds the true difference, on made-up answers whose truth is known.

Run it as `python tests/reference/paired_answers.py` for the full count of each setting; the tests run a part of it.
"""

from __future__ import annotations

import dataclasses
import math

import torch

from course_lib.evaluate import paired


@dataclasses.dataclass(frozen=True)
class Setting:
    """pictures; seeds of a and b; own: how much a picture's difficulty is one encoder's own, and by chance one
    training's, beside what all share; seed_spread: of whole trainings; gain: of a over b, all in units of latent skill.
    """

    pictures: int
    seeds: tuple[int, int]
    own: float
    gain: float
    seed_spread: float = 0.0


SETTINGS = {
    "few pictures, rare disagreement": Setting(100, (1, 1), 0.1, 0.1),
    "few pictures, common disagreement": Setting(100, (1, 1), 1.0, 0.5),
    "many pictures, rare disagreement": Setting(5000, (1, 1), 0.1, 0.05),
    "many pictures, common disagreement": Setting(5000, (1, 1), 0.7, 0.1),
    "three seeds alike": Setting(2000, (3, 3), 0.7, 0.1),
    "three seeds, few pictures": Setting(100, (3, 3), 0.1, 0.1, seed_spread=0.05),
    "three seeds, some spread": Setting(2000, (3, 3), 0.7, 0.1, seed_spread=0.03),
    "three seeds, great spread": Setting(2000, (3, 3), 0.7, 0.1, seed_spread=0.2),
    "three seeds against one": Setting(2000, (3, 1), 0.7, 0.1, seed_spread=0.03),
    "five seeds against two": Setting(2000, (5, 2), 0.7, 0.1, seed_spread=0.03),
}


def draw(setting: Setting, generator: torch.Generator) -> list[torch.Tensor]:
    """Who was right, `[seeds, pictures]` of a and of b: where skill, luck and the picture's ease are above 0."""
    shared = torch.randn(setting.pictures, generator=generator)
    sides = []
    for seeds, shift in zip(setting.seeds, (setting.gain / 2, -setting.gain / 2), strict=True):
        own = setting.own * torch.randn(setting.pictures, generator=generator)
        training = setting.seed_spread * torch.randn(seeds, 1, generator=generator)
        luck = setting.own * torch.randn(seeds, setting.pictures, generator=generator)
        sides.append(shared + own + training + luck + shift > 0)
    return sides


def truth(setting: Setting) -> float:
    """The difference in percentage points over all pictures and trainings that might be drawn."""
    deviation = math.sqrt(1 + 2 * setting.own**2 + setting.seed_spread**2)
    return 100 * math.erf(setting.gain / 2 / deviation / math.sqrt(2))


def coverage(setting: Setting, times: int, seed: int = 0) -> float:
    """The share of `times` draws whose interval holds the truth."""
    generator, wanted = torch.Generator().manual_seed(seed), truth(setting)
    held = 0
    for _ in range(times):
        difference = paired(*draw(setting, generator))
        held += difference.low <= wanted <= difference.high
    return held / times


if __name__ == "__main__":
    for name, setting in SETTINGS.items():
        print(f"{name:36} {100 * coverage(setting, 3000):.1f} %", flush=True)
