"""Training images: decoding an archive once into an array."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import track
from torch import Tensor

from model.preprocess import to_pixels


def read_archive(path: Path, px: int, every: int = 1) -> tuple[Tensor, Tensor]:
    """Decode an archive of encoded images; each image is resized bicubically to a square.

    Args:
        path: `.npz` with `blob`, `offsets` and `label` (see the folder's own README).
        px: side length in pixels.
        every: read one image in this many.

    Returns:
        Images uint8 [N, 3, px, px] and labels int64 [N].

    Raises:
        FileNotFoundError: the archive is missing.
    """
    with np.load(path) as archive:
        blob, offsets, labels = archive["blob"], archive["offsets"], archive["label"]
    rows = np.arange(0, len(labels), every)
    images = np.empty((len(rows), 3, px, px), dtype=np.uint8)
    for place, row in enumerate(track(rows, description=path.stem)):
        encoded = blob[offsets[row] : offsets[row + 1]].tobytes()
        with Image.open(io.BytesIO(encoded)) as image:
            images[place] = to_pixels(image, px)
    return torch.from_numpy(images), torch.from_numpy(labels[rows].astype(np.int64))


def luma(images: Tensor) -> Tensor:
    """Grey value of float RGB images [B, 3, H, W] in 0..1 (ITU-R 601): [B, 1, H, W]."""
    weight = torch.tensor((0.299, 0.587, 0.114)).view(1, 3, 1, 1)
    return (images * weight).sum(1, keepdim=True)
