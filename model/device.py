"""Where tensors live, and what multiplies well there."""

from __future__ import annotations

import torch

NATIVE = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
"""What processors with bfloat16 products call them; others emulate it, more slowly than float32."""


def pick_device(name: str | None) -> torch.device:
    """The device of this name, else a GPU where there is one. Raises ValueError for one that cannot be used here."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0].split(". ")[0]
        raise ValueError(f"device is {name!r}, which cannot be used here: {reason}") from error
    return device


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 pays on this device."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    able = torch.cpu.get_capabilities()
    return any(able.get(name, False) for name in NATIVE)
