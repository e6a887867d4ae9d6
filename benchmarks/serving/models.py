"""The models under test, each as the `Classifier` that our engine and every other server call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from benchmarks.loop import PlainOnnx, without_slots
from benchmarks.serving.scene import Scene, weights_path
from model.backbone import BackboneIdentity
from model.budget import Budget
from model.checkpoint import Checkpoint
from model.deliberation import LoopConfig
from model.sample import sample_version
from model.spec import BackboneSpec
from service.runtimes.base import Classifier, Output, Runtime
from service.runtimes.graphs import Graphs
from service.runtimes.onnx import OnnxRuntime
from service.runtimes.torch import TorchRuntime


def spec_of(scene: Scene) -> BackboneSpec:
    return BackboneSpec(scene.backbone, weights_path(scene.weights), scene.px)


class Nothing:
    """A model that costs nothing: what is left is the server."""

    name = "nothing"

    def __init__(self, dim: int, classes: int) -> None:
        self._dim, self._classes = dim, classes

    def classify(self, pixels: NDArray[np.uint8], budgets: Sequence[Budget], explain: bool) -> Output:  # noqa: ARG002
        count = len(pixels)
        scores = np.full((count, self._classes), 1 / max(self._classes, 1), dtype=np.float32)
        features = np.zeros((count, self._dim), dtype=np.float32)
        unknown = np.full(count, np.float32(np.nan))
        return Output(scores, unknown, np.zeros((count, 0), dtype=np.int64), features, ())


class Fixed(Runtime):
    """A runtime that has one model, whatever version is asked of it."""

    def __init__(self, beside: TorchRuntime, scene: Scene, version: Checkpoint) -> None:
        self._beside, self._scene, self._version = beside, scene, version

    @property
    def name(self) -> str:
        return self._scene.model

    @property
    def identity(self) -> BackboneIdentity:
        return self._beside.identity

    def empty(self) -> Checkpoint:
        return self._beside.empty()

    def prepare(self, checkpoint: Checkpoint) -> Classifier:
        if not checkpoint.labels:
            return self._beside.prepare(checkpoint)
        return load_model(self._scene, self._beside, self._version)


def load_torch(scene: Scene) -> TorchRuntime:
    return TorchRuntime.load(spec_of(scene), "cpu", scene.threads)


def version_of(scene: Scene, beside: TorchRuntime) -> Checkpoint:
    """Random pools and head: what answers say is not measured here."""
    return sample_version(beside.backbone, LoopConfig(), scene.slots, scene.classes)


def load_model(scene: Scene, beside: TorchRuntime, version: Checkpoint) -> Classifier:
    """The model that `scene.model` names. Raises ValueError for another name."""
    folder, dim = Path(scene.graphs), beside.backbone.dim
    if scene.model == "nothing":
        return Nothing(dim, scene.classes)
    if scene.model == "torch":
        return beside.prepare(without_slots(version, dim))
    if scene.model == "plain":
        return PlainOnnx(beside.backbone, version, folder, scene.threads)
    if scene.model in ("looped", "product"):
        graphs = Graphs(spec_of(scene), beside.identity, folder)
        return OnnxRuntime(beside, graphs, scene.threads).prepare(version)
    raise ValueError(f"model is {scene.model!r}")


def runtime_for(scene: Scene) -> Runtime:
    """What our own server runs, where it is not what --runtime says."""
    beside = load_torch(scene)
    return Fixed(beside, scene, version_of(scene, beside))


def per_second(classifier: Classifier, px: int, batch: int, seconds: float) -> float:
    """Images a second of a model called in a loop with preprocessed images: the bare runtime."""
    pixels = np.random.default_rng(0).integers(0, 255, (batch, 3, px, px), dtype=np.uint8)
    budgets, passes = [LoopConfig().budget] * batch, 0
    for _ in range(3):
        classifier.classify(pixels, budgets, False)
    began = perf_counter()
    while perf_counter() < began + seconds or passes < 5:
        classifier.classify(pixels, budgets, False)
        passes += 1
    return batch * passes / (perf_counter() - began)
