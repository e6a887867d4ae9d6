"""Augmentation of whole batches as tensors; a picture and the teacher's map of it share one random crop."""

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.pretrain.data import luma


def crop_frames(count: int, smallest: float, flip: bool, largest: float = 1.0) -> Tensor:
    """Random crops as affine frames [B, 2, 3] for `affine_grid`: area in [smallest, largest], aspect 3:4 to 4:3.

    smallest, largest: share of the picture's area.  flip: mirror half of them.
    """
    area = torch.empty(count).uniform_(smallest, largest)
    aspect = torch.empty(count).uniform_(-0.288, 0.288).exp()
    wide, high = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    frame = torch.zeros(count, 2, 3)
    frame[:, 0, 0], frame[:, 1, 1] = wide, high
    frame[:, 0, 2] = (1 - wide) * torch.empty(count).uniform_(-1, 1)
    frame[:, 1, 2] = (1 - high) * torch.empty(count).uniform_(-1, 1)
    if flip:
        frame[:, 0, 0] *= torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    return frame


def sample(maps: Tensor, frames: Tensor, side: int) -> Tensor:
    """Read float maps [B, C, h, w] inside their frames [B, 2, 3] on a square raster: [B, C, side, side]."""
    grid = F.affine_grid(frames, [len(maps), maps.shape[1], side, side], align_corners=False)
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)


def recolour(images: Tensor) -> Tensor:
    """Strong colour augmentation of float RGB [B, 3, H, W] in 0..1, every picture its own.

    Saturation, brightness, contrast; then for some: grey, negative, solarised, few levels, coarse.
    """
    count = len(images)
    images = images.lerp(luma(images).expand_as(images), _uniform(count, -0.5, 0.8) * _some(count, 0.8))
    images = torch.where(_some(count, 0.15).bool(), luma(images), images)
    images = images * _uniform(count, 0.6, 1.4)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = ((images - mean) * _uniform(count, 0.6, 1.5) + mean).clamp(0, 1)
    images = torch.where(_some(count, 0.08).bool(), 1 - images, images)
    images = torch.where((images > 0.6) & _some(count, 0.08).bool(), 1 - images, images)
    levels = torch.randint(2, 7, (count, 1, 1, 1)).float()
    images = torch.where(_some(count, 0.08).bool(), (images * levels).round() / levels, images)
    return _coarsen(images, share=0.2)


def _coarsen(images: Tensor, share: float) -> Tensor:
    """Lose detail in the first `share` of the batch (its order is random): down to 12..40 px and up again."""
    some = int(len(images) * share)
    low = int(torch.randint(12, 41, ()))
    small = F.interpolate(images[:some], size=(low, low), mode="bilinear", antialias=True)
    back = F.interpolate(small, size=images.shape[2:], mode="bilinear")
    return torch.cat((back, images[some:]))


def _uniform(count: int, low: float, high: float) -> Tensor:
    return torch.empty(count, 1, 1, 1).uniform_(low, high)


def _some(count: int, share: float) -> Tensor:
    return (torch.rand(count, 1, 1, 1) < share).float()
