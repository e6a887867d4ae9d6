"""The forward pass on a device of its own."""

from __future__ import annotations

import numpy as np
import pytest

from model.budget import Budget
from model.deliberation import LoopConfig
from model.sample import sample_version
from model.spec import BackboneSpec
from service.runtimes.base import Output
from service.runtimes.torch import TorchRuntime
from tests.elsewhere import elsewhere

LOOP = LoopConfig(layers=(1, 3), tmax=3, topk=4)
MIXED = [Budget(1, 0, 1), Budget(3, 0, 12), Budget(3, 4.0, 2), Budget(2, 0, 4), Budget(3, 6.0, 3)]


def answer(spec: BackboneSpec, device: str, slots: int, budgets: list[Budget], explain: bool) -> Output:
    runtime = TorchRuntime.load(spec, device, threads=1)
    version = sample_version(runtime.backbone, LOOP, slots, classes=30)
    pixels = np.random.default_rng(0).integers(0, 256, (len(budgets), 3, spec.px, spec.px), dtype=np.uint8)
    return runtime.prepare(version).classify(pixels, budgets, explain)


@pytest.mark.parametrize("explain", [False, True])
@pytest.mark.parametrize(
    ("slots", "budgets"),
    [
        (0, MIXED),
        (12, MIXED),
        (12, [Budget(3, 0, 4)] * 3),
        (12, [Budget(3, 0, 4, 0.5), Budget(1, 0, 2, 0.5)]),
    ],
)
def test_answers_there_are_the_same(
    little: BackboneSpec, slots: int, budgets: list[Budget], explain: bool
) -> None:
    here = answer(little, "cpu", slots, budgets, explain)
    with elsewhere() as device:
        there = answer(little, str(device), slots, budgets, explain)
    np.testing.assert_allclose(there.scores, here.scores, atol=1e-4)
    np.testing.assert_array_equal(there.steps, here.steps)
    assert len(there.trace) == len(here.trace)
