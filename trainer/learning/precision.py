"""How training computes: in bfloat16 where the hardware multiplies it, which on a processor that does halves the time.

Only training. Features are taken in float32, the same in any batch, so that the head stays exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from model.device import multiplies_bfloat16


@contextmanager
def training_precision(device: torch.device) -> Iterator[None]:
    """Inside, a forward pass mixes precisions; parameters, their gradients and updates stay float32.

    Nothing cast is kept: inside another autocast the cache outlives this context, and with it an update's old weights.
    """
    enabled = multiplies_bfloat16(device)
    # On a CPU plain products: the fused kernel's backward pass takes four times as long for so few tokens.
    attention = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
    with torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=False), attention:
        yield
