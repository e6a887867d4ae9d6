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

import typer

from benchmarks.continual.data import load_archive
from benchmarks.fetch import DATA, DEIT, WEIGHTS
from benchmarks.machine import keep
from hippotune.supervision import hippotune

PX = 128
TRAIN, TEST = 20, 10
"""Images of a class to learn and to ask about."""


def main(
    data: Annotated[Path, typer.Option(help="Folder with CIFAR-100 and DeiT-Tiny.")] = DATA,
    out: Annotated[Path | None, typer.Option(help="File for the figures.")] = None,
) -> None:
    """Teach, ask, print, keep."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        unpack(data / "cifar100_train_webp.npz", root / "data" / "train", TRAIN)
        unpack(data / "cifar100_test_webp.npz", root / "data" / "test", TEST)
        command = hippotune("demo", "--exit", "--json", str(root / "demo.json"), "--data", str(root / "data"))
        command += ["--tasks", "10", "--store", str(root / "store"), "--px", str(PX)]
        command += ["--backbone", DEIT, "--weights", str(data / WEIGHTS)]
        command += ["--validation-share", "0"]  # twenty images a class are few enough
        subprocess.run(command, check=True)
        figures = json.loads((root / "demo.json").read_text())
    setting = {
        "backbone": f"{DEIT} at {PX} px",
        "train_per_class": TRAIN,
        "test_per_class": TEST,
    }
    keep({"command": "python -m benchmarks.cifar100", **setting, **figures}, out)


def unpack(archive: Path, folder: Path, per_class: int) -> None:
    """The first `per_class` images of each class as they are encoded, in an ImageFolder tree."""
    source = load_archive(archive)
    for index, name in enumerate(source.classes):
        (folder / name).mkdir(parents=True)
        for row in source.of_class(index)[:per_class]:
            (folder / name / f"{row}.webp").write_bytes(source.read(row))


if __name__ == "__main__":
    typer.run(main)
