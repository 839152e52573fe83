"""Layer by layer: how well a linear map reads the classes out of each stage of an encoder.

A pretext task is seldom what one wants in the end: the last stages specialise in it, and what is general peaks earlier.
"""

from __future__ import annotations

import math
import warnings

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from course_lib.data.types import Dataset
from course_lib.evaluate.checks import PATIENCE, check_dataset, check_encoder, undisturbed
from course_lib.evaluate.features import encoder_device, features, frozen, measuring_device, some
from course_lib.evaluate.knn import is_right
from course_lib.evaluate.probe import linear_probe, search
from course_lib.progress import bar


class Stage(nn.Module):
    """One stage of an encoder as an encoder of its own: its map, averaged over the cells of a g×g grid, as one vector.

    g is the largest with at most `numbers` numbers in all, C·g², and at most the map's own side; it is at least 1.
    stage: which entry of `encoder.stages(x)`, or None for the picture itself.
    """

    def __init__(self, encoder: nn.Module, stage: int | None, numbers: int):
        super().__init__()
        self.encoder, self.stage, self.numbers = encoder, stage, numbers

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        maps = x if self.stage is None else self.encoder.stages(x)[self.stage]
        _, channels, height, width = maps.shape
        grid = max(1, min(math.isqrt(self.numbers // channels), height, width))
        return F.adaptive_avg_pool2d(maps, grid).flatten(1)


@undisturbed()
def layerwise(encoder: nn.Module, dataset: Dataset, *, on: str = "test", numbers: int = 1024,
              batch_size: int = 512) -> dict[str, float]:
    """Linear top-1, in percent, of the pixels and of each stage: {"pixels", "stage 1", "stage 2", ...}.

    Each map is averaged over a grid, so that every stage gives about as many features, at most `numbers`; else an
    early map would win by its size alone. (Zhang, Isola and Efros 2016 do so with about 9,000 on ImageNet.) On
    `convnet()` and 32×32 pictures they are 3·18² = 972, 32·5² = 800, 64·4² = 1024, 192·2² = 768 and 512·1² = 512; the
    last is `encoder(x)` itself.

    on: "test" for what is reported, by the protocol of `evaluate`: `linear_probe` on features of the frozen encoder,
    fitted on train alone, L2 strength chosen on val, test scored once for each stage. "val" for choosing, such as a
    stage: the same probe's accuracy on val, and test is never read.

    To compare stages picture by picture, `stages_right` says which pictures the probe of each was right about.

    Warns where a probe did not converge. Raises TypeError for an encoder without stages, ValueError for `numbers`
    below 1 or another `on`, and as `features` and `linear_probe`.
    """
    depth = _depth(encoder, dataset, numbers)
    if on not in ("test", "val"):
        raise ValueError(f'on must be "test", to report, or "val", to choose, got {on!r}')
    device = measuring_device(encoder)
    classes = len(dataset.classes)
    parts = ("train", "val", "test") if on == "test" else ("train", "val")
    top1 = {}
    steps = (depth + 1) * (len(parts) + 1)  # features of each part, and a probe
    with bar(total=steps, desc="layer by layer", delay=PATIENCE) as done:
        for stage in (None, *range(depth)):
            name = "pixels" if stage is None else f"stage {stage + 1}"
            net = Stage(encoder, stage, numbers)
            data = []
            for part in parts:
                images = getattr(dataset, part)
                data.append(features(net, images, batch_size=batch_size, device=device, quiet=True))
                data.append(images.y.to(device))
                done.update()
            if on == "test":
                result = linear_probe(*data, classes=classes, quiet=True)
                top1[name] = result.top1
            else:
                result = search(*data, classes)
                top1[name] = max(result.val_top1.values())
            done.update()
            if not result.converged:
                _warn(name)
    return top1


@undisturbed()
def stages_right(encoder: nn.Module, dataset: Dataset, *, train: int = 10_000, numbers: int = 1024,
                 batch_size: int = 512) -> dict[str, Bool[Tensor, " n"]]:
    """For each stage, which pictures of val its linear probe is right about, for `paired`: {"stage 1", "stage 2", ...}.

    It is for comparing stages and encoders, so test is never read. The probe of a stage learns from at most `train`
    pictures of train, drawn once and for all, and its L2 strength is chosen on val, for every stage alike; a stage is
    pooled to at most `numbers` numbers, as in `layerwise`.

    Warns and raises as `layerwise`, and raises ValueError for fewer than one picture.
    """
    depth = _depth(encoder, dataset, numbers)
    if train < 1:
        raise ValueError(f"a probe learns from pictures of train, got train={train}: 10,000 are the usual number")
    device = measuring_device(encoder)
    part, val, right = dataset.train[some(dataset.train, train)], dataset.val, {}
    with bar(total=3 * depth, desc="layer by layer", delay=PATIENCE) as done:
        for stage in range(depth):
            net, z = Stage(encoder, stage, numbers), []
            for images in (part, val):
                z.append(features(net, images, batch_size=batch_size, device=device, quiet=True))
                done.update()
            y = part.y.to(device), val.y.to(device)
            found = search(z[0], y[0], z[1], y[1], len(dataset.classes))
            right[f"stage {stage + 1}"] = is_right(found.best.scores(z[1]), y[1]).cpu()
            done.update()
            if not found.converged:
                _warn(f"stage {stage + 1}")
    return right


def _warn(stage: str) -> None:
    # 4: past this and the decorator, at the line that called
    warnings.warn(f"the probe of {stage} stopped before its gradient was within the tolerance", stacklevel=4)


def _depth(encoder: nn.Module, dataset: Dataset, numbers: int) -> int:
    """How many stages an encoder has. Raises what is said of `layerwise`."""
    check_encoder(encoder)
    check_dataset(dataset)
    if not hasattr(encoder, "stages"):
        raise TypeError("layer by layer needs an encoder with stages(x), a list of maps, "
                        f"got {type(encoder).__name__}: build one with cl.nets")
    if numbers < 1:
        raise ValueError(f"a stage needs at least 1 number, got numbers={numbers}: 1024 is the usual one")
    with frozen(encoder):
        return len(encoder.stages(dataset.train.x[:1].to(encoder_device(encoder) or "cpu")))
