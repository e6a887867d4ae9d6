"""Corrections: features that a server kept of its answers, and the labels that people gave them afterwards.

No image comes along, so a correction teaches the head alone. It counts as much as an image of a task does. A feature
means something only in the space that made it: where newer pools have moved the features since, it follows their drift
maps as the class means do, and where the maps do not lead from there to here it is refused rather than guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from exchange.blobs import BlobStore
from exchange.records import Claim
from trainer.intake.images import UnusableTask
from trainer.learning.learner import Learner
from trainer.learning.state import LearnerState


@dataclass(frozen=True, slots=True)
class Correction:
    """Labelled features [n, F] of length one, and the space that each was made in."""

    claim: Claim
    features: Tensor
    labels: tuple[str, ...]
    spaces: tuple[str, ...]


class Unfollowable(UnusableTask):
    """A feature was made by pools from which no drift map leads to those of today."""


def load_correction(claim: Claim, blobs: BlobStore, width: int) -> Correction:
    """Read the features [n, F] a claim names. Raises UnusableTask, BlobMissing, BlobCorrupt and BlobUnreadable."""
    rows = []
    for sample in claim.samples:
        row = np.frombuffer(blobs.get(sample.blob), dtype="<f4")
        if row.shape != (width,) or not np.isfinite(row).all():
            raise UnusableTask(f"feature {sample.blob[:12]} is no vector of {width} finite numbers")
        rows.append(torch.from_numpy(row.copy()))
    labels = tuple(sample.label for sample in claim.samples)
    return Correction(claim, torch.stack(rows), labels, tuple(sample.space or "" for sample in claim.samples))


def correct(learner: Learner, state: LearnerState, corrections: Sequence[Correction]) -> LearnerState:
    """Add corrections to the head. Raises Unfollowable."""
    if not corrections:
        return state
    here = learner.space(state.pools)
    features = torch.cat(
        [
            follow(state, row, space, here)
            for correction in corrections
            for row, space in zip(correction.features.split(1), correction.spaces, strict=True)
        ]
    )
    labels = tuple(label for correction in corrections for label in correction.labels)
    return learner.observe(state, features, labels)


def followable(state: LearnerState, correction: Correction, here: str) -> Correction:
    """The correction as it is. Raises Unfollowable where `correct` would. here: the space of the state's pools."""
    for space in correction.spaces:
        follow(state, correction.features[:0], space, here)
    return correction


def follow(state: LearnerState, features: Tensor, space: str, here: str) -> Tensor:
    """Features [n, F] made in `space`, as the state's pools would make them. Raises Unfollowable."""
    maps: list[Tensor] = []
    for drift in reversed(state.drifts):
        if here == space or drift.after != here:
            break
        maps.append(drift.map)
        here = drift.before
    if here != space:
        raise Unfollowable(
            "it was answered by a version that the present one does not descend from within the last "
            "consolidations; hand the image in as a task instead"
        )
    for map_ in reversed(maps):
        features = F.normalize(features @ map_, dim=-1)
    return features


def learned(
    learner: Learner, state: LearnerState, corrections: Sequence[Correction], remembered: int
) -> LearnerState:
    """The state with corrections learned for good. Raises Unfollowable.

    One that brings a new label counts as a task that taught it, so that it can be forgotten like one. What
    earlier tasks know is to be measured anew before the next one is judged by it: corrections may have cost them some.

    remembered: how many ids of the newest corrections to keep, of one call all of them: one delivered again is not
        counted again, and none is said to be forgotten that was not.
    """
    known = set(state.labels)
    after = correct(learner, state, corrections)
    for correction in corrections:
        if new := set(correction.labels) - known:
            after = after.having_learned(correction.claim.task.id, sorted(new))
            known |= new
    ids = (correction.claim.task.id for correction in corrections)
    newest = (*state.corrected, *ids)[-max(remembered, len(corrections)) :]
    return replace(after, corrected=newest, last={})
