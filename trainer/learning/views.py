"""Images as they might have been taken: nearer, from the side, in another light."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST_AREA = 0.3
"""Share of an image that a crop shows at least."""

WIDEST = 4 / 3
"""A crop is at most so many times wider than high, or higher than wide."""

LIGHT = 0.4
"""Brightness, contrast and saturation change by at most this share."""


def varied(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Pixels [b, 3, px, px] uint8 -> the same, of each image a random crop in a random light.

    The crops and colours of SimCLR (Chen et al., ICML 2020), less its blur, its turning of hues and its mirroring.
    """
    return relit(cropped(pixels.float(), generator), generator).round().to(torch.uint8)


def cropped(images: Tensor, generator: torch.Generator) -> Tensor:
    """[b, 3, px, px] -> of each a rectangle of LEAST_AREA to all of it, resized (bilinear) to the whole."""
    area, stretch, across, down = torch.rand(4, len(images), generator=generator)
    area, stretch = LEAST_AREA + (1 - LEAST_AREA) * area, WIDEST ** (2 * stretch - 1)
    width, height = ((area * part).sqrt().clamp(max=1) for part in (stretch, 1 / stretch))
    place = torch.zeros(len(images), 2, 3)  # output coordinates, -1..1, to those of the image
    place[:, 0, 0], place[:, 0, 2] = width, (1 - width) * (2 * across - 1)
    place[:, 1, 1], place[:, 1, 2] = height, (1 - height) * (2 * down - 1)
    grid = F.affine_grid(place, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def relit(images: Tensor, generator: torch.Generator) -> Tensor:
    """[b, 3, px, px], 0..255 -> the same with another brightness, then contrast, then saturation."""
    brightness, contrast, saturation = 1 + LIGHT * (
        2 * torch.rand(3, len(images), 1, 1, 1, generator=generator) - 1
    )
    images = (images * brightness).clamp(0, 255)
    for dims, share in (((1, 2, 3), contrast), ((1,), saturation)):
        middle = images.mean(dim=dims, keepdim=True)
        images = (middle + share * (images - middle)).clamp(0, 255)
    return images
