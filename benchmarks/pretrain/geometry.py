"""What a picture looks like, in plain figures that pooled features are asked to hold."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.pretrain.data import luma

ANGLES = 8
"""Directions of a gradient histogram."""
LENGTH = 64 + 48 + 16 * ANGLES
"""Figures a picture."""


def describe(images: Tensor) -> Tensor:
    """Grey on an 8 x 8 raster, colour on 4 x 4, gradient histograms on 4 x 4 (Dalal and Triggs 2005; as a target
    for transformers, Wei et al. 2022): float RGB [B, 3, H, W] in 0..1 -> [B, LENGTH].
    """
    grey = luma(images)
    parts = (F.adaptive_avg_pool2d(grey, 8), F.adaptive_avg_pool2d(images, 4), gradient_histograms(grey))
    return torch.cat([part.flatten(1) for part in parts], 1)


def gradient_histograms(grey: Tensor) -> Tensor:
    """Gradients of grey pictures [B, 1, H, W] by direction in 4 x 4 overlapping cells: unit vectors [B, 16 ANGLES]."""
    small = F.interpolate(grey, size=(16, 16), mode="bilinear", antialias=True)
    wide, high = F.pad(small, (1, 1, 0, 0), mode="replicate"), F.pad(small, (0, 0, 1, 1), mode="replicate")
    dx, dy = wide[..., 2:] - wide[..., :-2], high[..., 2:, :] - high[..., :-2, :]
    angles = (torch.arange(ANGLES) * (2 * math.pi / ANGLES)).view(1, -1, 1, 1)
    length = (dx.square() + dy.square()).sqrt()
    by_angle = length * torch.cos(torch.atan2(dy, dx) - angles).clamp(min=0).square()  # [B, ANGLES, 16, 16]
    cells = F.avg_pool2d(by_angle, 8, stride=4, padding=2).flatten(1)
    return F.normalize(cells, dim=1, eps=1e-3)
