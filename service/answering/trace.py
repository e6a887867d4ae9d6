"""The retrieval trace of an answer: which slots each layer recalled, and how its query moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from service.runtimes.base import LayerTrace, Output


class MixedSlot(BaseModel):
    """A slot and what it gave to a step."""

    slot: int = Field(description="Its place in the pool, from 0.")
    task: str = Field(description="The task that brought the slot.")
    weight: float = Field(description="Its share of the recall; those of a step sum to 1.")


class LayerTraceAnswer(BaseModel):
    """Every list has an entry a step really taken."""

    layer: int = Field(description="Counted from 1.")
    steps: list[list[MixedSlot]] = Field(description="The slots each step mixed, best first.")
    moved: list[float] = Field(
        description="How far each step moved the recall from the one before, which is what `epsilon` is "
        "compared with; 0 for the first."
    )
    cosines: list[float] = Field(description="Cosine of each step's query with the first one.")
    path: list[tuple[float, float]] = Field(
        description="The queries on the plane that keeps most of their way, the first at (0, 0); a query has length 1."
    )


def trace(slot_tasks: Sequence[str], output: Output, row: int) -> list[dict[str, Any]]:
    """What `LayerTraceAnswer` describes, for the image in one row of a batch."""
    return [layer_answer(slot_tasks, layer, row) for layer in output.trace]


def layer_answer(slot_tasks: Sequence[str], layer: LayerTrace, row: int) -> dict[str, Any]:
    used = np.flatnonzero(layer.used[row])
    slots, weights = layer.slots[row][used].tolist(), layer.weights[row][used].tolist()
    queries = layer.queries[row][used]
    queries = queries / np.linalg.norm(queries, axis=-1, keepdims=True)
    return {
        "layer": layer.layer,
        "steps": [
            [{"slot": s, "task": slot_tasks[s], "weight": w} for s, w in zip(*step, strict=True) if w > 0]
            for step in zip(slots, weights, strict=True)
        ],
        "moved": layer.moved[row][used].tolist(),
        "cosines": (queries @ queries[0]).tolist(),
        "path": flatten(queries).tolist(),
    }


def flatten(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """[T, d] -> [T, 2]: principal plane of the way from the first point. Its largest coordinates are positive."""
    way = points - points[0]
    axes, spread, _ = np.linalg.svd(way, full_matrices=False)
    plane = np.zeros((len(points), 2), dtype=np.float32)
    kept = min(2, len(spread))
    plane[:, :kept] = axes[:, :kept] * spread[:kept]
    largest = plane[np.abs(plane).argmax(axis=0), np.arange(2)]
    plane = plane - plane[0]  # zero but for rounding
    return np.where(largest < 0, -plane, plane)
