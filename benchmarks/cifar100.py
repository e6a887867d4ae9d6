"""A hundred classes in ten tasks through the real path: `python -m benchmarks.cifar100 --out FILE.json`.

Unpacks a few images of each class of CIFAR-100 into an ImageFolder tree and runs the demo on it with DeiT-Tiny at
128 px: HTTP, queue, trainer, swap, HTTP. About five minutes on two idle cores.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.machine import keep
from hippotune.processes import hippotune

PX = 128
TRAIN, TEST = 20, 10
"""Images of a class to learn and to ask about."""


def main(
    data: Annotated[Path, typer.Option(help="Folder with CIFAR-100 and DeiT-Tiny.")] = Path("../shared/data"),
    out: Annotated[Path | None, typer.Option(help="File for the figures.")] = None,
) -> None:
    """Teach, ask, print, keep."""
    weights = data / "deit_tiny_patch16_224_timm.safetensors"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        unpack(data / "cifar100_train_webp.npz", root / "data" / "train", TRAIN)
        unpack(data / "cifar100_test_webp.npz", root / "data" / "test", TEST)
        command = hippotune("demo", "--exit", "--json", str(root / "demo.json"), "--data", str(root / "data"))
        command += ["--tasks", "10", "--store", str(root / "store"), "--px", str(PX)]
        command += ["--backbone", "deit_tiny_patch16_224", "--weights", str(weights)]
        command += ["--validation-share", "0"]  # twenty images a class are few enough
        subprocess.run(command, check=True)
        figures = json.loads((root / "demo.json").read_text())
    setting = {
        "backbone": f"deit_tiny_patch16_224 at {PX} px",
        "train_per_class": TRAIN,
        "test_per_class": TEST,
    }
    keep({"command": "python -m benchmarks.cifar100", **setting, **figures}, out)


def unpack(archive: Path, folder: Path, per_class: int) -> None:
    """The first `per_class` images of each class as they are encoded, in an ImageFolder tree."""
    with np.load(archive) as data:
        blob, offsets, labels, classes = (data[key] for key in ("blob", "offsets", "label", "classes"))
    for index, name in enumerate(classes):
        (folder / str(name)).mkdir(parents=True)
        for image in np.flatnonzero(labels == index)[:per_class]:
            encoded = blob[offsets[image] : offsets[image + 1]].tobytes()
            (folder / str(name) / f"{image}.webp").write_bytes(encoded)


if __name__ == "__main__":
    typer.run(main)
