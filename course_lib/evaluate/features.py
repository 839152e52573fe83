"""Features: what a frozen encoder says about each picture. Every measure starts here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from course_lib.data.types import Images
from course_lib.evaluate.checks import check_features


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
        return (x / 255 if x.dtype == torch.uint8 else x).flatten(1)


def features(
    encoder: nn.Module,
    images: Images | UInt8[Tensor, "n 3 h w"] | Float[Tensor, "n 3 h w"],
    *,
    batch_size: int = 512,
    device: torch.device | str | None = None,
) -> Float[Tensor, "n d"]:
    """The encoder's features of every picture, float32 `[n, d]`, in the order of the pictures.

    The encoder is frozen: it runs in eval mode, without gradients, in float32 even under autocast, on the device where
    it is; its mode is restored afterwards. Pictures are uint8 (turned into floats in [0, 1] a batch at a time) or
    floats in [0, 1] already, such as augmented views.

    device: where the features are put; the CPU if None.

    Raises RuntimeError where the encoder changed its own weights or buffers while it was measured, ValueError for no
    pictures, pictures out of range, features that are not `[n, d]` or not finite.
    """
    x = images.x if isinstance(images, Images) else images
    _check_pictures(x)
    home = encoder_device(encoder) or x.device
    out = None
    with frozen(encoder), torch.no_grad(), torch.autocast(home.type, enabled=False):
        for start in range(0, len(x), batch_size):
            batch = x[start : start + batch_size].to(home)
            batch = batch.float() / 255 if batch.dtype == torch.uint8 else batch.float()
            z = encoder(batch.contiguous(memory_format=torch.channels_last))
            if not isinstance(z, Tensor) or z.ndim != 2 or len(z) != len(batch):
                got = list(z.shape) if isinstance(z, Tensor) else type(z).__name__
                raise ValueError(f"an encoder must turn [{len(batch)}, 3, H, W] into [{len(batch)}, dim], got {got}: "
                                 "pool its maps and return one vector a picture")
            if out is None:
                out = torch.empty(len(x), z.shape[1], device=device or "cpu")
            out[start : start + len(z)] = z
    check_features(out, "the encoder's features")
    return out


def encoder_device(encoder: nn.Module) -> torch.device | None:
    """Where the encoder's weights are; None where it has none, as `RawPixels`."""
    return next((t.device for t in _state(encoder).values()), None)


def measuring_device(encoder: nn.Module) -> torch.device:
    """Where measures of an encoder are computed: on its CUDA device, on the CPU otherwise, since other devices lack the
    float64 that some of them want."""
    home = encoder_device(encoder)
    return home if home is not None and home.type == "cuda" else torch.device("cpu")


def _check_pictures(x: Tensor) -> None:
    if not isinstance(x, Tensor) or not (x.dtype == torch.uint8 or x.is_floating_point()):
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"pictures must be Images, a uint8 tensor or floats in [0, 1], got {got}: "
                        "give dataset.test, for instance")
    if x.ndim != 4 or len(x) == 0:
        raise ValueError(f"pictures must have shape [N, 3, H, W] with N at least 1, got {list(x.shape)}: "
                         "give at least one picture")
    # Written so that a NaN fails it too. The slack is for views whose resampling rounds just past the ends.
    if x.is_floating_point() and not (float(x.min()) >= -1e-3 and float(x.max()) <= 1 + 1e-3):
        raise ValueError(f"pictures as floats must lie in [0, 1], got {float(x.min()):.3g} to {float(x.max()):.3g}: "
                         "divide 0..255 by 255, and leave normalising to the encoder")


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
