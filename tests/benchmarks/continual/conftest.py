from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmarks.continual.protocols import Protocol

LABELS = ("ant", "bee", "cow", "dog", "elk", "fox")
TRAIN, TEST = 8, 4
BACKBONE = "test_vit"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small are not worth waking other threads for."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ImageFolder tree of six colours with noise."""
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    colours = generator.integers(0, 255, (len(LABELS), 3))
    for part, count in (("train", TRAIN), ("test", TEST)):
        for label, colour in zip(LABELS, colours, strict=True):
            (root / part / label).mkdir(parents=True)
            for number in range(count):
                noise = generator.integers(-40, 40, (16, 16, 3))
                image = Image.fromarray((colour + noise).clip(0, 255).astype(np.uint8))
                image.save(root / part / label / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights for timm's smallest vision transformer: six blocks of 64 channels."""
    path = tmp_path_factory.mktemp("weights") / "test_vit.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(timm.create_model(BACKBONE, pretrained=False).state_dict(), path)
    return path


@pytest.fixture
def protocol(folder: Path, weights: Path) -> Protocol:
    """Three tasks of two colours."""
    return Protocol(
        data=f"imagefolder:{folder}", tasks=3, px=32, train_per_class=None, test_per_class=None, epochs=1,
        least_steps=0, batch=8, backbone=BACKBONE, weights=weights,
    )  # fmt: skip
