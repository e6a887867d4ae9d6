"""bfloat16 answers nearly as float32 does, and hands nothing rounded to a learner."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from structlog.testing import capture_logs
from timm.models.vision_transformer import VisionTransformer

from model.backbone import Backbone
from model.budget import Budget
from model.checkpoint import Checkpoint, InvalidCheckpoint
from model.deliberation import LoopConfig
from model.spec import BackboneSpec
from service.config import ServiceConfig
from service.runtimes import load
from service.runtimes.bfloat16 import Bfloat16Runtime
from service.runtimes.torch import TorchRuntime
from tests.service.support import WAIT_S, picture, random_version, running, wait_for

LOOP = LoopConfig(layers=(1, 3), tmax=3, alpha=0.4, topk=4)
WHOLE = Budget(3, 0, 4)


def version(beside: TorchRuntime) -> Checkpoint:
    return random_version(beside.backbone, "abcdef", loop=LOOP)


def images(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 255, (count, 3, 64, 64), dtype=np.uint8)


@pytest.mark.parametrize(
    "budgets",
    [[WHOLE] * 4, [WHOLE, Budget(1, 0, 1), Budget(3, 1e9, 12)], [Budget(3, 0, 4, 0.5)] * 2],
    ids=["whole", "mixed", "merging"],
)
def test_it_answers_nearly_as_float32_does(beside: TorchRuntime, budgets: list[Budget]) -> None:
    exact, mixed = (one.prepare(version(beside)) for one in (beside, Bfloat16Runtime(beside)))
    got, wanted = (one.classify(images(len(budgets)), budgets, False) for one in (mixed, exact))
    np.testing.assert_allclose(got.scores, wanted.scores, atol=0.05)
    assert not np.array_equal(got.scores, wanted.scores)
    np.testing.assert_array_equal(got.steps, wanted.steps)
    assert got.scores.dtype == np.float32


def test_features_are_taken_in_float32_or_not_at_all(beside: TorchRuntime) -> None:
    exact, mixed = (one.prepare(version(beside)) for one in (beside, Bfloat16Runtime(beside)))
    assert np.isnan(mixed.classify(images(2), [WHOLE] * 2, explain=False).features).all()
    explained, wanted = (one.classify(images(2), [WHOLE] * 2, explain=True) for one in (mixed, exact))
    np.testing.assert_array_equal(explained.features, wanted.features)
    assert [layer.layer for layer in explained.trace] == [1, 3]


def test_the_backbone_beside_it_stays_in_float32_and_is_the_one_that_versions_name(
    beside: TorchRuntime,
) -> None:
    mixed = Bfloat16Runtime(beside)
    assert {parameter.dtype for parameter in beside.backbone.parameters()} == {torch.float32}
    assert mixed.identity == beside.identity
    assert mixed.name == mixed.prepare(version(beside)).name == "torch cpu bfloat16"
    assert mixed.prepare(Checkpoint.empty(beside.backbone, LOOP)).classify(
        images(1), [WHOLE], False
    ).scores.shape == (1, 0)


def test_a_version_of_another_backbone_is_refused(beside: TorchRuntime) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        vit = VisionTransformer(img_size=32, patch_size=8, embed_dim=48, depth=4, num_heads=3, num_classes=0)
    other = TorchRuntime(Backbone("test", vit, 32, (0.5,) * 3, (0.5,) * 3), torch.device("cpu"))
    with pytest.raises(InvalidCheckpoint, match="learned on"):
        Bfloat16Runtime(other).prepare(version(beside))


def test_it_is_taken_when_asked_for_with_a_warning_where_it_does_not_pay(
    tmp_path: Path, backbone: BackboneSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ServiceConfig("redis://x", tmp_path, backbone, runtime="torch-bf16", device="cpu")
    for able, warnings in ((True, 0), (False, 1)):
        monkeypatch.setattr(load, "multiplies_bfloat16", lambda device, able=able: able)
        with capture_logs() as logs:
            assert isinstance(load.load_runtime(config, 1), Bfloat16Runtime)
        assert len(logs) == warnings


def test_who_asks_for_an_explanation_changes_nobody_elses_answer(config: ServiceConfig) -> None:
    """One in bfloat16 teaches no head, whether or not somebody beside it is answered in float32."""
    with running(replace(config, runtime="torch-bf16")) as server, ThreadPoolExecutor() as pool:
        server.serve(random_version(server.backbone, "abcdef"))
        engine, held = server.services.engine, threading.Event()

        def ask(query: str) -> bool:
            id_ = server.client.post(f"/classify{query}", content=picture()).json()["id"]
            remembered = server.services.memory.own.find(id_)
            assert remembered is not None
            return remembered.teaches

        engine.call(lambda: held.wait(WAIT_S) and None)
        asked = [pool.submit(ask, query) for query in ("", "?explain=true", "")]
        wait_for(lambda: len(engine._waiting) == 3)
        held.set()
        assert [one.result() for one in asked] == [False, True, False]
