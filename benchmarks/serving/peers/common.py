"""What all of them share: the scene, and the same decoding and model as ours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.serving.models import load_model, load_torch, version_of
from benchmarks.serving.scene import Scene
from model.deliberation import LoopConfig
from model.preprocess import decode

MAX_PIXELS = 50_000_000


class Model:
    """Encoded images in, the five best classes of each out."""

    def __init__(self, scene: Scene) -> None:
        beside = load_torch(scene)
        self.px = beside.identity.px
        self._model = load_model(scene, beside, version_of(scene, beside))
        self._budget = LoopConfig().budget

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        return decode(data, self.px, MAX_PIXELS)

    def answer(self, pixels: Sequence[NDArray[np.uint8]]) -> list[list[dict[str, float]]]:
        scores = self._model.classify(np.stack(pixels), [self._budget] * len(pixels), False).scores
        return [best(row) for row in scores]


def best(row: NDArray[np.float32]) -> list[dict[str, float]]:
    """The five best labels with their scores."""
    columns = np.argpartition(row, -5)[-5:]
    columns = columns[np.argsort(-row[columns])]
    return [{"label": int(column), "score": float(row[column])} for column in columns]
