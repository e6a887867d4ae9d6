"""`export onnx`: take a version away, to answer without any of this."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from exchange.manifests import SERVING
from hippotune import configs, logs
from hippotune.flags import Json, with_settings
from hippotune.output import print_json
from hippotune.setting_types import Part
from hippotune.settings import Settings

if TYPE_CHECKING:
    from exchange.registry import Registry
    from model.backbone import Backbone
    from model.checkpoint import Checkpoint

TOLERANCE = 0.01
"""Most that a score of the file may differ from the same by torch."""


@with_settings(Part.COMMON)
def onnx(
    settings: Settings,
    output: Annotated[
        Path | None, typer.Argument(dir_okay=False, help="File to write; else hippotune-VERSION.onnx.")
    ] = None,
    version: Annotated[
        int | None, typer.Option(min=1, help="Number of the version; else the one that is served.")
    ] = None,
    topk: Annotated[
        int | None, typer.Option(min=1, help="Slots recalled a step; else the version's own.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write one version from the store as one file that plain onnxruntime runs."""
    logs.configure("warning")
    registry = _registry(settings)
    number = version or _served(registry)
    registry.shelf.verify(number, SERVING)
    from service.runtimes.load import ADVICE, missing_packages

    if missing := missing_packages():
        raise ValueError(f"the export needs {', '.join(missing)}: {ADVICE}")
    path = output or Path(f"hippotune-{number}.onnx")
    with Console(stderr=True).status(f"exporting version {number}, which takes a minute or so"):
        facts = _export(settings, registry, number, path, topk)
    if as_json:
        print_json(facts)
    else:
        Console(highlight=False, soft_wrap=True).print(
            f"version {number}, {facts['labels']} labels: {path}, {path.stat().st_size / 1e6:.1f} MB; "
            f"its scores differ from torch's by {facts['difference']:.0e} at most"
        )


def _registry(settings: Settings) -> Registry:
    """The versions of a store, with its Redis if that is running."""
    from exchange.connection import connect
    from exchange.embedded import EmbeddedRedis
    from exchange.registry import Registry

    url = settings.redis_url or EmbeddedRedis(settings.store / "redis").url
    return Registry(connect(url), settings.store / "versions", configs.queue(settings).prefix)


def _served(registry: Registry) -> int:
    """The version pointed to; the newest whole one on disk while no Redis runs. Raises ValueError."""
    from exchange.errors import ExchangeUnavailable

    try:
        pointed = registry.current()
    except ExchangeUnavailable:
        pointed = None
    found = pointed or registry.newest_on_disk()
    if found is None:
        raise ValueError(f"no version in {registry.shelf.root}: nothing was learned there yet")
    return found


def _export(
    settings: Settings, registry: Registry, number: int, path: Path, topk: int | None
) -> dict[str, object]:
    """Write the file, which has its name once it was found to answer as torch does.

    Raises ValueError where it does not, OSError, ExchangeError.
    """
    from model.backbone import load_backbone
    from model.checkpoint import Checkpoint
    from model.standalone import export_version

    checkpoint = Checkpoint.load(registry.shelf.path(number, SERVING))
    backbone = load_backbone(configs.backbone(settings))
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent) as folder:
        written = Path(folder) / path.name
        kept = export_version(backbone, checkpoint, written, topk)
        difference = _difference(backbone, checkpoint, written, kept)
        written.replace(path)
    return {
        "file": path,
        "version": number,
        "labels": len(checkpoint.labels),
        "px": backbone.px,
        "tmax": checkpoint.loop.tmax,
        "topk": kept,
        "bytes": path.stat().st_size,
        "difference": difference,
    }


def _difference(backbone: Backbone, checkpoint: Checkpoint, file: Path, topk: int) -> float:
    """How far a score by the file is from the same by torch at most, on random images. Raises ValueError when too far.

    topk: slots each step mixes.
    """
    import numpy as np
    import torch
    from onnxruntime import InferenceSession

    from model.standalone import StandaloneGraph

    tmax = checkpoint.loop.tmax
    # Not as many as the graph was traced with: it must take any number.
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, backbone.px, backbone.px), dtype=np.uint8)
    budget = {"tmax": np.array(tmax), "epsilon": np.array(0, dtype=np.float32)}
    try:
        session = InferenceSession(file, providers=["CPUExecutionProvider"])
        (scores,) = session.run(["scores"], {"pixels": pixels, **budget})
    except Exception as error:  # onnxruntime's own have no base in common
        told = " ".join(str(error).split())
        raise ValueError(f"nothing written: onnxruntime cannot run the export: {told}") from error
    with torch.inference_mode():
        graph = StandaloneGraph(backbone, checkpoint, topk)
        wanted, *_ = graph(torch.from_numpy(pixels), torch.tensor(tmax), torch.tensor(0.0))
    difference = float(np.abs(scores - wanted.numpy()).max())
    if not difference <= TOLERANCE:  # NaN is not
        raise ValueError(f"nothing written: scores of the export differ from torch's by {difference:.0e}")
    return difference
