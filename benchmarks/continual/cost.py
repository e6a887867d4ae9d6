"""What a method costs."""

from __future__ import annotations

import resource
import sys

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.continual.methods.base import Method


def giga_multiply_adds(method: Method, px: int, device: torch.device) -> float:
    """Of one image's answer, as torch counts them; two floating-point operations are one multiply-add."""
    pixels = torch.zeros(1, 3, px, px, dtype=torch.uint8, device=device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        method.infer(pixels)
    return counter.get_total_flops() / 2e9


def peak_memory_mib(device: torch.device) -> float:
    """Most memory ever held: on CUDA by tensors, else by the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
