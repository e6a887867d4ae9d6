"""What computes the forward pass, behind two small protocols.

A `Runtime` is built once per process and owns the backbone. A `Classifier` is one version laid out for it: a
swap makes a new one and drops the old, and never touches the runtime.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.backbone import BackboneIdentity
from model.budget import Budget
from model.checkpoint import Checkpoint
from model.deliberation import LoopConfig


@dataclass(frozen=True, slots=True)
class LayerTrace:
    """What one layer's loop recalled, for a batch of B samples, T steps, k slots kept.

    layer: counted from 1.
    used: [B, T] bool, the steps each sample took.
    slots: [B, T, k] int64, best first.
    weights: [B, T, k] float32, how much of each slot was mixed in.
    queries: [B, T, d] float32, what each step asked.
    moved: [B, T] float32, |v_t - v_t-1|, how far each step moved the recall; 0 for the first.
    """

    layer: int
    used: NDArray[np.bool_]
    slots: NDArray[np.int64]
    weights: NDArray[np.float32]
    queries: NDArray[np.float32]
    moved: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Output:
    """A batch, answered.

    scores: [B, C] float32 probabilities.  steps: [B, L] int64.  trace: L layers, or none unless asked.
    familiarity: [B] float32, see `model.familiarity`; NaN where the version cannot tell.
    features: [B, F] float32 of length one, what a head may be taught from; NaN where it may not,
        see `as_taught`.
    """

    scores: NDArray[np.float32]
    familiarity: NDArray[np.float32]
    steps: NDArray[np.int64]
    features: NDArray[np.float32]
    trace: tuple[LayerTrace, ...]


def joined(outputs: Sequence[Output]) -> Output:
    """Passes without a trace as if they had been one."""
    return Output(
        scores=np.concatenate([each.scores for each in outputs]),
        familiarity=np.concatenate([each.familiarity for each in outputs]),
        steps=np.concatenate([each.steps for each in outputs]),
        features=np.concatenate([each.features for each in outputs]),
        trace=(),
    )


def as_taught(
    features: NDArray[np.float32], budgets: Sequence[Budget], full: Budget, slots: int
) -> NDArray[np.float32]:
    """Features [B, F], with NaN in the rows that no head may be taught from.

    A learner takes features within `full`, the loop's own budget. Under any other they lie elsewhere: fewer steps or
    slots, an early stop and merged tokens all move them. Without slots there is no loop, and only merging does.
    """
    elsewhere = [budget.keep != full.keep or (slots > 0 and budget != full) for budget in budgets]
    if not any(elsewhere):
        return features
    return np.where(np.array(elsewhere)[:, None], np.float32(np.nan), features)


class Classifier(Protocol):
    """One version, ready to answer. Used from the engine's thread only, but for its name."""

    @property
    def name(self) -> str:
        """What computes its answers, in words: as reported by /versions."""

    def classify(self, pixels: NDArray[np.uint8], budgets: Sequence[Budget], explain: bool) -> Output:
        """pixels [B, 3, px, px], a budget a sample -> scores. No sample changes another one's answer."""


class Runtime(Protocol):
    """A backbone on a device. Runtimes inherit it: most measure nothing and do nothing in the background."""

    @property
    def name(self) -> str:
        """The same, while no version is served."""

    @property
    def identity(self) -> BackboneIdentity:
        """The backbone, its size and its hash: what a version must have been learned on."""

    def empty(self) -> Checkpoint:
        """A checkpoint that knows no class and recalls nothing, to warm the backbone with."""

    def prepare(self, checkpoint: Checkpoint) -> Classifier:
        """Lay a version out for this runtime, from any thread. Raises InvalidCheckpoint.

        One without labels by whatever takes no time: nobody can ask it anything.
        """

    def opened(self) -> None:
        """Requests come from now on: `prepare` measures nothing first, as new classes wait for it."""
        return

    def close(self) -> None:
        """End what it does in the background, and what a thread waits for in `prepare`. Again does no harm."""
        return


def passes_of(checkpoint: Checkpoint) -> tuple[LoopConfig, bool]:
    """What the shape of a forward pass depends on: versions that agree in it differ in their tensors alone."""
    return checkpoint.loop, checkpoint.pools.slots > 0


def grey_images(px: int, count: int = 1) -> NDArray[np.uint8]:
    """[count, 3, px, px], to try or to time a version with."""
    return np.full((count, 3, px, px), 127, dtype=np.uint8)


def fault_of(output: Output, labels: int) -> str | None:
    """What is wrong with the scores of one image, None when they are probabilities of so many labels."""
    scores = output.scores
    if scores.shape != (1, labels):
        return f"scores of shape {scores.shape} for {labels} labels"
    if output.familiarity.shape != (1,):
        return f"familiarity of shape {output.familiarity.shape} for one image"
    if labels and not (np.isfinite(scores).all() and abs(float(scores.sum()) - 1) < 1e-2):
        return "scores that are no probabilities"
    return None
