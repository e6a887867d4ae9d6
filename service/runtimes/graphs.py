"""The ONNX graphs of one backbone on disk: exported once, by a process of their own, found again by their hash."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from threading import Event

import torch

from model.backbone import BackboneIdentity, BackboneSpec, load_backbone
from model.deliberation import LoopConfig
from model.export import GraphKind, export_graph, graph_key

POLL_S = 0.2
LEAST_URGENT = 19


class ExportFailed(Exception):
    """No graph came out; the message says why."""


class Graphs:
    """Paths of graphs, and how to make them. `stop` ends an export that still runs."""

    def __init__(self, spec: BackboneSpec, identity: BackboneIdentity, folder: Path) -> None:
        self._spec = spec
        self._identity = identity
        self._folder = folder
        self._stop = Event()

    def path(self, loop: LoopConfig, kind: GraphKind) -> Path:
        """Where a graph is, or will be."""
        return self._folder / f"{graph_key(self._identity, loop, kind)}.onnx"

    def ready(self, loop: LoopConfig) -> bool:
        return not self._missing(loop)

    def _missing(self, loop: LoopConfig) -> list[tuple[GraphKind, Path]]:
        paths = [(kind, self.path(loop, kind)) for kind in GraphKind]
        return [(kind, path) for kind, path in paths if not path.exists()]

    def export(self, loop: LoopConfig) -> None:
        """Make what is missing. Takes minutes; the cores go to whoever else wants them. Raises ExportFailed.

        In another process because exporting is Python work that would hold up every request of this one.
        """
        child = multiprocessing.get_context("spawn").Process(
            target=export_missing, args=(self._spec, loop, self._missing(loop)), name="export", daemon=True
        )
        child.start()
        while child.is_alive() and not self._stop.is_set():
            child.join(POLL_S)
        if child.is_alive():
            child.terminate()
            child.join()
            raise ExportFailed("the server stopped before the graphs were exported")
        if child.exitcode != 0:
            raise ExportFailed(f"the exporting process ended with {child.exitcode}")

    def stop(self) -> None:
        self._stop.set()


def export_missing(spec: BackboneSpec, loop: LoopConfig, missing: list[tuple[GraphKind, Path]]) -> None:
    """What the exporting process does."""
    os.nice(LEAST_URGENT)
    torch.set_num_threads(1)
    backbone = load_backbone(spec)
    for kind, path in missing:
        export_graph(backbone, loop, kind, path)
