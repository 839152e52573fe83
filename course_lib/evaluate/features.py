"""Features: what a frozen encoder says about each picture. Every measure starts here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from course_lib.data.types import Dataset, Images
from course_lib.evaluate.checks import PATIENCE, check_encoder, check_features, undisturbed
from course_lib.pictures import as_float
from course_lib.progress import bar

MATES = 8  # pictures whose features are taken a second time, beside others


class RawPixels(nn.Module):
    """The encoder that learns nothing: the pixels themselves, `[N, 3, size, size]` in [0, 1] to `[N, 3 * size * size]`.

    It is the floor that every method is compared with, measured by the very same path.
    """

    def __init__(self, size: int = 32):
        super().__init__()
        self.size, self.dim = size, 3 * size * size

    def forward(self, x: Float[Tensor, "n 3 h w"] | UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        if x.shape[1:] != (3, self.size, self.size):
            raise ValueError(f"RawPixels({self.size}) wants pictures [N, 3, {self.size}, {self.size}], "
                             f"got {list(x.shape)}: build it with the size of the pictures")
        return as_float(x, values=False).flatten(1)


@undisturbed()
def features(
    encoder: nn.Module,
    images: Images | UInt8[Tensor, "n 3 h w"] | Float[Tensor, "n 3 h w"],
    *,
    batch_size: int = 512,
    device: torch.device | str | None = None,
    quiet: bool = False,
) -> Float[Tensor, "n d"]:
    """The encoder's features of every picture, float32 `[n, d]`, in the order of the pictures.

    The encoder is frozen: it runs in eval mode, without gradients, in float32 even under autocast, on the device where
    it is; its mode is restored afterwards. Pictures are uint8 (turned into floats in [0, 1] a batch at a time) or
    floats in [0, 1] already, such as augmented views.

    device: where the features are put; the CPU if None. quiet: show no progress bar, however long it takes.

    Raises TypeError for what is no encoder or no pictures, RuntimeError where the encoder changed its own weights or
    buffers while it was measured, ValueError for no pictures, pictures out of range, features that are not `[n, d]` or
    not finite, or features that depend on which other pictures are in the batch.
    """
    check_encoder(encoder)
    x = _tensor_of(images)
    home = encoder_device(encoder) or x.device
    out = None
    with frozen(encoder):
        starts = range(0, len(x), batch_size)
        for start in bar(starts, desc="features", unit="batch", delay=PATIENCE, quiet=quiet):
            batch = as_float(x[start : start + batch_size].to(home)).float()
            # A copy, so that an encoder that works in place leaves the pictures as they are.
            z = encoder(batch.clone(memory_format=torch.channels_last))
            if not isinstance(z, Tensor) or z.ndim != 2 or len(z) != len(batch):
                got = list(z.shape) if isinstance(z, Tensor) else type(z).__name__
                raise ValueError(f"an encoder must turn [{len(batch)}, 3, H, W] into [{len(batch)}, dim], got {got}: "
                                 "pool its maps and return one vector a picture")
            if out is None:
                out = torch.empty(len(x), z.shape[1], device=device or "cpu", dtype=torch.float32)
                # The first few pictures once more, now beside their own negatives in place of the rest of the batch.
                few = batch[:MATES]
                alone, again = z[:MATES], encoder(torch.cat([few, 1 - few]))[: len(few)]
            out[start : start + len(z)] = z
    check_features(out, "the encoder's features")
    _check_mates(alone, again)
    return out


def some(images: Images, limit: int, seed: int = 0) -> Int64[Tensor, " n"]:
    """The numbers of at most `limit` pictures, drawn by the seed: data often come sorted by class."""
    if len(images) <= limit:
        return torch.arange(len(images))
    return torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:limit].sort().values


def encoder_device(encoder: nn.Module) -> torch.device | None:
    """Where the encoder's weights are; None where it has none, as `RawPixels`."""
    return next((t.device for t in _state(encoder).values()), None)


def measuring_device(encoder: nn.Module) -> torch.device:
    """Where measures of an encoder are computed: on its CUDA device, on the CPU otherwise, since other devices lack the
    float64 that some of them want."""
    home = encoder_device(encoder)
    return home if home is not None and home.type == "cuda" else torch.device("cpu")


def _tensor_of(images: Images | Tensor) -> Tensor:
    """The pictures as a tensor of at least one; their values are looked at a batch at a time."""
    if isinstance(images, Dataset):
        raise TypeError("features are taken of pictures, got a whole Dataset: give one of its parts, such as data.test")
    x = images.x if isinstance(images, Images) else images
    if isinstance(x, Tensor) and x.ndim == 4:
        as_float(x[:1], values=False)
    else:
        as_float(x)  # says what is wrong
    if len(x) == 0:
        raise ValueError("features are taken of at least one picture, got none: check how the pictures were chosen")
    return x


def _check_mates(alone: Float[Tensor, "n d"], again: Float[Tensor, "n d"]) -> None:
    """Raises ValueError where features of the same pictures beside other ones differ by more than rounding.

    A batch's statistics move all of them; rounding that tips a hard decision moves one or two, so half may differ.
    """
    # Convolutions on a GPU may round to 11 bits, and batches of another size take another way there.
    tolerance = 1e-3 if alone.device.type == "cpu" else 1e-2
    moved = (alone - again).norm(dim=1) > tolerance * alone.norm(dim=1)
    if moved.double().mean() > 0.5:
        raise ValueError("a picture's features must not depend on the other pictures of the batch, but they changed "
                         f"with those for {int(moved.sum())} of {len(moved)}: use running statistics in eval mode "
                         "(BatchNorm with track_running_stats=True), and draw nothing at random there")


@contextlib.contextmanager
def frozen(encoder: nn.Module) -> Iterator[None]:
    """Eval mode inside, each module's own mode restored after, and proof that no weight or buffer changed meanwhile."""
    modes = {module: module.training for module in encoder.modules()}
    before = {name: tensor.detach().clone() for name, tensor in _state(encoder).items()}
    encoder.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
    after = _state(encoder)
    changed = [name for name, old in before.items() if name not in after or not _same(old, after[name])]
    if changed:
        raise RuntimeError(f"the encoder must stay as it is while it is measured, but it changed {changed[0]} "
                           f"({len(changed)} in all): update running statistics only where self.training is true")


def _state(module: nn.Module) -> dict[str, Tensor]:
    """Every weight and buffer, those left out of state_dict too."""
    return dict(module.named_parameters()) | dict(module.named_buffers())


def _same(old: Tensor, new: Tensor) -> bool:
    return old.shape == new.shape and torch.allclose(old, new, rtol=0, atol=0, equal_nan=True)
