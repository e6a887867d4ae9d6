"""What is fetched is packed as the measurements read it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.continual.data import load_archive
from benchmarks.fetch import lossless, pack


def test_packed_images_come_back_pixel_for_pixel_and_by_class(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    labels = [1, 0, 1, 0, 1]
    images = [(lossless(Image.fromarray(pixels)), label) for pixels, label in zip(noise, labels, strict=True)]
    pack(images, ["bear", "wolf"], tmp_path / "some.npz")
    found = load_archive(tmp_path / "some.npz")
    assert found.classes == ("bear", "wolf")
    assert found.labels.tolist() == [0, 0, 1, 1, 1]
    for row, place in enumerate((1, 3, 0, 2, 4)):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(found.read(row)))), noise[place])
