"""Which device, and which precision it multiplies in."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator

import torch
from torch import nn


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """The named device, or with "auto" a CUDA GPU where there is one, else the CPU.

    Apple's GPU is taken only where it is asked for with "mps": it lacks float64 and some kinds of pooling.
    """
    if device != "auto":
        return torch.device(device)
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype of matrix products. "auto": bfloat16 where the hardware multiplies in it, float16 on older CUDA GPUs,
    float32 elsewhere, since a CPU that only emulates bfloat16 is slower with it."""
    names = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if precision in names:
        if precision == "float16" and device.type == "cpu":
            warnings.warn("float16 on a CPU is several times slower than float32: use 'auto'", stacklevel=3)
        return names[precision]
    if precision != "auto":
        raise ValueError(f"precision must be 'auto' or one of {', '.join(names)}, got {precision!r}")
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    if device.type == "cpu" and cpu_multiplies_bfloat16():
        return torch.bfloat16
    return torch.float32


def cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has AVX512-BF16 or AMX. Older versions of torch cannot tell, and the answer is then no."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def memory(device: torch.device) -> str:
    """How much memory the device has, in words."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_properties(device).total_memory / 2**30:.0f} GiB on the GPU"
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"


@contextlib.contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """The same random numbers inside, whatever came before; those outside go on as if nothing had happened."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def plain_modes(*, grad: bool) -> Iterator[None]:
    """Whatever the caller has switched on around it, autocast and inference mode are off inside; gradients as asked."""
    with contextlib.ExitStack() as modes:
        for kind in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(kind):
                modes.enter_context(torch.autocast(kind, enabled=False))
        modes.enter_context(torch.inference_mode(False))
        modes.enter_context(torch.set_grad_enabled(grad))
        yield


def channels_last(module: nn.Module) -> nn.Module:
    """Weights of pictures' convolutions in the memory order that is fastest; those with other dimensions stay.

    Buffers stay too: several processes can share those only as they lie in memory by default.
    """
    for p in module.parameters():
        if p.ndim == 4:
            p.data = p.data.contiguous(memory_format=torch.channels_last)
    return module
