"""The forward pass in PyTorch, as `model` defines it, on CPU or GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.backbone import Backbone, BackboneIdentity, load_backbone
from model.budget import Budget, BudgetBatch
from model.checkpoint import Checkpoint
from model.classify import classify
from model.deliberation import LoopConfig, Memory, Recall
from model.device import pick_device
from model.network import RetrievalViT
from model.spec import BackboneSpec
from service.runtimes.base import Classifier, LayerTrace, Output, Runtime, as_taught


class TorchRuntime(Runtime):
    """A backbone in float32 on one device."""

    def __init__(self, backbone: Backbone, device: torch.device, threads: int = 1) -> None:
        self.backbone = backbone.to(device)
        self.device = device
        self._threads = threads

    @classmethod
    def load(cls, spec: BackboneSpec, device: str | None, threads: int) -> TorchRuntime:
        """Load the backbone onto `device`, by default a GPU if there is one. Sets torch's threads."""
        torch.set_num_threads(threads)
        chosen = pick_device(device)
        return cls(load_backbone(spec), chosen, threads)

    @property
    def name(self) -> str:
        return f"torch {self.device.type} float32"

    @property
    def identity(self) -> BackboneIdentity:
        return self.backbone.identity

    def empty(self) -> Checkpoint:
        """In the smallest loop, which every backbone has the blocks for: without slots it is the plain transformer."""
        return Checkpoint.empty(self.backbone, LoopConfig(layers=(1,)))

    def prepare(self, checkpoint: Checkpoint) -> Classifier:
        checkpoint.check_fits(self.backbone)
        with self.one_thread():
            network = RetrievalViT(self.backbone, checkpoint.loop)
            return TorchClassifier(network, checkpoint.to(self.device), self.device, self.name)

    @contextmanager
    def one_thread(self) -> Iterator[None]:
        """What the caller's thread computes in the block, it computes alone.

        Laying a version out is a few small products, while forward passes hold all cores: a team of threads would wait
        for its members far longer than it works.
        """
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(self._threads)


class TorchClassifier:
    """One version's pools and head on the runtime's device."""

    def __init__(
        self, network: RetrievalViT, checkpoint: Checkpoint, device: torch.device, name: str
    ) -> None:
        self.name = name
        self.network = network
        self.pools, self.head = checkpoint.pools, checkpoint.head
        self.device = device

    @cached_property
    def memories(self) -> list[Memory]:
        """Laid out by the first pass: beside onnxruntime, most versions go before torch is asked for one."""
        return self.pools.memories(self.network.loop)

    def classify(self, pixels: NDArray[np.uint8], budgets: Sequence[Budget], explain: bool) -> Output:
        images = torch.from_numpy(pixels).to(self.device)  # [B, 3, px, px]
        answer = classify(
            self.network, self.memories, self.head, images, BudgetBatch.of(budgets, self.device)
        )
        loop = self.network.loop
        found = zip(loop.layers, answer.recalls, strict=False) if explain else ()
        return Output(
            scores=array(answer.scores),
            familiarity=array(answer.familiarity),
            steps=array(answer.steps),
            features=as_taught(array(answer.features), budgets, loop.budget, self.pools.slots),
            trace=tuple(layer_trace(layer, recall) for layer, recall in found),
        )


def layer_trace(layer: int, found: Recall) -> LayerTrace:
    """One layer's `Recall`, on the host."""
    batch, steps, _ = found.vectors.shape
    used = found.used if found.used is not None else torch.ones(batch, steps, dtype=torch.bool)
    moves = found.vectors.diff(dim=1, prepend=found.vectors[:, :1])  # [B, T, d]
    return LayerTrace(
        layer=layer,
        used=array(used),
        slots=array(found.slots),
        weights=array(found.weights),
        queries=array(found.queries),
        moved=array(moves.norm(dim=-1)),
    )


def array(tensor: Tensor) -> NDArray[Any]:
    """The same numbers on the host."""
    return tensor.cpu().numpy()
