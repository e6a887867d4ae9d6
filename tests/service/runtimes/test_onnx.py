"""The ONNX graphs answer as torch does, whatever the budgets, and a swap changes tensors only."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from timm.models.vision_transformer import VisionTransformer

pytest.importorskip("onnxruntime", reason="the onnx runtime comes with the extras cpu and gpu")
pytest.importorskip("onnxscript", reason="the onnx runtime comes with the extras cpu and gpu")

from model.backbone import Backbone
from model.budget import Budget
from model.checkpoint import Checkpoint, InvalidCheckpoint
from model.deliberation import LoopConfig
from model.export import GraphKind, export_graph
from model.sample import sample_version
from model.spec import BackboneSpec
from service.config import ServiceConfig
from service.runtimes import auto, load
from service.runtimes.auto import AutoRuntime
from service.runtimes.graphs import ExportFailed, Graphs, export_in_int8
from service.runtimes.onnx import NoProvider, OnnxClassifier, OnnxRuntime, open_session, require_provider
from service.runtimes.torch import TorchRuntime
from tests.service.flat_graphs import FlatGraphs, flat_version

LOOP = LoopConfig(layers=(1, 3), tmax=3, alpha=0.4, topk=4)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def graphs(little: BackboneSpec, beside: TorchRuntime, tmp_path_factory: pytest.TempPathFactory) -> Graphs:
    """As the exporting process left them."""
    folder = tmp_path_factory.mktemp("store") / "cache"
    graphs = Graphs(little, beside.identity, folder, urgent=True)
    assert not graphs.ready(LOOP)
    graphs.export(LOOP)
    assert graphs.ready(LOOP)
    assert {path.suffix for path in folder.iterdir()} == {".onnx"}, "whole files and nothing else"
    return graphs


@pytest.fixture(scope="module")
def onnx(beside: TorchRuntime, graphs: Graphs) -> OnnxRuntime:
    return OnnxRuntime(beside, graphs, threads=1)


def images(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 255, (count, 3, 64, 64), dtype=np.uint8)


def check_equal(
    ours: OnnxRuntime | AutoRuntime, torch_: TorchRuntime, version: Checkpoint, *budgets: Budget
) -> None:
    """Both runtimes give the same scores and steps."""
    pixels = images(len(budgets))
    got = ours.prepare(version).classify(pixels, budgets, explain=False)
    wanted = torch_.prepare(version).classify(pixels, budgets, explain=False)
    np.testing.assert_allclose(got.scores, wanted.scores, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(got.steps, wanted.steps)
    np.testing.assert_allclose(got.familiarity, wanted.familiarity, rtol=0, atol=1e-4)
    assert np.isfinite(wanted.familiarity).all()
    np.testing.assert_allclose(got.features, wanted.features, rtol=0, atol=1e-4)
    assert got.scores.dtype == np.float32


@pytest.mark.parametrize(
    "budgets",
    [
        [Budget(3, 0, 4)],
        [Budget(3, 0, 4)] * 8,
        [Budget(1, 0, 1)],
        [Budget(2, 0, 4)] * 2,
        [Budget(3, 1e9, 4)],
        [Budget(1, 0, 1), Budget(3, 0, 12), Budget(3, 4.0, 2), Budget(2, 0, 5), Budget(3, 6.0, 3)],
        [Budget(3, 0, 4, 0.9)] * 2,
        [Budget(1, 0, 1, 0.5), Budget(3, 0, 12, 0.5), Budget(3, 4.0, 2, 0.5)],
    ],
)
def test_answers_as_torch_does(onnx: OnnxRuntime, beside: TorchRuntime, budgets: list[Budget]) -> None:
    check_equal(onnx, beside, sample_version(beside.backbone, LOOP, slots=12, classes=6), *budgets)


def test_an_epsilon_stops_some_samples_and_not_others(onnx: OnnxRuntime, beside: TorchRuntime) -> None:
    classifier = onnx.prepare(sample_version(beside.backbone, LOOP, slots=12, classes=6))
    budgets = [Budget(3, epsilon, 4) for epsilon in (0, 1.0, 1e9)]
    steps = classifier.classify(images(3), budgets, explain=False).steps
    assert steps[0].tolist() == [3, 3]
    assert steps[2].tolist() == [2, 2]


@pytest.mark.parametrize(("slots", "classes"), [(1, 1), (4, 2), (300, 50)])
def test_slots_and_classes_may_be_any_number(
    onnx: OnnxRuntime, beside: TorchRuntime, slots: int, classes: int
) -> None:
    version = sample_version(beside.backbone, LOOP, slots, classes)
    check_equal(onnx, beside, version, Budget(3, 0, 4))
    check_equal(onnx, beside, version, Budget(3, 0, 4), Budget(1, 0, 2))


def test_without_slots_it_is_the_plain_transformer(onnx: OnnxRuntime, beside: TorchRuntime) -> None:
    version = sample_version(beside.backbone, LOOP, slots=0, classes=6)
    check_equal(onnx, beside, version, Budget(3, 0, 4), Budget(1, 2.0, 1))
    check_equal(onnx, beside, version, Budget(3, 0, 4, 0.75))


def test_a_version_that_knows_nothing_is_served_too_and_needs_no_graph(
    beside: TorchRuntime, tmp_path: Path
) -> None:
    graphs = FlatGraphs(beside, tmp_path)
    onnx = OnnxRuntime(beside, graphs, threads=1)
    for checkpoint in (onnx.empty(), Checkpoint.empty(beside.backbone, LOOP)):
        output = onnx.prepare(checkpoint).classify(images(2), [Budget()] * 2, False)
        assert output.scores.shape == (2, 0)
    assert graphs.exported == []


def test_the_trace_comes_with_the_same_answer(onnx: OnnxRuntime, beside: TorchRuntime) -> None:
    classifier = onnx.prepare(sample_version(beside.backbone, LOOP, slots=12, classes=6))
    plain = classifier.classify(images(2), [Budget(3, 0, 4)] * 2, explain=False)
    explained = classifier.classify(images(2), [Budget(3, 0, 4)] * 2, explain=True)
    assert [trace.layer for trace in explained.trace] == [1, 3]
    np.testing.assert_allclose(explained.scores, plain.scores, atol=1e-4)


def test_eight_bits_answer_nearly_as_float32_does_and_alone_as_together(
    beside: TorchRuntime, tmp_path: Path
) -> None:
    graphs = Graphs(BackboneSpec(), beside.identity, tmp_path, int8=True)
    path = graphs.path(LOOP, GraphKind.EVEN)
    export_in_int8(beside.backbone, LOOP, GraphKind.EVEN, path)
    assert path.name.endswith(".int8.onnx")
    assert OnnxRuntime(beside, graphs, threads=1).name == "onnx cpu int8"
    version, whole = sample_version(beside.backbone, LOOP, slots=12, classes=6), [Budget(3, 0, 4)] * 4
    exact = beside.prepare(version)
    sessions = {GraphKind.EVEN: open_session(str(path), 1)}
    rounded = OnnxClassifier(sessions, version, exact, beside.backbone.pairs)
    got, wanted = (one.classify(images(4), whole, explain=False).features for one in (rounded, exact))
    assert (got * wanted).sum(axis=1).min() > 0.99
    assert not np.allclose(got, wanted, atol=1e-4)
    honest = OnnxClassifier(sessions, version, exact, beside.backbone.pairs, rounded=True)
    assert honest.name == "onnx cpu int8"
    together = honest.classify(images(4), whole, explain=False)
    assert np.isnan(together.features).all()
    alone = [honest.classify(image[None], whole[:1], explain=False).scores for image in images(4)]
    np.testing.assert_array_equal(together.scores, np.concatenate(alone), "no image rounds another")
    np.testing.assert_array_equal(honest.classify(images(4), whole, explain=True).features, wanted)


def test_a_backbone_that_normalises_its_queries_keeps_attention_written_out(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vit = VisionTransformer(
            img_size=64, patch_size=16, embed_dim=64, depth=2, num_heads=2, num_classes=0, qk_norm=True
        )
    beside = TorchRuntime(Backbone("test", vit, 64, (0.5,) * 3, (0.5,) * 3), torch.device("cpu"))
    loop, path = LoopConfig(layers=(1,), topk=4), tmp_path / "graph.onnx"
    export_graph(beside.backbone, loop, GraphKind.EVEN, path)
    version, whole = sample_version(beside.backbone, loop, slots=12, classes=6), [Budget(4, 0, 4)] * 2
    exact = beside.prepare(version)
    exported = OnnxClassifier({GraphKind.EVEN: open_session(str(path), 1)}, version, exact, lambda _: 0)
    got, wanted = (one.classify(images(2), whole, explain=False).scores for one in (exported, exact))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4)


def test_a_swap_keeps_the_sessions(onnx: OnnxRuntime, beside: TorchRuntime) -> None:
    one, other = (onnx.prepare(sample_version(beside.backbone, LOOP, slots, 6)) for slots in (12, 20))
    assert isinstance(one, OnnxClassifier)
    assert isinstance(other, OnnxClassifier)
    assert all(one.passes[kind].session is other.passes[kind].session for kind in GraphKind)


def test_a_version_of_another_backbone_is_refused(onnx: OnnxRuntime) -> None:
    with torch.random.fork_rng():
        vit = VisionTransformer(img_size=64, patch_size=16, embed_dim=64, depth=6, num_heads=2, num_classes=0)
    other = TorchRuntime(Backbone("test_vit", vit, 64, (0.5,) * 3, (0.5,) * 3), torch.device("cpu"))
    with pytest.raises(InvalidCheckpoint, match="learned on"):
        onnx.prepare(sample_version(other.backbone, LOOP))


@pytest.mark.parametrize("left", [0, 1000])
def test_graphs_that_were_cut_short_are_exported_once_more(
    beside: TorchRuntime, tmp_path: Path, left: int
) -> None:
    graphs, version = FlatGraphs(beside, tmp_path), flat_version(beside.backbone, LOOP)
    graphs.export(LOOP)
    for kind in (GraphKind.EVEN, GraphKind.MERGING):
        os.truncate(graphs.path(LOOP, kind), left)
    classifier = OnnxRuntime(beside, graphs, threads=1).prepare(version)
    scores = classifier.classify(images(2), [LOOP.budget] * 2, explain=False).scores
    np.testing.assert_allclose(scores, 1 / 6, rtol=1e-6)
    assert graphs.exported == [LOOP, LOOP]


class TornGraphs(FlatGraphs):
    """Exports graphs of which one is empty."""

    def export(self, loop: LoopConfig) -> None:
        super().export(loop)
        os.truncate(self.path(loop, GraphKind.EVEN), 0)


def test_a_graph_that_cannot_be_opened_when_it_is_new_is_not_exported_for_ever(
    beside: TorchRuntime, tmp_path: Path
) -> None:
    graphs = TornGraphs(beside, tmp_path)
    with pytest.raises(ExportFailed, match="cannot open"):
        OnnxRuntime(beside, graphs, threads=1).prepare(flat_version(beside.backbone, LOOP))
    assert graphs.exported == [LOOP]


def test_loops_that_differ_in_what_is_fed_share_a_graph(graphs: Graphs) -> None:
    assert graphs.path(LOOP, GraphKind.EVEN) == graphs.path(
        LoopConfig((1, 3), 3, 0.4, 0.2, 7), GraphKind.EVEN
    )
    assert len({graphs.path(LOOP, kind) for kind in GraphKind}) == len(GraphKind)
    assert graphs.path(LOOP, GraphKind.EVEN) != graphs.path(LoopConfig((1, 3), 2, 0.4), GraphKind.EVEN)


def test_auto_measures_what_is_on_disk_before_it_answers(
    beside: TorchRuntime, graphs: Graphs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "MEASURE_S", 0.01)
    runtime = AutoRuntime(beside, graphs, threads=1)
    check_equal(
        runtime, beside, sample_version(beside.backbone, LOOP, 12, 6), Budget(3, 0, 4), Budget(1, 0, 2)
    )
    name = runtime.prepare(sample_version(beside.backbone, LOOP, 12, 6)).name
    assert "at batch 1" in name
    assert name.startswith(("onnx cpu", "torch cpu"))
    runtime.close()


def test_without_onnx_auto_is_torch_and_onnx_says_what_is_missing(
    tmp_path: Path, backbone: BackboneSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "NEEDED", ("onnx", "no_such_package"))
    config = ServiceConfig("redis://x", tmp_path, backbone, runtime="auto", device="cpu")
    assert isinstance(load.load_runtime(config, 1), TorchRuntime)
    config = ServiceConfig("redis://x", tmp_path, backbone, runtime="onnx", device="cpu")
    with pytest.raises(ValueError, match="no_such_package"):
        load.load_runtime(config, 1)


def test_onnx_does_not_compute_on_the_cpu_behind_the_back_of_a_gpu(
    tmp_path: Path, backbone: BackboneSpec
) -> None:
    config = ServiceConfig("redis://x", tmp_path, backbone, runtime="onnx", device="meta")
    with pytest.raises(ValueError, match="on meta take torch"):
        load.load_runtime(config, 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_session_for_a_gpu_is_refused_where_there_is_none(graphs: Graphs) -> None:
    """By whichever onnxruntime is installed: itself it would take the CPU without a word."""

    def opened() -> None:
        require_provider(torch.device("cuda"))
        open_session(str(graphs.path(LOOP, GraphKind.MIXED)), 1, torch.device("cuda"))

    with pytest.raises(NoProvider, match="onnxruntime"):
        opened()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_answers_on_a_gpu_as_torch_does_there(graphs: Graphs, backbone: BackboneSpec) -> None:
    beside = TorchRuntime.load(backbone, "cuda", threads=1)
    version = sample_version(beside.backbone, LOOP, slots=12, classes=6)
    check_equal(OnnxRuntime(beside, graphs, threads=1), beside, version, Budget(3, 0, 4), Budget(1, 0, 2))
