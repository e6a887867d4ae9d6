"""Vectors to solve heads from."""

from __future__ import annotations

import torch


def blobs(per_class: int = 40, classes: int = 5, dim: int = 16) -> tuple[torch.Tensor, tuple[str, ...]]:
    """Well separated clusters: vectors [n, d] and their labels."""
    generator = torch.Generator().manual_seed(0)
    centres = 3 * torch.randn(classes, dim, generator=generator)
    vectors = centres.repeat_interleave(per_class, dim=0)
    vectors = vectors + torch.randn(vectors.shape, generator=generator)
    return vectors, tuple(f"class {i}" for i in range(classes) for _ in range(per_class))
