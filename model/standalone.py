"""One version as one ONNX file that answers by itself, in any onnxruntime, without this package.

Pools and head are part of the file, unlike in `model.export`, whose graph stays the same from version to version. The
budget stays the caller's: `tmax` and `epsilon` are inputs.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

from model.backbone import Backbone
from model.budget import BudgetBatch
from model.checkpoint import Checkpoint
from model.deliberation import Memory
from model.export import trace_onnx, write_program
from model.network import RetrievalViT


class StandaloneGraph(nn.Module):
    """`model.classify` of one version, for batches that share one budget. topk: slots each step mixes."""

    def __init__(self, backbone: Backbone, checkpoint: Checkpoint, topk: int) -> None:
        """Raises InvalidCheckpoint when the version belongs to another backbone, ValueError when it knows no label."""
        super().__init__()
        checkpoint.check_fits(backbone)
        if not checkpoint.labels:
            raise ValueError("the version knows no label yet")
        self.network = RetrievalViT(backbone, checkpoint.loop)
        self.head = checkpoint.head
        self.topk = topk
        self.layers = len(checkpoint.loop.layers) if checkpoint.pools.slots else 0
        for number, memory in enumerate(checkpoint.pools.memories(checkpoint.loop)):
            for part, tensor in memory._asdict().items():
                self.register_buffer(f"{part}_{number}", tensor.detach().clone())

    def forward(self, pixels: Tensor, tmax: Tensor, epsilon: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """pixels [B, 3, px, px] uint8, tmax [] int64, epsilon [] float32 -> scores [B, C], steps [B, L] and
        familiarity [B]."""
        batch, loop = pixels.shape[0], self.network.loop
        topk = torch.full((batch,), self.topk)
        budgets = BudgetBatch(
            tmax.expand(batch), epsilon.expand(batch), topk, steps=loop.tmax, width=self.topk, uniform=False
        )
        memories = [
            Memory(*(self.get_buffer(f"{part}_{number}") for part in Memory._fields))
            for number in range(self.layers)
        ]
        features = self.network(pixels, memories, budgets)
        vectors = features.vectors
        return self.head.logits(vectors).softmax(dim=-1), features.steps, self.head.familiar(vectors)


def export_version(backbone: Backbone, checkpoint: Checkpoint, path: Path, topk: int | None = None) -> int:
    """Write a version with its backbone: a minute or so of work. Returns how many slots each step mixes.

    Inputs: `pixels` [B, 3, px, px] uint8, `tmax` [] int64, `epsilon` [] float32. Outputs: `scores` [B, C], `steps`
    [B, L], `familiarity` [B].
    The file's metadata hold `labels` (JSON, in the order of the scores), `px`, `tmax`, `topk`. Raises what
    `StandaloneGraph` raises, and OSError.
    """
    loop = checkpoint.loop
    kept = min(topk or loop.topk, max(checkpoint.pools.slots, 1))
    budget = {"tmax": torch.tensor(loop.tmax), "epsilon": torch.tensor(0.0)}
    pixels = torch.zeros(3, 3, backbone.px, backbone.px, dtype=torch.uint8)
    program = trace_onnx(
        StandaloneGraph(backbone, checkpoint, kept),
        (pixels, *budget.values()),
        ({0: Dim("batch")}, {}, {}),
        ("pixels", *budget),
        ("scores", "steps", "familiarity"),
    )
    program.model.metadata_props.update(
        labels=json.dumps(checkpoint.labels), px=str(backbone.px), tmax=str(loop.tmax), topk=str(kept)
    )
    write_program(program, path)
    return kept
