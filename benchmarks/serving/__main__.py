"""`python -m benchmarks.serving --out benchmarks/results/serving.json`: how fast answers come.

Throughput at saturation and beside other servers, latency of one caller, what mixed budgets and swapped versions cost,
and what more and more tasks do. Each part is kept as soon as it is measured, and a part that the file has already is
not measured again: a run that was cut goes on where it was.

Caller, server and bare runtime are three processes on one machine; what the caller costs is taken from the server's
cores, and counted. Other servers are measured where `--peers` names a virtual environment for them: see `--help`.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import structlog
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.loop import usual_backbone
from benchmarks.machine import document
from benchmarks.serving import bench, changing
from benchmarks.serving.asked import rows
from benchmarks.serving.beside import beside
from benchmarks.serving.peers.install import install
from benchmarks.serving.scene import Scene
from benchmarks.serving.subjects import Effort, Figures, Ours, Versions, capacity, ours
from exchange.embedded import EmbeddedRedis
from model.deliberation import LoopConfig
from model.spec import BackboneSpec
from service.cpus import available_cpus
from service.runtimes.graphs import Graphs

log = structlog.get_logger()

QUICK = Effort(1.5, rounds=2, swaps=40, tasks=(1, 100, 1000), shares=(0.5,))
FULL = Effort(4.0, rounds=4, swaps=1000, tasks=(1, 10, 100, 1000))


@dataclass(frozen=True)
class Run:
    """What every part is given. peers: the Python of the other servers."""

    scene: Scene
    versions: Versions
    effort: Effort
    peers: Path | None

    @contextmanager
    def product(self) -> Iterator[Ours]:
        """Our server as it is, with a version of the scene's size."""
        self.versions.publish(self.versions.checkpoint(self.scene.slots, self.scene.classes))
        with ours(self.scene, "product") as server:
            yield server

    def swaps(self) -> Figures:
        able = capacity(self.scene, self.effort.seconds)
        with self.product() as server:
            return changing.swaps(server.port, server.pid, self.versions, able, self.effort)

    def on_product(self, measure: Callable[[Ours], Figures]) -> Figures:
        with self.product() as server:
            return measure(server)

    def beside(self, model: str) -> Figures:
        if self.peers is None:
            return {}
        self.versions.publish(self.versions.checkpoint(self.scene.slots, self.scene.classes))
        return beside(self.scene, model, self.peers, self.effort)


PARTS: Mapping[str, Callable[[Run], Figures]] = {
    "start": lambda run: changing.starting(run.scene, run.effort),
    "alone": lambda run: run.on_product(lambda server: bench.alone(server.port, run.effort)),
    "throughput": lambda run: bench.throughput(run.scene, run.versions.px, run.effort),
    "concurrency": lambda run: run.on_product(lambda server: bench.concurrency(server.port, run.effort)),
    "budgets": lambda run: run.on_product(
        lambda server: bench.mixed_budgets(server.port, run.scene, run.effort)
    ),
    "swaps": Run.swaps,
    "scale": lambda run: run.on_product(lambda server: changing.scale(server.port, run.versions, run.effort)),
    "same": lambda run: run.beside("looped"),
    "nothing": lambda run: run.beside("nothing"),
    "default": lambda run: run.beside("torch"),
}
PEERS = ("same", "nothing", "default")
LONGER = ("concurrency", "default")
"""Parts that a quick run leaves out unless they are named."""


