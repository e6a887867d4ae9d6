"""A version as one graph that takes any number of images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("onnxruntime", reason="the export comes with the extras cpu and gpu")
pytest.importorskip("onnxscript", reason="the export comes with the extras cpu and gpu")

from onnxruntime import InferenceSession

from model.backbone import Backbone
from model.budget import BudgetBatch
from model.classify import classify
from model.deliberation import LoopConfig
from model.network import RetrievalViT
from model.sample import sample_version
from model.standalone import export_version


def test_what_a_young_version_lacks_does_not_fix_the_batch(
    backbone: Backbone, pixels: torch.Tensor, tmp_path: Path
) -> None:
    version = sample_version(backbone, LoopConfig(layers=(1, 3)), slots=0, classes=2)
    young = replace(version, head=replace(version.head, covariances=None, familiarity=None))
    export_version(backbone, young, tmp_path / "young.onnx")
    session = InferenceSession(tmp_path / "young.onnx", providers=["CPUExecutionProvider"])
    budget = {"tmax": torch.tensor(young.loop.tmax).numpy(), "epsilon": torch.tensor(0.0).numpy()}
    budgets = BudgetBatch.repeat(young.loop.budget, len(pixels))
    wanted = classify(RetrievalViT(backbone, young.loop), [], young.head, pixels, budgets).scores
    for batch in (1, 2, 6):
        scores, steps, familiarity = session.run(None, {"pixels": pixels[:batch].numpy(), **budget})
        assert (steps.shape, familiarity.shape) == ((batch, 0), (batch,))
        torch.testing.assert_close(torch.from_numpy(scores), wanted[:batch], rtol=0, atol=1e-4)
