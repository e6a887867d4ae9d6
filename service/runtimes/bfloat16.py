"""The forward pass in PyTorch with the backbone's products in bfloat16, where the hardware has such products.

Half the bytes and, on processors and GPUs that multiply them, a fraction of the time. What is added up, normalised,
recalled and scored stays in float32, but answers change a little: who wants that asks for it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.backbone import Backbone, BackboneIdentity
from model.budget import Budget, BudgetBatch
from model.checkpoint import Checkpoint
from model.deliberation import LoopConfig, Memory, Recall
from model.network import Features, RetrievalViT
from service.runtimes.base import Classifier, Output, Runtime
from service.runtimes.torch import TorchClassifier, TorchRuntime


class Bfloat16Runtime(Runtime):
    """A backbone whose weights are in bfloat16. Beside it stands the same one in float32, which explains answers."""

    def __init__(self, beside: TorchRuntime) -> None:
        self._beside = beside
        self._backbone = rounded(beside.backbone)

    @property
    def name(self) -> str:
        return f"torch {self._beside.device.type} bfloat16"

    @property
    def identity(self) -> BackboneIdentity:
        return self._beside.identity

    def empty(self) -> Checkpoint:
        return self._beside.empty()

    def prepare(self, checkpoint: Checkpoint) -> Classifier:
        explainer, device = self._beside.prepare(checkpoint), self._beside.device
        network = MixedViT(self._backbone, checkpoint.loop)
        mixed = TorchClassifier(network, checkpoint.to(device), device, self.name)
        return Bfloat16Classifier(mixed, explainer)


class Bfloat16Classifier:
    """One version. Explained answers are computed in float32, so that the head may be taught from their features."""

    def __init__(self, mixed: Classifier, explainer: Classifier) -> None:
        self.name = mixed.name
        self._mixed = mixed
        self._explainer = explainer

    def classify(self, pixels: NDArray[np.uint8], budgets: Sequence[Budget], explain: bool) -> Output:
        if explain:
            return self._explainer.classify(pixels, budgets, explain)
        output = self._mixed.classify(pixels, budgets, explain)
        return replace(output, features=np.full_like(output.features, np.nan))


class MixedViT(RetrievalViT):
    """A `RetrievalViT` that multiplies in bfloat16, but not in the loop: there a rounded score finds another slot."""

    def __init__(self, backbone: Backbone, loop: LoopConfig) -> None:
        super().__init__(backbone, loop)
        self.device_type = backbone.device.type

    def forward(
        self,
        pixels: Tensor,
        memories: Sequence[Memory],
        budgets: BudgetBatch,
        bptt: int | None = None,
        pairs: int | None = None,
    ) -> Features:
        with torch.autocast(self.device_type, torch.bfloat16):
            return super().forward(pixels, memories, budgets, bptt, pairs)

    def consult(self, x: Tensor, memory: Memory, budgets: BudgetBatch, bptt: int | None) -> Recall:
        with torch.autocast(self.device_type, enabled=False):
            return super().consult(x.float(), memory, budgets, bptt)


def rounded(backbone: Backbone) -> Backbone:
    """A copy whose matrices are in bfloat16: cast anew in every pass they would cost as much as they save."""
    copied = copy.deepcopy(backbone)
    for module in copied.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.to(torch.bfloat16)
    return copied
