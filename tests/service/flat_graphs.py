"""Graphs written by hand, which onnxruntime opens in milliseconds where an export takes minutes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import torch

from model.backbone import Backbone
from model.checkpoint import Checkpoint
from model.deliberation import LoopConfig
from model.export import GraphKind, example_inputs
from model.head import Head
from model.sample import sample_version
from model.spec import BackboneSpec
from service.runtimes.graphs import Graphs
from service.runtimes.torch import TorchRuntime

TYPES = {torch.uint8: "uint8", torch.int64: "int64", torch.float32: "float"}


class FlatGraphs(Graphs):
    """Exports graphs that find all classes equally likely, which is what torch answers for a `flat_version`."""

    def __init__(self, beside: TorchRuntime, folder: Path) -> None:
        super().__init__(BackboneSpec(), beside.identity, folder)
        self._backbone = beside.backbone
        self.exported: list[LoopConfig] = []

    def export(self, loop: LoopConfig) -> None:
        self.exported.append(loop)
        for kind, path in self._missing(loop):
            path.parent.mkdir(exist_ok=True)
            onnx.save(flat_graph(self._backbone, loop, kind), path)


def flat_version(backbone: Backbone, loop: LoopConfig) -> Checkpoint:
    """A version with slots, whose head has no weights."""
    head = Head(torch.zeros(backbone.width, 6), torch.zeros(6))
    return replace(sample_version(backbone, loop, slots=12, classes=6), head=head)


def flat_graph(backbone: Backbone, loop: LoopConfig, kind: GraphKind) -> onnx.ModelProto:
    """Inputs and outputs of an exported graph; scores are 1/C each, everything else is 0."""
    examples = [item for part in example_inputs(backbone, loop, kind) for item in part.items()]
    inputs = (
        f"{TYPES[t.dtype]}[{', '.join(f'{name}_{n}' for n in range(t.ndim))}] {name}"
        for name, (t, _) in examples
    )
    steps = "" if kind is GraphKind.EVEN else ", int64[B, L] steps"
    return onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["": 20]>
        flat ({", ".join(inputs)}) => (float[B, C] scores, float[B] familiarity, float[B, F] features{steps})
        {{
            images = Shape <end = 1> (pixels)
            classes = Shape (bias)
            width = Shape <end = 1> (weight)
            layers = Constant <value_ints = [{len(loop.layers)}]> ()
            by_class = Concat <axis = 0> (images, classes)
            by_channel = Concat <axis = 0> (images, width)
            by_layer = Concat <axis = 0> (images, layers)
            logits = ConstantOfShape (by_class)
            scores = Softmax (logits)
            familiarity = ConstantOfShape (images)
            features = ConstantOfShape (by_channel)
            steps = ConstantOfShape <value = int64[1] {{0}}> (by_layer)
        }}
    """)
