"""What the loop costs over the plain transformer: `python -m benchmarks.loop --out benchmarks/results/loop.json`.

Time: the same runtime, images and head, with pools of 100 slots at full depth and without any, in turns within one
run, so that a busy moment hits both alike; reported is the median of the ratios of neighbours. With onnxruntime the
plain one is measured twice: with attention in one node, as our graphs have it, and as torch exports it. Work:
multiply-adds counted on ViT-B/16, whose time `--backbone vit_base_patch16_224 --untrained` measures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import timm
import torch
import typer
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.export import Dim
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.fetch import DATA, DEIT, WEIGHTS
from benchmarks.machine import keep
from model.backbone import Backbone
from model.budget import Budget, BudgetBatch
from model.checkpoint import Checkpoint
from model.deliberation import LoopConfig
from model.export import GraphKind, graph_key, trace_onnx, version_inputs, write_program
from model.head import Head
from model.network import RetrievalViT
from model.onnx_blocks import OnnxViT
from model.pools import Pools
from model.sample import sample_pools, sample_version
from model.spec import BackboneSpec
from service.cpus import available_cpus
from service.runtimes.auto import measure
from service.runtimes.base import Classifier, Output
from service.runtimes.graphs import Graphs
from service.runtimes.onnx import OnnxRuntime, Pass, open_session, value
from service.runtimes.torch import TorchRuntime

DEIT_TINY = BackboneSpec(DEIT, DATA / WEIGHTS, 224)
"""Measured where it is there; else the bundled backbone."""
BATCHES = (1, 8)


@dataclass(frozen=True)
class Cost:
    """Milliseconds a batch, medians; and the median over rounds of looped / plain."""

    plain_ms: float
    looped_ms: float
    ratio: float
    rounds: int


class PlainOnnx:
    """The transformer and the head alone, as a graph of their own: what the loop is compared with.

    as_exported: attention written out as torch exports it, not in the one node that our graphs have.
    """

    name = "onnx cpu float32, without a loop"

    def __init__(
        self,
        backbone: Backbone,
        version: Checkpoint,
        folder: Path,
        threads: int,
        as_exported: bool = False,
    ) -> None:
        key = graph_key(backbone.identity, version.loop, GraphKind.EVEN)
        path = folder / f"plain-{'as-exported-' if as_exported else ''}{key}.onnx"
        network = RetrievalViT if as_exported else OnnxViT
        heads = {name: t for name, t in version_inputs(version).items() if name in ("weight", "bias")}
        if not path.exists():
            pixels = torch.zeros(3, 3, backbone.px, backbone.px, dtype=torch.uint8)
            shapes: list[dict[int, object]] = [{0: Dim("batch")}, {}, {}]
            program = trace_onnx(
                PlainGraph(network(backbone, version.loop)),
                (pixels, *heads.values()),
                shapes,
                ("pixels", *heads),
                ("scores",),
            )
            write_program(program, path)
        head = {name: value(tensor.numpy()) for name, tensor in heads.items()}
        self._pass = Pass(open_session(str(path), threads), head)

    def classify(self, pixels: NDArray[np.uint8], budgets: Sequence[Budget], explain: bool) -> Output:  # noqa: ARG002
        (scores,) = self._pass.run({"pixels": pixels})
        nothing, unknown = (
            np.zeros((len(pixels), 0), dtype=np.float32),
            np.full(len(pixels), np.float32(np.nan)),
        )
        return Output(scores, unknown, nothing.astype(np.int64), nothing, ())


class PlainGraph(nn.Module):
    """Pixels to scores without a loop."""

    def __init__(self, network: RetrievalViT) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        features = self.network(pixels, [], BudgetBatch.repeat(self.network.loop.budget, 1))
        return Head(weight, bias).logits(features.vectors).softmax(dim=-1)


def compare(
    plain: Classifier, looped: Classifier, px: int, batch: int, budget: Budget, seconds: float
) -> Cost:
    """Both in turns, each first in every other round."""
    pixels = np.random.default_rng(0).integers(0, 255, (batch, 3, px, px), dtype=np.uint8)
    budgets = [budget] * batch
    times: dict[str, list[float]] = {"plain": [], "looped": []}
    calls: list[tuple[str, Callable[[], Any]]] = [
        ("plain", lambda: plain.classify(pixels, budgets, False)),
        ("looped", lambda: looped.classify(pixels, budgets, False)),
    ]
    for _, call in calls:
        call()
    ends = perf_counter() + seconds
    while len(times["plain"]) < 20 or perf_counter() < ends:
        for name, call in calls:
            began = perf_counter()
            call()
            times[name].append(1000 * (perf_counter() - began))
        calls.reverse()
    ratios = [looped / plain for plain, looped in zip(times["plain"], times["looped"], strict=True)]
    return Cost(median(times["plain"]), median(times["looped"]), median(ratios), len(ratios))


def without_slots(version: Checkpoint, dim: int) -> Checkpoint:
    """The same version with empty pools: the plain transformer."""
    return Checkpoint(
        version.identity, version.loop, Pools.empty(version.loop, dim), version.head, version.labels
    )


def multiply_adds(loop: LoopConfig, slots: int) -> dict[str, float]:
    """Giga multiply-adds of ViT-B/16 on one image, plain and with the loop."""
    vit = timm.create_model("vit_base_patch16_224", pretrained=False, num_classes=0)
    backbone = Backbone("vit_base_patch16_224", vit, 224, (0.5,) * 3, (0.5,) * 3)
    network, pixels = RetrievalViT(backbone, loop), torch.zeros(1, 3, 224, 224, dtype=torch.uint8)
    pools = sample_pools(loop, backbone.dim, slots, torch.Generator())
    counted = {}
    for name, memories in (("plain", []), ("looped", pools.memories(loop))):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(pixels, memories, BudgetBatch.repeat(loop.budget, 1))
        counted[f"{name}_g"] = counter.get_total_flops() / 2e9
    return {**counted, "ratio": counted["looped_g"] / counted["plain_g"]}


def untrained(name: str, folder: Path) -> BackboneSpec:
    """A timm backbone with the weights it is born with: no time depends on them, and none need fetching."""
    torch.manual_seed(0)
    path = folder / f"{name}.safetensors"
    save_file(timm.create_model(name, pretrained=False, num_classes=0).state_dict(), path)
    return BackboneSpec(name, path)


def usual_backbone() -> BackboneSpec:
    """What is measured where none is named."""
    return DEIT_TINY if (DATA / WEIGHTS).exists() else BackboneSpec()


def figures_of(spec: BackboneSpec, graphs: Path, slots: int, cores: int, seconds: float) -> dict[str, Any]:
    """What the loop costs on one backbone: times in torch and onnxruntime, and which of them `auto` takes."""
    on_torch = TorchRuntime.load(spec, "cpu", cores)
    on_onnx = OnnxRuntime(on_torch, Graphs(spec, on_torch.identity, graphs), cores)
    version = sample_version(on_torch.backbone, LoopConfig(), slots)
    torch_looped, onnx_looped = on_torch.prepare(version), on_onnx.prepare(version)
    pairs: dict[str, tuple[Classifier, Classifier]] = {
        "torch": (on_torch.prepare(without_slots(version, on_torch.backbone.dim)), torch_looped),
        "onnx": (PlainOnnx(on_torch.backbone, version, graphs, cores), onnx_looped),
        "onnx_over_plain_as_exported": (
            PlainOnnx(on_torch.backbone, version, graphs, cores, as_exported=True),
            onnx_looped,
        ),
    }
    choice = measure(torch_looped, onnx_looped, version)
    px, budget = on_torch.identity.px, version.loop.budget
    return {
        "backbone": asdict(on_torch.identity),
        "threads": cores,
        "slots": slots,
        "budget": asdict(budget),
        "auto_takes": "onnx" if choice.onnx else "torch",
        "onnx_over_torch": dict(zip((f"batch_{batch}" for batch in BATCHES), choice.speedups, strict=True)),
        "time": {
            name: {f"batch_{batch}": asdict(compare(*pair, px, batch, budget, seconds)) for batch in BATCHES}
            for name, pair in pairs.items()
        },
    }


def main(
    out: Annotated[Path | None, typer.Option(help="Where to write the figures.")] = None,
    backbone: Annotated[str | None, typer.Option(help="A timm name or `bundled`.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Its safetensors file.")] = None,
    random: Annotated[
        bool, typer.Option("--untrained", help="Random weights instead of trained ones.")
    ] = False,
    slots: Annotated[int, typer.Option(help="Slots in each layer.")] = 100,
    threads: Annotated[int | None, typer.Option(help="CPU threads; else what the machine grants.")] = None,
    seconds: Annotated[float, typer.Option(help="Least time for each comparison.")] = 30.0,
    graphs: Annotated[Path, typer.Option(help="Where exported graphs are kept.")] = Path(".cache/graphs"),
) -> None:
    """Measure the loop."""
    default = usual_backbone()
    cores = threads or available_cpus()
    with TemporaryDirectory() as folder:
        if backbone is None:
            spec = default
        else:
            spec = untrained(backbone, Path(folder)) if random else BackboneSpec(backbone, weights)
        figures = figures_of(spec, graphs, slots, cores, seconds)
    keep({**figures, "multiply_adds_vit_b16": multiply_adds(LoopConfig(), slots)}, out)


if __name__ == "__main__":
    typer.run(main)
