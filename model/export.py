"""The network as an ONNX graph whose memories, head and budgets are inputs.

A version is then a set of tensors beside the graph: serving another one, with more slots or more classes, changes
what is fed and never the session. One graph serves one backbone and one shape of the loop.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from enum import Enum
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.export import Dim

from model.backbone import Backbone, BackboneIdentity
from model.budget import BudgetBatch
from model.checkpoint import Checkpoint
from model.covariances import CLOSEST, DIRECTIONS, ClassCovariances
from model.deliberation import LoopConfig, Memory
from model.familiarity import PROBED, Familiarity
from model.head import Head
from model.merging import most_pairs
from model.network import RetrievalViT
from model.onnx_blocks import OnnxViT

OPSET = 20
"""Newer operator sets have one for all of attention; it does not broadcast the mask over query tokens."""
FORMAT = 18
"""Part of every graph's key and of its file's name: counts up when what is exported changes."""

OUTPUTS = ("scores", "familiarity", "features", "steps")
"""Of a graph; the last only where samples may differ in it."""

Shape = dict[int, object]
"""Which dimensions of an input vary, and by what name."""
Inputs = dict[str, tuple[Tensor, Shape]]
"""An example of each input, by its name."""


class GraphKind(Enum):
    """What a graph can take.

    EVEN: batches in which every sample runs the loop's full length over `ranks` slots and never stops early: no masks.
    MIXED: any budgets of keep 1; also a tmax of 0, which uses no step and is the plain transformer exactly.
    MERGING: the same with tokens merged, `pairs` in a block.
    """

    EVEN = "even"
    MIXED = "mixed"
    MERGING = "merging"


class DeliberatingGraph(nn.Module):
    """`model.classify` with everything that a version or a request brings as an argument."""

    def __init__(self, network: RetrievalViT, kind: GraphKind) -> None:
        super().__init__()
        self.network = network
        self.kind = kind

    def forward(
        self,
        pixels: Tensor,
        ranks: Tensor,
        weight: Tensor,
        bias: Tensor,
        directions: Tensor,
        offsets: Tensor,
        familiarity: Sequence[Tensor],
        memories: Sequence[Tensor],
        own: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        """-> scores [B, C], familiarity [B], features [B, F], and steps [B, L] where samples may differ in them.

        ranks: [k], anything; its length is the most slots to mix.
        own: tmax, epsilon and topk, [B] each, unless batches are even; pairs [r], whose length says how many tokens
        to merge, where the kind merges.
        """
        even, full = self.kind is GraphKind.EVEN, self.network.loop.budget
        if even:
            budgets = replace(BudgetBatch.repeat(full, 1), width=ranks.shape[0])
        else:
            tmax, epsilon, topk = own[:3]
            budgets = BudgetBatch(tmax, epsilon, topk, full.tmax, ranks.shape[0], uniform=False)
        parts = zip(memories[::3], memories[1::3], memories[2::3], strict=True)
        merged = own[3].shape[0] if self.kind is GraphKind.MERGING else 0
        features = self.network(pixels, [Memory(*part) for part in parts], budgets, pairs=merged)
        covariances, measure = ClassCovariances(directions, offsets), Familiarity(*familiarity)
        head = Head(weight, bias, covariances=covariances, familiarity=measure)
        scores = head.logits(features.vectors).softmax(dim=-1)
        answer = scores, head.familiar(features.vectors), features.vectors
        return answer if even else (*answer, features.steps)


def graph_key(identity: BackboneIdentity, loop: LoopConfig, kind: GraphKind) -> str:
    """A hash of all that shapes a graph: backbone, loop, and how it is written down here.

    The temperature is part of the memories and topk of the budgets, so loops that differ there share a graph.
    """
    facts = {
        "backbone": asdict(identity),
        "loop": {"layers": loop.layers, "tmax": loop.tmax, "alpha": loop.alpha},
        "kind": kind.value,
        "opset": OPSET,
        "format": FORMAT,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def version_inputs(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """What a version feeds to the graph: its head, and a `Memory` a layer of the loop.

    The head is weight [F, C], bias [C] and the parts of `ClassCovariances`, all times its sharpness, and the parts of
    its `Familiarity`. A version without slots feeds one slot of zeros, which a tmax of 0 never uses (see
    `GraphKind.MIXED`); one without covariances of its classes' own, a direction of zeros; one that cannot tell how
    familiar images are, `Familiarity.untold`.
    """
    loop, head = checkpoint.loop, checkpoint.head
    dim = checkpoint.pools.keys.shape[-1]
    memories = checkpoint.pools.memories(loop) or [
        Memory(torch.zeros(dim, 1), torch.zeros(1, dim), torch.zeros(1, dim)) for _ in loop.layers
    ]
    width, classes = head.weight.shape
    covariances = head.covariances or ClassCovariances(
        torch.zeros(classes, 1, width), torch.zeros(classes, 1)
    )
    inputs = {
        "weight": head.sharpness * head.weight,
        "bias": head.sharpness * head.bias,
        **covariances.scaled(head.sharpness).parts(),
    }
    measure = head.familiarity or Familiarity.untold(width, classes)
    inputs |= {f"familiarity_{name}": part for name, part in measure.parts().items()}
    for layer, memory in zip(loop.layers, memories, strict=True):
        inputs |= {f"{part}_{layer}": tensor for part, tensor in memory._asdict().items()}
    return {name: tensor.detach().contiguous() for name, tensor in inputs.items()}


def export_graph(backbone: Backbone, loop: LoopConfig, kind: GraphKind, path: Path) -> None:
    """Write the graph of a backbone and a loop: a minute or so of work, and a file of the backbone's size.

    Inputs: `pixels` [B, 3, px, px] uint8, `ranks` [k] int64; what `version_inputs` names; unless batches are even,
    `tmax` [B] int64, `epsilon` [B] float32, `topk` [B] int64; where the kind merges, `pairs` [r] int64.
    Outputs: `scores` [B, C], `familiarity` [B], `features` [B, F] and, unless batches are even, `steps` [B, L].
    B, k, r, M and C vary freely.
    """
    parts = example_inputs(backbone, loop, kind)
    first, *lists = ([example for example, _ in part.values()] for part in parts)
    varying, *others = ([shape for _, shape in part.values()] for part in parts)
    program = trace_onnx(
        DeliberatingGraph(OnnxViT(backbone, loop), kind),
        (*first, *lists),
        (*varying, *others),
        [name for part in parts for name in part],
        OUTPUTS[:-1] if kind is GraphKind.EVEN else OUTPUTS,
    )
    write_program(program, path)


def example_inputs(backbone: Backbone, loop: LoopConfig, kind: GraphKind) -> tuple[Inputs, ...]:
    """What `DeliberatingGraph` is exported with: its first arguments, its three lists of them in order."""
    batch, kept, slots, classes, spread, along = (
        Dim(name) for name in ("batch", "kept", "slots", "classes", "spread", "along")
    )
    # Any sizes but 0 and 1, which the exporter takes for fixed.
    dim, width, b, k, r, m, c, a = backbone.dim, backbone.width, 3, 5, 2, 11, 2 * CLOSEST, 7
    first: Inputs = {
        "pixels": (torch.zeros(b, 3, backbone.px, backbone.px, dtype=torch.uint8), {0: batch}),
        "ranks": (torch.arange(k), {0: kept}),
        "weight": (torch.zeros(width, c), {1: classes}),
        "bias": (torch.zeros(c), {0: classes}),
        "directions": (torch.zeros(c, DIRECTIONS, width), {0: classes, 1: spread}),
        "offsets": (torch.zeros(c, DIRECTIONS), {0: classes, 1: spread}),
    }
    measure: Inputs = {
        "familiarity_origin": (torch.zeros(width), {}),
        "familiarity_axes": (torch.zeros(width, a), {1: along}),
        "familiarity_probes": (torch.zeros(width, PROBED), {}),
        "familiarity_centres": (torch.zeros(c, a), {0: classes, 1: along}),
        "familiarity_allowances": (torch.zeros(c), {0: classes}),
        "familiarity_widths": (torch.ones(c), {0: classes}),
        "familiarity_unexplained": (torch.zeros(a), {0: along}),
        "familiarity_usual": (torch.ones(2, 2), {}),
    }
    memories: Inputs = {}
    for layer in loop.layers:
        memories[f"addresses_{layer}"] = (torch.zeros(dim, m), {1: slots})
        memories[f"values_{layer}"] = (torch.zeros(m, dim), {0: slots})
        memories[f"echoes_{layer}"] = (torch.zeros(m, dim), {0: slots})
    own: Inputs = {}
    if kind is not GraphKind.EVEN:
        own["tmax"] = (torch.full((b,), loop.tmax), {0: batch})
        own["epsilon"] = (torch.zeros(b), {0: batch})
        own["topk"] = (torch.full((b,), k), {0: batch})
    if kind is GraphKind.MERGING:
        own["pairs"] = (torch.arange(r), {0: Dim("merged", max=most_pairs(backbone.patches, backbone.depth))})
    return first, measure, memories, own


def trace_onnx(
    module: nn.Module,
    arguments: Sequence[object],
    shapes: Sequence[object],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> torch.onnx.ONNXProgram:
    """The graph of a module called with `arguments`. Raises what torch's exporter raises.

    shapes: which dimensions of each argument vary.  inputs, outputs: names of all tensors that go in and come out.
    """
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of how the exporter names things inside
        program = torch.onnx.export(
            module.eval(),
            tuple(arguments),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=tuple(shapes),
            input_names=inputs,
            output_names=list(outputs),
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the exporter returned no graph")
    means_as_products(program.model)
    return program


def write_program(program: torch.onnx.ONNXProgram, path: Path) -> None:
    """Save a graph as one file that appears whole. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        written = Path(folder) / path.name
        program.save(str(written))
        written.replace(path)


def means_as_products(model: ir.Model) -> None:
    """Write every mean over tokens as [1/N ..] @ x: onnxruntime is several times slower at reducing a middle axis."""
    for node in list(model.graph):
        if node.op_type != "ReduceMean":
            continue
        x, axes = node.inputs
        if x is None or x.shape is None or axes is None or axes.const_value is None:
            continue
        if len(x.shape) == 3 and axes.const_value.numpy().tolist() == [1] and isinstance(x.shape[1], int):
            kept = node.attributes.get_int("keepdims", 1)
            shares = np.full((1, x.shape[1]) if kept else x.shape[1], 1 / x.shape[1], dtype=np.float32)
            weights = ir.val(f"{node.outputs[0].name}_shares", const_value=ir.tensor(shares))
            model.graph.register_initializer(weights)
            product = ir.Node("", "MatMul", [weights, x])  # [N] or [1, N] @ [B, N, d]
            ir.convenience.replace_nodes_and_values(
                model.graph, node, [node], [product], node.outputs, product.outputs
            )
