"""Layer by layer: how well a linear map reads the classes out of each stage of an encoder.

A pretext task is seldom what one wants in the end: the last stages specialise in it, and what is general peaks earlier.
"""

from __future__ import annotations

import math
import warnings

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.data.types import Dataset
from course_lib.evaluate.checks import PATIENCE, check_dataset, check_encoder, undisturbed
from course_lib.evaluate.features import encoder_device, features, frozen, measuring_device
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

    To compare two stages picture by picture, `evaluate(Stage(encoder, 2, numbers), dataset).right` says of the third
    stage which pictures its probe was right about, for `paired`.

    Warns where a probe did not converge. Raises TypeError for an encoder without stages, ValueError for `numbers`
    below 1 or another `on`, and as `features` and `linear_probe`.
    """
    check_encoder(encoder)
    check_dataset(dataset)
    if not hasattr(encoder, "stages"):
        raise TypeError("layer by layer needs an encoder with stages(x), a list of maps, "
                        f"got {type(encoder).__name__}: build one with cl.nets")
    if on not in ("test", "val"):
        raise ValueError(f'on must be "test", to report, or "val", to choose, got {on!r}')
    if numbers < 1:
        raise ValueError(f"a stage needs at least 1 number, got numbers={numbers}: 1024 is the usual one")
    device = measuring_device(encoder)
    classes = len(dataset.classes)
    parts = ("train", "val", "test") if on == "test" else ("train", "val")
    with frozen(encoder):
        depth = len(encoder.stages(dataset.train.x[:1].to(encoder_device(encoder) or "cpu")))
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
                # 3: past the decorator, at the line that called
                warnings.warn(f"the probe of {name} stopped before its gradient was within the tolerance", stacklevel=3)
    return top1
