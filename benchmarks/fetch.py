"""Fetch what most measurements learn from and stand on: `python -m benchmarks.fetch --out ../shared/data`.

CIFAR-100 (Krizhevsky 2009) by torchvision and DeiT-Tiny (Touvron et al. 2021, ImageNet-1k) by timm, both over the
network, some 200 MB. What is there already stays. Images are kept as lossless WebP in one file a split, which loads
in a second; `pack` is the format.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image
from rich.progress import track

DATA = Path("../shared/data")
"""Where measurements look for all of it, unless told otherwise."""
DEIT = "deit_tiny_patch16_224"
WEIGHTS = f"{DEIT}_timm.safetensors"


def lossless(image: Image.Image) -> bytes:
    """The image as WebP, every pixel as it was."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def pack(images: Iterable[tuple[bytes, int]], classes: Sequence[str], path: Path) -> None:
    """An npz of encoded images, class after class, as `benchmarks.continual.data.load_archive` reads it.

    images: each with its index into `classes`.  blob: all bytes end to end; image i is blob[offsets[i]:offsets[i + 1]].
    """
    ordered = sorted(images, key=lambda one: one[1])
    encoded = [np.frombuffer(data, dtype=np.uint8) for data, _ in ordered]
    np.savez(
        path,
        blob=np.concatenate(encoded),
        offsets=np.cumsum([0, *map(len, encoded)]),
        label=np.array([label for _, label in ordered], dtype=np.int64),
        classes=np.array(classes),
    )


def cifar100(out: Path) -> None:
    """Both splits, 50,000 and 10,000 images. Raises OSError without a network."""
    from torchvision.datasets import CIFAR100

    for split in ("train", "test"):
        path = out / f"cifar100_{split}_webp.npz"
        if not path.exists():
            with tempfile.TemporaryDirectory() as scratch:
                source = CIFAR100(scratch, train=split == "train", download=True)
                images = ((lossless(image), label) for image, label in track(source, description=path.name))
                pack(images, source.classes, path)


def deit(out: Path) -> None:
    """The weights by the names of timm's own model. Raises OSError without a network."""
    import timm
    from safetensors.torch import save_file

    if not (out / WEIGHTS).exists():
        save_file(timm.create_model(f"{DEIT}.fb_in1k", pretrained=True).state_dict(), out / WEIGHTS)


def main(
    out: Annotated[Path, typer.Option(help="Folder of the data; benchmarks look here by default.")] = DATA,
) -> None:
    """Fetch CIFAR-100 and DeiT-Tiny."""
    out.mkdir(parents=True, exist_ok=True)
    deit(out)
    cifar100(out)


if __name__ == "__main__":
    typer.run(main)
