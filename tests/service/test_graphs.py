"""What of a graph is computed in eight bits."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the onnx runtime comes with the extras cpu and gpu")
pytest.importorskip("onnxruntime", reason="the onnx runtime comes with the extras cpu and gpu")

import onnx

from service.runtimes.graphs import steep_nodes


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
