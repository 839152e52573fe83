"""Which device, and which precision it multiplies in."""

from __future__ import annotations

import os

import torch


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """The named device, or with "auto" the best there is: CUDA, then Apple's GPU, then the CPU."""
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype of matrix products. "auto": bfloat16 where the hardware multiplies in it, float16 on older CUDA GPUs,
    float32 elsewhere, since a CPU that only emulates bfloat16 is slower with it."""
    names = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if precision in names:
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
