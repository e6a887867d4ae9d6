"""How fast the bundled backbone is beside DeiT-Tiny at 224 px: `python -m benchmarks.backbone_speed`.

Both take turns in one process. Run it on an idle machine: many short operations suffer more than few long ones when
threads wait for each other.
"""

import statistics
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.fetch import DATA, DEIT, WEIGHTS
from benchmarks.machine import Machine, keep
from model.backbone import Backbone, load_backbone
from model.spec import BackboneSpec


@torch.inference_mode()
def milliseconds(backbones: dict[str, Backbone], batch: int, rounds: int) -> dict[str, float]:
    """Median time an image of each backbone, measured in turns so that a busy moment hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in backbones}
    for turn in range(rounds + 1):
        for name, backbone in backbones.items():
            images = torch.randint(0, 256, (batch, 3, backbone.px, backbone.px), dtype=torch.uint8)
            started = time.perf_counter()
            backbone.pool(backbone.vit.blocks(backbone.embed(images)))
            if turn > 0:  # the first warms caches up
                times[name].append((time.perf_counter() - started) / batch * 1000)
    return {name: statistics.median(values) for name, values in times.items()}


def main(
    data: Annotated[Path, typer.Option(help="Folder with DeiT-Tiny.")] = DATA,
    out: Annotated[Path | None, typer.Option(help="Where to write the figures.")] = None,
    batch: Annotated[int, typer.Option(help="Images a pass.")] = 32,
    rounds: Annotated[int, typer.Option(help="Passes of each.")] = 15,
    quick: Annotated[bool, typer.Option(help="One round of two images: that it runs.")] = False,
) -> None:
    """Time the bundled backbone against DeiT-Tiny at 224 px."""
    if quick:
        batch, rounds = 2, 1
    before = Machine.here().load
    backbones = {
        "bundled": load_backbone(BackboneSpec()),
        "deit_tiny_224": load_backbone(BackboneSpec(DEIT, data / WEIGHTS, px=224)),
    }
    times = milliseconds(backbones, batch, rounds)
    figures = {
        "load_before": before,
        "threads": torch.get_num_threads(),
        "batch": batch,
        "rounds": rounds,
        "ms_per_image": times,
        "ratio": times["deit_tiny_224"] / times["bundled"],
    }
    keep(figures, out)


if __name__ == "__main__":
    typer.run(main)
