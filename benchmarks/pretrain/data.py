"""Training images: decoding an archive once into an array."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import track
from torch import Tensor

from benchmarks.continual.data import load_archive
from model.preprocess import to_pixels


def read_archive(path: Path, px: int, every: int = 1) -> Tensor:
    """One image in `every` of an archive (`benchmarks.fetch.pack`), squares by bicubic resizing: uint8 [N, 3, px, px].

    Raises FileNotFoundError.
    """
    source = load_archive(path)
    rows = range(0, len(source.labels), every)
    images = np.empty((len(rows), 3, px, px), dtype=np.uint8)
    for place, row in enumerate(track(rows, description=path.stem)):
        with Image.open(io.BytesIO(source.read(row))) as image:
            images[place] = to_pixels(image, px)
    return torch.from_numpy(images)


def luma(images: Tensor) -> Tensor:
    """Grey value of float RGB images [B, 3, H, W] in 0..1 (ITU-R 601): [B, 1, H, W]."""
    weight = torch.tensor((0.299, 0.587, 0.114)).view(1, 3, 1, 1)
    return (images * weight).sum(1, keepdim=True)
