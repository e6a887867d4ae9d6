"""`python -m benchmarks.serving --out benchmarks/results/serving.json`: how fast answers come, in one run.

Throughput at saturation and beside other servers, latency of one caller, what mixed budgets and swapped versions cost,
and what more and more tasks do.

Caller, server and bare runtime are three processes on one machine; what the caller costs is taken from the server's
cores, and counted. Other servers are measured where `--peers` names a Python that has them: see `--help`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer

from benchmarks.loop import DEIT
from benchmarks.machine import keep
from benchmarks.serving import bench
from benchmarks.serving.peers.install import install
from benchmarks.serving.scene import Scene, child
from exchange.embedded import EmbeddedRedis
from model.backbone import BackboneSpec
from model.deliberation import LoopConfig
from service.cpus import available_cpus
from service.runtimes.graphs import Graphs

log = structlog.get_logger()

QUICK = bench.Effort(
    2.0, rounds=2, swaps=40, tasks=(1, 10, 100, 1000), shares=(0.5,), models=("looped", "nothing")
)
FULL = bench.Effort(seconds=8.0, rounds=5, swaps=1000, tasks=(1, 10, 100, 1000))
PARTS = ("throughput", "alone", "budgets", "swaps", "scale", "peers")
PEERS = ("litserve", "bentoml", "ray")


def main(
    out: Annotated[Path | None, typer.Option(help="Where to write the figures.")] = None,
    quick: Annotated[bool, typer.Option(help="Short measurements: within five minutes.")] = False,
    parts: Annotated[str, typer.Option(help="Which figures, by comma.")] = ",".join(PARTS),
    backbone: Annotated[str | None, typer.Option(help="A timm name or `bundled`.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Its safetensors file.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads; else what the machine grants.")] = None,
    max_batch: Annotated[int, typer.Option(help="Most images in a forward pass.")] = 16,
    slots: Annotated[int, typer.Option(help="Slots in each layer.")] = 100,
    graphs: Annotated[Path, typer.Option(help="Where exported graphs are kept.")] = Path(".cache/graphs"),
    peers: Annotated[
        Path | None, typer.Option(help="Virtual environment of the other servers; made where it is missing.")
    ] = None,
) -> None:
    """Measure serving."""
    wanted, effort = parts.split(","), QUICK if quick else FULL
    if unknown := set(wanted) - set(PARTS):
        raise typer.BadParameter(f"parts is {', '.join(unknown)}; it must be among {', '.join(PARTS)}")
    default = DEIT if DEIT.weights is not None and DEIT.weights.exists() else BackboneSpec()
    spec = default if backbone is None else BackboneSpec(backbone, weights)
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(Path(folder) / "redis") as redis:
        store = Path(folder) / "store"
        store.mkdir()
        (store / "cache").symlink_to(graphs.resolve(), target_is_directory=True)
        scene = Scene(
            backbone=spec.name,
            weights=None if spec.weights is None else str(spec.weights.resolve()),
            px=spec.px,
            model="product",
            runtime="onnx",
            threads=threads or available_cpus(),
            max_batch=max_batch,
            slots=slots,
            classes=100,
            graphs=str(graphs.resolve()),
            store=str(store),
            redis_url=redis.url,
        )
        figures = measure(scene, spec, wanted, effort, peers)
    keep({"command": f"python -m benchmarks.serving{' --quick' if quick else ''}", **figures}, out)


def measure(
    scene: Scene, spec: BackboneSpec, wanted: list[str], effort: bench.Effort, peers: Path | None
) -> dict[str, Any]:
    """All parts wanted."""
    versions = bench.Versions(scene)
    export(scene, spec, versions)
    first = versions.publish(versions.checkpoint(scene.slots, scene.classes))
    figures: dict[str, Any] = {
        "backbone": f"{scene.backbone} at {versions.px} px",
        "threads": scene.threads,
        "max_batch": scene.max_batch,
        "slots": scene.slots,
        "seconds_each": effort.seconds,
        "rounds": effort.rounds,
    }
    if "throughput" in wanted:
        figures["throughput"] = report("throughput", bench.throughput(scene, versions.px, effort))
    with child(replace(scene, model="looped"), bench.BARE) as process:
        capacity = bench.bare(process, scene.max_batch, effort.seconds)
    if {"alone", "budgets", "swaps", "scale"} & set(wanted):
        with bench.ours(scene, "product") as server:
            port = server.port
            figures["start_to_ready_s"] = server.ready_s
            if "alone" in wanted:
                figures["alone"] = report("alone", bench.alone(port, effort))
            if "budgets" in wanted:
                figures["mixed_budgets"] = report("mixed_budgets", bench.mixed_budgets(port, scene, effort))
            if "swaps" in wanted:
                found = bench.swaps(port, server.pid, versions, 0.3 * capacity, effort)
                figures["swaps"] = report("swaps", found)
            if "scale" in wanted:
                figures["scale"] = report("scale", bench.scale(port, versions, effort))
            versions.registry.activate(first.version)
    if "peers" in wanted and peers is not None:
        figures["peers"] = beside(scene, install(peers), capacity, effort)
    return figures


def export(scene: Scene, spec: BackboneSpec, versions: bench.Versions) -> None:
    """The graphs, once; a product would do so in the background."""
    graphs = Graphs(spec, versions.checkpoint(1, 1).identity, Path(scene.graphs))
    if not graphs.ready(LoopConfig()):
        log.info("exporting graphs; this is done once")
        graphs.export(LoopConfig())


def beside(scene: Scene, python: Path, capacity: float, effort: bench.Effort) -> dict[str, Any]:
    """Other servers and ours: the same model, one that costs nothing, and what their documentation shows."""
    found: dict[str, Any] = {}
    rates = {"looped": capacity, "nothing": 4 * capacity, "torch": capacity / 2}
    for model in effort.models:
        rate = rates[model]
        one: dict[str, Any] = {}
        with bench.ours(scene, "looped" if model == "torch" else model) as server:
            ours = {"port": server.port, "path": "/classify", "field": None}
            one["hippotune"] = bench.loads(ours, rate, effort)
        for name in PEERS:
            try:
                with child(
                    replace(scene, model=model), f"benchmarks.serving.peers.{name}_app", python
                ) as peer:
                    bench.wait_answering(peer.told)
                    one[name] = bench.loads(peer.told, rate, effort)
            except (RuntimeError, TimeoutError, subprocess.SubprocessError) as error:
                one[name] = {"failed": str(error)}
        answered = [one[name]["saturated"]["per_second"] for name in PEERS if "saturated" in one[name]]
        if answered:
            one["hippotune_over_best"] = one["hippotune"]["saturated"]["per_second"] / max(answered)
        found[model] = report(f"beside others: {model}", one)
    return found


def report(name: str, figures: dict[str, Any]) -> dict[str, Any]:
    """Progress, to stderr."""
    print(f"{name}: {figures}", file=sys.stderr)
    return figures


if __name__ == "__main__":
    typer.run(main)
