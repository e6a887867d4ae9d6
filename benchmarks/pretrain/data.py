"""Training images: decoding the archives once into arrays, and deriving digit-like drawings from them."""

import io
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from rich.progress import track
from torch import Tensor

from model.preprocess import to_pixels

SKETCH_LEVELS = 16
"""Grey levels above black in a sketch, as coarse as a scanned 4-bit glyph."""


def read_archive(path: Path, px: int) -> tuple[Tensor, Tensor]:
    """Decode an archive of encoded images; each image is resized bicubically to a square.

    Args:
        path: `.npz` with `blob`, `offsets` and `label` (see the folder's own README).
        px: side length in pixels.

    Returns:
        Images uint8 [N, 3, px, px] and labels int64 [N].

    Raises:
        FileNotFoundError: the archive is missing.
    """
    with np.load(path) as archive:
        blob, offsets, labels = archive["blob"], archive["offsets"], archive["label"]
    images = np.empty((len(labels), 3, px, px), dtype=np.uint8)
    for row in track(range(len(labels)), description=path.stem):
        encoded = blob[offsets[row] : offsets[row + 1]].tobytes()
        with Image.open(io.BytesIO(encoded)) as image:
            images[row] = to_pixels(image, px)
    return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))


def luma(images: Tensor) -> Tensor:
    """Grey value of float RGB images [B, 3, H, W] in 0..1 (ITU-R 601): [B, 1, H, W]."""
    weight = torch.tensor((0.299, 0.587, 0.114)).view(1, 3, 1, 1)
    return (images * weight).sum(1, keepdim=True)


def sketches(images: Tensor, px: int, seed: int, chunk: int = 256) -> Tensor:
    """Turn photographs into coarse grey drawings: tiny, few levels, strokes or silhouettes on a plain ground.

    They stand in for glyphs and icons, which neither training set holds: the teacher sees the same drawings,
    so the student learns what separates them instead of an invariance to them.

    Args:
        images: uint8 [N, 3, H, W].
        px: side of the drawings in pixels.
        seed: the result is a function of the images and this seed.
        chunk: images that share one style and one resolution.

    Returns:
        uint8 [N, 3, px, px].
    """
    random = torch.Generator().manual_seed(seed)
    drawn = [_sketch(part.float() / 255, px, random) for part in torch.split(images, chunk)]
    return torch.cat(drawn)


def _sketch(photo: Tensor, px: int, random: torch.Generator) -> Tensor:
    """Draw one chunk of float photographs [B, 3, H, W] in one random style: uint8 [B, 3, px, px]."""
    style, size = (int(torch.randint(n, (), generator=random)) for n in (4, 3))
    side = (8, 12, 16)[size]
    grey = luma(photo)
    fine = F.interpolate(grey, size=(4 * side, 4 * side), mode="bilinear", antialias=True)
    soft = F.avg_pool2d(fine, 9, stride=1, padding=4, count_include_pad=False)
    if style == 0:  # strokes: edges of the softened picture
        dx, dy = soft.diff(dim=3, append=soft[..., -1:]), soft.diff(dim=2, append=soft[..., -1:, :])
        drawn = (dx.square() + dy.square()).sqrt()
    elif style == 1:  # ink: what is darker than its surroundings
        drawn = (soft - fine).clamp(min=0)
    elif style == 2:  # silhouette: one side of the mean
        drawn = ((soft - soft.mean(dim=(2, 3), keepdim=True)) * 40).sigmoid()
    else:
        drawn = fine
    drawn = F.adaptive_avg_pool2d(drawn, side)
    low, high = drawn.amin((2, 3), keepdim=True), drawn.amax((2, 3), keepdim=True)
    drawn = ((drawn - low) / (high - low).clamp(min=1e-3) * SKETCH_LEVELS).round() / SKETCH_LEVELS
    negative = torch.rand(len(drawn), 1, 1, 1, generator=random) < 0.25
    drawn = torch.where(negative, 1 - drawn, drawn)
    large = F.interpolate(drawn, size=(px, px), mode="bicubic").clamp(0, 1)
    return (large * 255).round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
