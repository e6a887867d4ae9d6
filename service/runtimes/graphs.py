"""The ONNX graphs of one backbone on disk: exported once, by a process of their own, found again by their hash."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import tempfile
from pathlib import Path
from threading import Event

import numpy as np
import onnx
import structlog
import torch
from onnx import numpy_helper
from onnxruntime.quantization import quantize_dynamic

from exchange.files import make_durable, make_folder
from model.backbone import Backbone, BackboneIdentity, load_backbone
from model.deliberation import LoopConfig
from model.export import GraphKind, export_graph, graph_key
from model.spec import BackboneSpec

log = structlog.get_logger(__name__)

POLL_S = 0.2
PATIENCE_S = 3.0
"""How long an export may take to end when told to: a call into torch or onnxruntime is not interrupted."""
ENDED = 128 + signal.SIGTERM
LEAST_URGENT = 19
STEEP = 10.0
"""Weights larger than this would enlarge too much the rounding of what they are multiplied with. Those of a trained
block stay below 1; those of a block solved in closed form, like the bundled backbone's last, need not."""


class ExportFailed(Exception):
    """No graph came out; the message says why."""


class ExportStopped(ExportFailed):
    """Nobody waits for a graph any more."""


class Graphs:
    """Paths of graphs, and how to make them. `stop` ends an export that still runs.

    int8: whether tokens are multiplied by the backbone's weights in eight bits. Pools and head stay in float32.
    urgent: whether a server waits for them; else the cores go to whoever else wants them.
    """

    def __init__(
        self,
        spec: BackboneSpec,
        identity: BackboneIdentity,
        folder: Path,
        int8: bool = False,
        urgent: bool = False,
    ) -> None:
        self.int8 = int8
        self._niceness = 0 if urgent else LEAST_URGENT
        self._spec = spec
        self._identity = identity
        self._folder = folder
        self._stop = Event()

    def path(self, loop: LoopConfig, kind: GraphKind) -> Path:
        """Where a graph is, or will be."""
        key = graph_key(self._identity, loop, kind)
        return self._folder / f"{key}{'.int8' if self.int8 else ''}.onnx"

    def ready(self, loop: LoopConfig) -> bool:
        return not self._missing(loop)

    def _missing(self, loop: LoopConfig) -> list[tuple[GraphKind, Path]]:
        paths = [(kind, self.path(loop, kind)) for kind in GraphKind]
        return [(kind, path) for kind, path in paths if not path.exists()]

    def export(self, loop: LoopConfig) -> None:
        """Make what is missing. Takes minutes.

        Raises ExportFailed, and ExportStopped once `stop` was called.

        In another process because exporting is Python work that would hold up every request of this one.
        """
        log.info("exporting graphs for onnx, once for a backbone and loop; this takes minutes")
        child = multiprocessing.get_context("spawn").Process(
            target=export_missing,
            args=(self._spec, loop, self._missing(loop), self.int8, self._niceness),
            name="export",
            daemon=True,
        )
        child.start()
        while child.is_alive() and not self._stop.is_set():
            child.join(POLL_S)
        if child.is_alive():
            child.terminate()
            child.join(PATIENCE_S)
            child.kill()
            child.join()
            raise ExportStopped("the server stopped before the graphs were exported")
        if child.exitcode != 0:
            raise ExportFailed(f"the exporting process ended with {child.exitcode}")

    def stop(self) -> None:
        self._stop.set()


def export_missing(
    spec: BackboneSpec, loop: LoopConfig, missing: list[tuple[GraphKind, Path]], int8: bool, niceness: int
) -> None:
    """What the exporting process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the server, which ends us
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ENDED))  # as an exception, so that temporary files go
    os.nice(niceness)
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # it warns of every constant that it leaves alone
    torch.set_num_threads(1)
    backbone = load_backbone(spec)
    for kind, path in missing:
        make_folder(path.parent)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            written = Path(folder) / path.name
            (export_in_int8 if int8 else export_graph)(backbone, loop, kind, written)
            give_name(written, path)


def give_name(written: Path, path: Path) -> None:
    """Rename a file once it is durable: by its name alone a server takes it for whole."""
    make_durable(written)
    written.replace(path)
    make_durable(path.parent)


def export_in_int8(backbone: Backbone, loop: LoopConfig, kind: GraphKind, path: Path) -> None:
    """`export_graph`, then weights are rounded, with one scale a channel. What they are multiplied with is rounded in
    each pass, by its own range."""
    whole = path.with_name(f"float32.{path.name}")
    export_graph(backbone, loop, kind, whole)
    # Not the convolution: it is a hundredth of the work, and pixels take rounding badly.
    quantize_dynamic(
        whole,
        path,
        op_types_to_quantize=["MatMul", "Attention"],
        per_channel=True,
        nodes_to_exclude=steep_nodes(onnx.load(str(whole))),
    )
    whole.unlink()


def steep_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes with a weight beyond `STEEP`."""
    steep = {
        tensor.name
        for tensor in model.graph.initializer
        if np.abs(numpy_helper.to_array(tensor)).max(initial=0) > STEEP
    }
    return [node.name for node in model.graph.node if steep.intersection(node.input)]
