"""Graphs on disk: what of them is computed in eight bits, and how the process that exports them ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the onnx runtime comes with the extras cpu and gpu")
pytest.importorskip("onnxruntime", reason="the onnx runtime comes with the extras cpu and gpu")
pytest.importorskip("onnxscript", reason="the onnx runtime comes with the extras cpu and gpu")

import onnx

from exchange.errors import StoreUnavailable
from model.deliberation import LoopConfig
from model.export import FORMAT, GraphKind
from model.spec import BackboneSpec
from service.config import ServiceConfig
from service.runtimes import graphs, load
from service.runtimes.graphs import Export, ExportFailed, Graphs, steep_nodes
from service.runtimes.torch import TorchRuntime
from tests.service.support import wait_for


def test_a_product_that_would_enlarge_what_rounding_does_stays_in_float32() -> None:
    flat, steep = (
        onnx.numpy_helper.from_array(np.array([[largest]], np.float32), name)
        for name, largest in (("flat", 0.5), ("steep", -100))
    )
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "flat"], ["y"], "first"),
        onnx.helper.make_node("MatMul", ["y", "steep"], ["z"], "second"),
    ]
    graph = onnx.helper.make_graph(nodes, "two", [], [], [flat, steep])
    assert steep_nodes(onnx.helper.make_model(graph)) == ["second"]


def test_the_exporting_process_leaves_to_the_server_what_a_terminal_sends() -> None:
    """Both get it; the traceback of this one hid what the server said on its way out."""
    code = (
        "import os, signal; from pathlib import Path\n"
        "from model.spec import BackboneSpec; from model.deliberation import LoopConfig\n"
        "from service.runtimes.graphs import Export, export_missing\n"
        "export_missing(Export(BackboneSpec(), LoopConfig(), [], Path()))\n"
        "for sign in (signal.SIGINT, signal.SIGHUP): os.kill(os.getpid(), sign)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")


def test_a_graph_gets_its_name_once_it_would_survive_a_power_cut(
    tmp_path: Path, backbone: BackboneSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, partial = tmp_path / "graph.onnx", tmp_path / "partial"
    partial.mkdir()
    durable: list[tuple[str, bool]] = []
    monkeypatch.setattr(graphs, "make_durable", lambda one: durable.append((one.name, path.exists())))
    monkeypatch.setattr(graphs, "export_graph", lambda *told: told[-1].write_bytes(b"a graph"))
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # this process has no server to leave them to
    graphs.export_missing(Export(backbone, LoopConfig(), [(GraphKind.EVEN, path)], partial))
    assert durable == [("graph.onnx", False), (tmp_path.name, True)]
    assert (path.read_bytes(), *partial.iterdir()) == (b"a graph",)


def test_what_the_store_refuses_an_export_is_told_to_the_server(
    tmp_path: Path, backbone: BackboneSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "export_graph", lambda *told: told[-1].write_bytes(b"a graph"))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    missing = [(GraphKind.EVEN, tmp_path / "cache" / "graph.onnx")]
    told, telling = multiprocessing.Pipe(duplex=False)
    with told, telling:
        graphs.export_or_tell(telling, Export(backbone, LoopConfig(), missing, tmp_path / "no folder"))
        assert told.recv() == "cannot write to cache in the store: No such file or directory"


FULL = "cannot write to cache in the store: No space left on device"


def find_it_full(telling: Connection, *_: object) -> None:
    """What an exporting process tells that has no room."""
    telling.send(FULL)


def test_the_server_knows_why_an_export_failed(
    tmp_path: Path, backbone: BackboneSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "export_or_tell", find_it_full)
    exporting = Graphs(backbone, TorchRuntime.load(backbone, "cpu", threads=1).identity, tmp_path)
    with pytest.raises(StoreUnavailable, match=f"^{FULL}$"):
        exporting.export(LoopConfig())
    assert not any(tmp_path.iterdir())


def test_an_export_ends_with_the_server(tmp_path: Path, backbone: BackboneSpec) -> None:
    ended = Graphs(backbone, TorchRuntime.load(backbone, "cpu", threads=1).identity, tmp_path)
    ended.stop()
    with pytest.raises(ExportFailed):
        ended.export(LoopConfig())


@pytest.mark.parametrize("killed", [False, True], ids=["ended", "killed"])
def test_an_export_that_does_not_end_by_itself_leaves_nothing(
    tmp_path: Path, backbone: BackboneSpec, killed: bool
) -> None:
    identity = TorchRuntime.load(backbone, "cpu", threads=1).identity
    exporting = Graphs(backbone, identity, tmp_path)
    with ThreadPoolExecutor(1) as pool:
        exported = pool.submit(exporting.export, LoopConfig())
        wait_for(lambda: multiprocessing.active_children() and any(tmp_path.iterdir()), timeout_s=60)
        (child,), (partial,) = multiprocessing.active_children(), tmp_path.iterdir()
        os.utime(partial, (0, 0))
        wait_for(lambda: partial.stat().st_mtime > 0)  # so that no other server takes it for a leftover
        child.kill() if killed else exporting.stop()
        with pytest.raises(ExportFailed, match="ended with -9" if killed else "stopped"):
            exported.result()
    assert not any(tmp_path.iterdir())


def test_a_server_starts_without_what_none_will_open(tmp_path: Path, backbone: BackboneSpec) -> None:
    key, cache = "0f" * 32, tmp_path / "cache"
    stay = [f"{FORMAT}-{key}.onnx", f"{FORMAT + 1}-{key}.int8.onnx", "plain.onnx"]
    for name in (*stay, f"{key}.onnx", f"{FORMAT - 1}-{key}.int8.onnx", "tmpold/a.onnx", "tmpnew/a.onnx"):
        path = cache / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    os.utime(cache / "tmpold", (0, 0))
    load.load_runtime(ServiceConfig("redis://x", tmp_path, backbone, runtime="auto", device="cpu"), 1).close()
    assert {path.name for path in cache.iterdir()} == {*stay, "tmpnew"}