def main(
    out: Annotated[Path | None, typer.Option(help="Where the figures are kept, part by part.")] = None,
    quick: Annotated[bool, typer.Option(help="Short measurements: within five minutes.")] = False,
    parts: Annotated[str | None, typer.Option(help=f"Which of {', '.join(PARTS)}.")] = None,
    anew: Annotated[bool, typer.Option(help="Measure the parts again that the file has.")] = False,
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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # servers end as on any other error
    usual = [part for part in PARTS if not (quick and part in LONGER)]
    wanted = usual if parts is None else parts.split(",")
    if unknown := set(wanted) - set(PARTS):
        raise typer.BadParameter(f"parts is {', '.join(unknown)}; it must be among {', '.join(PARTS)}")
    if peers is None:
        wanted = [part for part in wanted if part not in PEERS]
    spec = usual_backbone() if backbone is None else BackboneSpec(backbone, weights)
    python = install(peers) if peers is not None else None
    with scenery(spec, threads or available_cpus(), max_batch, slots, graphs) as scene:
        effort = QUICK if quick else FULL
        figures = {"command": f"python -m benchmarks.serving{' --quick' if quick else ''}"}
        figures |= described(scene, effort)
        before = {} if out is None else kept(out, figures)
        known = {part: found for part, found in before.items() if not (anew and part in wanted)}
        todo = [part for part in wanted if part not in known]
        found = document({**figures, **known})
        if todo:
            found = measure(Run(scene, export(scene, spec), effort, python), todo, {**figures, **known}, out)
    show(found)


def measure(run: Run, todo: list[str], figures: Figures, out: Path | None) -> Figures:
    """The parts to do, each kept as soon as it is known."""
    found = document(figures)
    for part in todo:
        began = perf_counter()
        figures[part] = PARTS[part](run)
        print(f"{part}, {perf_counter() - began:.0f} s: {figures[part]}", file=sys.stderr)
        found = document(
            {
                **{name: figures[name] for name in figures if name not in PARTS},
                **{name: figures[name] for name in PARTS if name in figures},
            }
        )
        if out is not None:
            out.write_text(json.dumps(found, indent=2) + "\n")
    return found


def described(scene: Scene, effort: Effort) -> dict[str, Any]:
    """What figures of several runs must agree in to stand in one file."""
    return {
        "backbone": scene.backbone if scene.px is None else f"{scene.backbone} at {scene.px} px",
        "threads": scene.threads,
        "max_batch": scene.max_batch,
        "slots": scene.slots,
        "effort": json.loads(json.dumps(asdict(effort))),
    }


def kept(path: Path, figures: dict[str, Any]) -> Figures:
    """The parts a file has. Raises BadParameter for one of another setting."""
    if not path.exists():
        return {}
    before = json.loads(path.read_text())
    if different := [name for name, value in figures.items() if before.get(name) != value]:
        raise typer.BadParameter(f"{path} has another {', '.join(different)}; give another file")
    return {name: before[name] for name in PARTS if name in before}


@contextmanager
def scenery(spec: BackboneSpec, threads: int, max_batch: int, slots: int, graphs: Path) -> Iterator[Scene]:
    """A Redis and a folder for versions, gone at the end; graphs are kept."""
    graphs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(Path(folder) / "redis") as redis:
        store = Path(folder) / "store"
        store.mkdir()
        (store / "cache").symlink_to(graphs.resolve(), target_is_directory=True)
        yield Scene(
            backbone=spec.name,
            weights=None if spec.weights is None else str(spec.weights.resolve()),
            px=spec.px,
            model="product",
            runtime="onnx",
            threads=threads,
            max_batch=max_batch,
            slots=slots,
            classes=100,
            graphs=str(graphs.resolve()),
            store=str(store),
            redis_url=redis.url,
        )


def export(scene: Scene, spec: BackboneSpec) -> Versions:
    """The graphs, once; a product would do so in the background. And a first version."""
    versions = Versions(scene)
    checkpoint = versions.checkpoint(scene.slots, scene.classes)
    graphs = Graphs(spec, checkpoint.identity, Path(scene.graphs))
    if not graphs.ready(LoopConfig()):
        log.info("exporting graphs; this is done once")
        graphs.export(LoopConfig())
    versions.publish(checkpoint)
    return versions


def show(found: Figures) -> None:
    """The figures, and beside each ratio what was asked for."""
    print(json.dumps(found, indent=2))
    table = Table("", "asked", "measured", "met")
    for row in rows(found):
        table.add_row(*row)
    Console(stderr=True).print(table)


if __name__ == "__main__":
    typer.run(main)
