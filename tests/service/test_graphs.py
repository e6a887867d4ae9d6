"""Graphs on disk: what of them is computed in eight bits, and how the process that exports them ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the onnx runtime comes with the extras cpu and gpu")
pytest.importorskip("onnxruntime", reason="the onnx runtime comes with the extras cpu and gpu")
pytest.importorskip("onnxscript", reason="the onnx runtime comes with the extras cpu and gpu")

import onnx

from model.deliberation import LoopConfig
from model.export import GraphKind
from model.spec import BackboneSpec
from service.runtimes import graphs
from service.runtimes.graphs import ExportFailed, Graphs, steep_nodes
from service.runtimes.torch import TorchRuntime


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


def test_the_exporting_process_leaves_an_interrupt_to_the_server() -> None:
    """A terminal sends Ctrl-C to both; the traceback of this one hid what the server said on its way out."""
    code = (
        "import os, signal; from model.spec import BackboneSpec; from model.deliberation import LoopConfig\n"
        "from service.runtimes.graphs import export_missing\n"
        "export_missing(BackboneSpec(), LoopConfig(), [], False, 0); os.kill(os.getpid(), signal.SIGINT)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")


def test_a_graph_gets_its_name_once_it_would_survive_a_power_cut(
    tmp_path: Path, backbone: BackboneSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "graph.onnx"
    durable: list[tuple[str, bool]] = []
    monkeypatch.setattr(graphs, "make_durable", lambda one: durable.append((one.name, path.exists())))
    monkeypatch.setattr(graphs, "export_graph", lambda *told: told[-1].write_bytes(b"a graph"))
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # this process has no server to leave them to
    graphs.export_missing(backbone, LoopConfig(), [(GraphKind.EVEN, path)], False, 0)
    assert durable == [("graph.onnx", False), (tmp_path.name, True)]
    assert [found.name for found in tmp_path.iterdir()] == ["graph.onnx"]


def test_an_export_ends_with_the_server(tmp_path: Path, backbone: BackboneSpec) -> None:
    ended = Graphs(backbone, TorchRuntime.load(backbone, "cpu", threads=1).identity, tmp_path)
    ended.stop()
    with pytest.raises(ExportFailed):
        ended.export(LoopConfig())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_export_that_is_ended_leaves_no_file(tmp_path: Path, backbone: BackboneSpec) -> None:
    identity = TorchRuntime.load(backbone, "cpu", threads=1).identity
    ending = Graphs(backbone, identity, tmp_path, int8=True)  # which has a temporary folder from the start
    with ThreadPoolExecutor(1) as pool:
        exported = pool.submit(ending.export, LoopConfig())
        while not any(tmp_path.iterdir()) and not exported.done():
            time.sleep(0.05)
        ending.stop()
        with pytest.raises(ExportFailed, match="stopped"):
            exported.result()
    assert not any(tmp_path.iterdir())
