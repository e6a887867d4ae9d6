"""The forward pass on a device of its own."""

from __future__ import annotations

import numpy as np
import torch

from model.budget import Budget
from model.deliberation import LoopConfig
from model.sample import sample_version
from model.spec import BackboneSpec
from service.runtimes.base import Output
from service.runtimes.torch import TorchRuntime
from tests.elsewhere import run_elsewhere

LOOP = LoopConfig(layers=(1, 3), tmax=3, topk=4)
MIXED = [Budget(1, 0, 1), Budget(3, 0, 12), Budget(3, 4.0, 2), Budget(2, 0, 4), Budget(3, 6.0, 3)]


def answers(device: torch.device, spec: BackboneSpec) -> list[Output]:
    """With slots and without, for each batch of budgets, explained and not."""
    runtime = TorchRuntime.load(spec, str(device), threads=1)
    pixels = np.random.default_rng(0).integers(0, 256, (len(MIXED), 3, spec.px, spec.px), dtype=np.uint8)
    classifiers = [
        runtime.prepare(sample_version(runtime.backbone, LOOP, slots, classes=30)) for slots in (0, 12)
    ]
    return [
        classifier.classify(pixels[: len(budgets)], budgets, explain)
        for classifier in classifiers
        for budgets in (MIXED, [Budget(3, 0, 4)] * 3, [Budget(3, 0, 4, 0.5), Budget(1, 0, 2, 0.5)])
        for explain in (False, True)
    ]


def test_answers_there_are_the_same(little: BackboneSpec) -> None:
    for there, here in zip(run_elsewhere(answers, little), answers(torch.device("cpu"), little), strict=True):
        np.testing.assert_allclose(there.scores, here.scores, atol=1e-4)
        np.testing.assert_allclose(there.features, here.features, atol=1e-4)
        np.testing.assert_array_equal(there.steps, here.steps)
        assert len(there.trace) == len(here.trace)
