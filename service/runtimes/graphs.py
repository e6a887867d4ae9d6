"""The ONNX graphs of one backbone on disk: exported once, by a process of their own, found again by their hash."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from threading import Event

import numpy as np
import onnx
import structlog
import torch
from onnx import numpy_helper
from onnxruntime.quantization import quantize_dynamic

from exchange.errors import StoreUnavailable
from exchange.files import make_durable, make_folder, storing
from model.backbone import Backbone, BackboneIdentity, load_backbone
from model.deliberation import LoopConfig
from model.export import FORMAT, GraphKind, export_graph, graph_key
from model.spec import BackboneSpec

log = structlog.get_logger(__name__)

POLL_S = 0.2
PATIENCE_S = 3.0
"""How long an export may take to end when told to: a call into torch or onnxruntime is not interrupted."""
PARTIAL = "tmp"
"""What the name of a folder starts with that holds graphs which are not whole yet."""
LEFT_S = 3600.0
"""Nobody exports into a folder that nobody touched for so long."""
GRAPH = re.compile(r"((?P<format>\d+)-)?[0-9a-f]{64}(\.int8)?\.onnx")
"""The name of a graph; those of the first formats did not tell them."""
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
        return self._folder / f"{FORMAT}-{key}{'.int8' if self.int8 else ''}.onnx"

    def ready(self, loop: LoopConfig) -> bool:
        return not self._missing(loop)

    def _missing(self, loop: LoopConfig) -> list[tuple[GraphKind, Path]]:
        paths = [(kind, self.path(loop, kind)) for kind in GraphKind]
        return [(kind, path) for kind, path in paths if not path.exists()]

    def export(self, loop: LoopConfig) -> None:
        """Make what is missing. Takes minutes.

        Raises ExportFailed, ExportStopped once `stop` was called, and StoreUnavailable.

        In another process because exporting is Python work that would hold up every request of this one.
        """
        log.info("exporting graphs for onnx, once for a backbone and loop; this takes minutes")
        with storing(self._folder):
            make_folder(self._folder)
            folder = tempfile.TemporaryDirectory(prefix=PARTIAL, dir=self._folder)
        with folder:  # of this process, so that it goes however the other one ends
            partial = Path(folder.name)
            told, telling = multiprocessing.Pipe(duplex=False)
            child = multiprocessing.get_context("spawn").Process(
                target=export_or_tell,
                args=(
                    telling,
                    Export(self._spec, loop, self._missing(loop), partial, self.int8, self._niceness),
                ),
                name="export",
                daemon=True,
            )
            with told, telling:
                child.start()
                self._wait(child, partial)
                if told.poll():
                    raise StoreUnavailable(told.recv())
        if child.exitcode != 0:
            raise ExportFailed(f"the exporting process ended with {child.exitcode}")

    def _wait(self, child: SpawnProcess, partial: Path) -> None:
        """Until a process has ended. Raises ExportStopped where it was told to."""
        while child.is_alive() and not self._stop.is_set():
            child.join(POLL_S)
            with suppress(OSError):
                os.utime(partial)  # see `tidy`
        if child.is_alive():
            child.terminate()
            child.join(PATIENCE_S)
            child.kill()
            child.join()
            raise ExportStopped("the server stopped before the graphs were exported")

    def tidy(self) -> None:
        """Remove what no server will open: graphs of older formats, and what was exported by a server that was killed.

        One that lives touches its folder all the time, however slow the export is.
        """
        limit = time.time() - LEFT_S
        for path in self._folder.glob("*"):
            graph = GRAPH.fullmatch(path.name)
            with suppress(OSError):  # another server was faster, or nothing can be removed here
                if graph and int(graph["format"] or 0) < FORMAT:
                    path.unlink()
                elif path.name.startswith(PARTIAL) and path.stat().st_mtime < limit:
                    shutil.rmtree(path)

    def stop(self) -> None:
        self._stop.set()


@dataclass(frozen=True, slots=True)
class Export:
    """What the exporting process is to do. partial: a folder on the same disk for what is not whole yet."""

    spec: BackboneSpec
    loop: LoopConfig
    missing: list[tuple[GraphKind, Path]]
    partial: Path
    int8: bool = False
    niceness: int = 0


def export_or_tell(telling: Connection, export: Export) -> None:
    """What the exporting process does: what the store refuses is told to the server, which has more to say of it than a
    traceback."""
    try:
        export_missing(export)
    except StoreUnavailable as error:
        telling.send(str(error))


def export_missing(export: Export) -> None:
    """Export graphs, in a process that does nothing else. Raises StoreUnavailable."""
    for sign in (signal.SIGINT, signal.SIGHUP):  # what a terminal sends is for the server, which ends us
        signal.signal(sign, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ENDED))  # as an exception, so that temporary files go
    os.nice(export.niceness)
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # it warns of every constant that it leaves alone
    torch.set_num_threads(1)
    backbone, write = load_backbone(export.spec), export_in_int8 if export.int8 else export_graph
    for kind, path in export.missing:
        written = export.partial / path.name
        with storing(path.parent):
            write(backbone, export.loop, kind, written)
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
