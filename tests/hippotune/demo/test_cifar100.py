"""Ten tasks of ten classes through the real path: HTTP, queue, trainer, swap, HTTP."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from hippotune.processes import hippotune

DATA = Path(__file__).parents[4] / "shared" / "data"
WEIGHTS = DATA / "deit_tiny_patch16_224_timm.safetensors"

pytestmark = [
    pytest.mark.data,
    pytest.mark.slow,
    pytest.mark.skipif(not WEIGHTS.exists(), reason=f"needs CIFAR-100 and DeiT-Tiny in {DATA}"),
]


def unpack(archive: Path, folder: Path, per_class: int) -> None:
    """The first `per_class` images of each class as they are encoded, in an ImageFolder tree."""
    with np.load(archive) as data:
        blob, offsets, labels, classes = (data[key] for key in ("blob", "offsets", "label", "classes"))
    for index, name in enumerate(classes):
        (folder / str(name)).mkdir(parents=True)
        for image in np.flatnonzero(labels == index)[:per_class]:
            encoded = blob[offsets[image] : offsets[image + 1]].tobytes()
            (folder / str(name) / f"{image}.webp").write_bytes(encoded)


@pytest.mark.timeout(900)
def test_a_hundred_classes_in_ten_tasks_end_at_half_or_better(tmp_path: Path) -> None:
    unpack(DATA / "cifar100_train_webp.npz", tmp_path / "data" / "train", 20)
    unpack(DATA / "cifar100_test_webp.npz", tmp_path / "data" / "test", 10)
    command = hippotune("demo", "--exit", "--json", str(tmp_path / "demo.json"))
    command += ["--data", str(tmp_path / "data"), "--tasks", "10", "--store", str(tmp_path / "store")]
    command += ["--backbone", "deit_tiny_patch16_224", "--weights", str(WEIGHTS), "--px", "128"]
    command += ["--validation-share", "0"]  # twenty images a class are few enough
    subprocess.run(command, check=True, cwd=tmp_path)
    figures = json.loads((tmp_path / "demo.json").read_text())
    assert figures["failed_requests"] == 0
    assert [len(row) for row in figures["matrix"]] == list(range(1, 11))
    assert figures["average_accuracy"] >= 0.5, figures
