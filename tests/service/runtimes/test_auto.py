"""`auto` answers by torch until onnx has turned out to be faster and to answer alike, and nobody waits for that."""

from __future__ import annotations

import multiprocessing
import os
from contextlib import closing
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from numpy.typing import NDArray
from structlog.testing import capture_logs

pytest.importorskip("onnxruntime", reason="the onnx runtime comes with the extras cpu and gpu")
pytest.importorskip("onnxscript", reason="the onnx runtime comes with the extras cpu and gpu")

from model.budget import Budget
from model.checkpoint import Checkpoint
from model.deliberation import LoopConfig
from model.export import GraphKind
from model.sample import sample_version
from model.spec import BackboneSpec
from service.runtimes import auto
from service.runtimes.auto import AutoRuntime, Choice
from service.runtimes.base import Classifier, Output, grey_images
from service.runtimes.graphs import Graphs
from service.runtimes.onnx import OnnxClassifier
from service.runtimes.torch import TorchRuntime
from tests.service.flat_graphs import FlatGraphs, flat_version
from tests.service.support import WAIT_S, wait_for

LOOP = LoopConfig(layers=(1, 3), tmax=3, alpha=0.4, topk=4)
OTHER = LoopConfig(layers=(1, 3), tmax=2, alpha=0.4, topk=4)
FASTER = Choice((2.0, 2.0))


def grey_scores(classifier: Classifier) -> NDArray[np.float32]:
    """[1, C], within the budget of `LOOP`."""
    return classifier.classify(grey_images(64), [LOOP.budget], explain=False).scores


class HeldGraphs(FlatGraphs):
    """The export of `OTHER` takes until it is let end."""

    def __init__(self, beside: TorchRuntime, folder: Path) -> None:
        super().__init__(beside, folder)
        self.began, self.let, self.ended = Event(), Event(), Event()

    def export(self, loop: LoopConfig) -> None:
        if loop == OTHER:
            self.began.set()
            self.let.wait(WAIT_S)
            self.ended.set()
        super().export(loop)


def test_no_pass_waits_while_another_loop_is_exported(
    beside: TorchRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "measure", lambda *_: FASTER)
    graphs = HeldGraphs(beside, tmp_path)
    with closing(AutoRuntime(beside, graphs, threads=1)) as runtime:
        served, _ = (runtime.prepare(flat_version(beside.backbone, loop)) for loop in (LOOP, OTHER))
        assert graphs.began.wait(WAIT_S)
        np.testing.assert_allclose(grey_scores(served), 1 / 6, rtol=1e-6)
        assert isinstance(served._faster, OnnxClassifier)
        assert not graphs.ended.is_set(), "the pass sat out an export"
        graphs.let.set()


def test_nobody_waits_while_a_graph_that_was_cut_short_is_exported_anew(
    beside: TorchRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "measure", lambda *_: FASTER)
    graphs = HeldGraphs(beside, tmp_path)
    FlatGraphs.export(graphs, OTHER)
    os.truncate(graphs.path(OTHER, GraphKind.EVEN), 0)
    with closing(AutoRuntime(beside, graphs, threads=1)) as runtime:
        served = runtime.prepare(flat_version(beside.backbone, OTHER))
        assert graphs.began.wait(WAIT_S)
        assert not graphs.ended.is_set(), "the version sat out an export"
        graphs.let.set()
        runtime._background.shutdown(wait=True)
        np.testing.assert_allclose(grey_scores(served), 1 / 6, rtol=1e-6)
    assert isinstance(served._faster, OnnxClassifier)
    assert graphs.exported == [OTHER, OTHER]


def test_once_requests_come_no_version_waits_to_be_measured(
    beside: TorchRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let, graphs = Event(), FlatGraphs(beside, tmp_path)
    graphs.export(LOOP)
    monkeypatch.setattr(auto, "measure", lambda *_: let.wait(WAIT_S) and FASTER)
    with closing(AutoRuntime(beside, graphs, threads=1)) as runtime:
        runtime.opened()
        first = runtime.prepare(flat_version(beside.backbone, LOOP))
        assert first.name == "torch cpu float32 (auto; onnx is not measured yet)"
        let.set()
        runtime._background.shutdown(wait=True)
        assert first.name.startswith("onnx cpu float32 (auto; speed of onnx")


def test_no_graph_is_exported_before_there_is_a_version_to_answer_by_it(
    beside: TorchRuntime, tmp_path: Path
) -> None:
    graphs = FlatGraphs(beside, tmp_path)
    with closing(AutoRuntime(beside, graphs, threads=1)) as runtime:
        # As a server does at its start, and again when a store has forgotten all.
        warmed, forgotten = runtime.empty(), Checkpoint.empty(beside.backbone, OTHER)
        for checkpoint in (warmed, forgotten, flat_version(beside.backbone, LOOP)):
            runtime.prepare(checkpoint)
        runtime._background.shutdown(wait=True)
    assert graphs.exported == [LOOP]


class Broken:
    """Answers nonsense."""

    def classify(self, pixels: NDArray[np.uint8], budgets: list[Budget], explain: bool) -> Output:
        count = len(pixels)
        return Output(
            np.full((count, 6), np.nan, np.float32),
            np.zeros(count, np.float32),
            np.zeros((count, 2), int),
            np.zeros((count, 64)),
            (),
        )


def test_a_version_moves_to_onnx_only_when_onnx_answers_as_torch_does(
    beside: TorchRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(AutoRuntime(beside, FlatGraphs(beside, tmp_path), threads=1)) as runtime:
        version, differing = flat_version(beside.backbone, LOOP), sample_version(beside.backbone, LOOP, 12, 6)
        late = auto.AutoClassifier(runtime, version, beside.prepare(version))
        runtime._choices[LOOP] = FASTER
        with monkeypatch.context() as patch:
            patch.setattr(runtime, "prepare_faster", lambda checkpoint: Broken())
            assert np.isfinite(grey_scores(late)).all()
        assert late._faster is None
        assert (
            late.name
            == "torch cpu float32 (auto; onnx is not usable: onnx gave scores that are no probabilities)"
        )
        other = auto.AutoClassifier(runtime, differing, beside.prepare(differing))
        assert other._faster is None
        assert other.name.startswith("torch cpu float32 (auto; onnx is not usable: a score by onnx is ")
        moved = auto.AutoClassifier(runtime, version, beside.prepare(version))
        assert isinstance(moved._faster, OnnxClassifier)
        assert moved.name.startswith("onnx cpu float32 (auto; speed of onnx over torch: 2.00 at batch 1")


def test_each_version_is_answered_by_what_its_own_loop_takes_and_says_so(
    beside: TorchRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        auto, "measure", lambda *told: FASTER if told[-1].loop == LOOP else Choice((0.5, 0.5))
    )
    with closing(AutoRuntime(beside, FlatGraphs(beside, tmp_path), threads=1)) as runtime:
        assert runtime.name == "torch cpu float32 (auto; onnx is not measured yet)"
        with capture_logs() as lines:
            served, canary = (runtime.prepare(flat_version(beside.backbone, loop)) for loop in (LOOP, OTHER))
            runtime._background.shutdown(wait=True)
        assert (
            served.name
            == "onnx cpu float32 (auto; speed of onnx over torch: 2.00 at batch 1, 2.00 at batch 8)"
        )
        assert (
            canary.name
            == "torch cpu float32 (auto; speed of onnx over torch: 0.50 at batch 1, 0.50 at batch 8)"
        )
        assert [line["runtime"] for line in lines if line["event"] == "runtime chosen"] == [
            served.name,
            canary.name,
        ]


def test_the_faster_one_on_both_batches_wins() -> None:
    assert Choice((1.2, 1.1)).onnx
    assert Choice((1.5, 0.9)).onnx
    assert not Choice((1.1, 0.8)).onnx


@pytest.mark.slow
def test_torch_stays_when_the_export_fails(beside: TorchRuntime, tmp_path: Path) -> None:
    spec = BackboneSpec("vit_tiny_patch16_224", tmp_path / "missing.safetensors")
    version = sample_version(beside.backbone, LOOP, 12, 6)
    runtime = AutoRuntime(beside, Graphs(spec, beside.identity, tmp_path, urgent=True), threads=1)
    first = runtime.prepare(version)
    runtime._background.shutdown(wait=True)
    for classifier in (first, runtime.prepare(version)):
        np.testing.assert_array_equal(grey_scores(classifier), grey_scores(beside.prepare(version)))
    assert (
        classifier.name == "torch cpu float32 (auto; onnx is not usable: the exporting process ended with 1)"
    )


def test_an_export_that_ends_with_the_server_is_no_fault_of_onnx(
    beside: TorchRuntime, backbone: BackboneSpec, tmp_path: Path
) -> None:
    with capture_logs() as lines:
        runtime = AutoRuntime(beside, Graphs(backbone, beside.identity, tmp_path), threads=1)
        runtime.prepare(sample_version(beside.backbone, LOOP, 12, 6))
        wait_for(multiprocessing.active_children)
        runtime.close()
    assert [line["event"].split(",")[0] for line in lines] == ["exporting graphs for onnx"]
