"""One version, whole and unchanging, and the single reference through which the engine sees it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from exchange.manifests import Manifest
from model.budget import Budget
from model.checkpoint import Checkpoint
from model.deliberation import LoopConfig
from service.http.problems import refused
from service.runtimes.base import Classifier


@dataclass(frozen=True, slots=True)
class Asked:
    """The budget that a request names; None where it leaves a knob to the version that answers. See `Budget`."""

    tmax: int | None = None
    epsilon: float | None = None
    topk: int | None = None
    keep: float | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A version laid out for the runtime. Whoever holds one may use it for as long as they like.

    columns: the head's column of each label.  slot_tasks: [M], the task that brought each slot.
    space: which features are comparable with those of this version; see `Checkpoint.space`.
    """

    version: int
    manifest: Manifest
    loop: LoopConfig
    labels: tuple[str, ...]
    columns: Mapping[str, int]
    slot_tasks: tuple[str, ...]
    space: str
    classifier: Classifier

    @classmethod
    def of(cls, manifest: Manifest, checkpoint: Checkpoint, classifier: Classifier) -> Snapshot:
        return cls(
            version=manifest.version,
            manifest=manifest,
            loop=checkpoint.loop,
            labels=checkpoint.labels,
            columns={label: column for column, label in enumerate(checkpoint.labels)},
            slot_tasks=checkpoint.pools.slot_tasks,
            space=checkpoint.space,
            classifier=classifier,
        )

    @property
    def most_slots(self) -> int:
        """The largest topk a request may name: the slots there are, or the default while there are fewer."""
        return max(len(self.slot_tasks), self.loop.topk)

    def grant(self, asked: Asked) -> Budget:
        """What this version gives: its own where nothing is asked, and else what it can, since what was asked may have
        been checked against another version."""
        own = self.loop.budget
        return Budget(
            tmax=own.tmax if asked.tmax is None else min(asked.tmax, self.loop.tmax),
            epsilon=own.epsilon if asked.epsilon is None else asked.epsilon,
            topk=own.topk if asked.topk is None else min(asked.topk, self.most_slots),
            keep=own.keep if asked.keep is None else asked.keep,
        )

    def check(self, asked: Asked) -> None:
        """Raise Problem where more is asked than this version can give."""
        if asked.tmax is not None and not 1 <= asked.tmax <= self.loop.tmax:
            raise refused("tmax", asked.tmax, f"lie in 1..{self.loop.tmax}")
        if asked.topk is not None and not 1 <= asked.topk <= self.most_slots:
            raise refused("topk", asked.topk, f"lie in 1..{self.most_slots}")


@dataclass(frozen=True, slots=True)
class CanarySnapshot:
    """The canary, and its share of the requests, 0 to 1."""

    snapshot: Snapshot
    share: float


class Served:
    """The version being served, and the canary beside it. Only the watcher writes them.

    Readers take a snapshot once and keep it.
    """

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None
        self.canary: CanarySnapshot | None = None

    def loaded(self, version: int) -> Snapshot | None:
        """A version that is in memory, whatever became of its files: the one that is served, or the canary."""
        serving, canary = self.snapshot, self.canary
        if serving is not None and serving.version == version:
            return serving
        return canary.snapshot if canary is not None and canary.snapshot.version == version else None

    def at(self, bucket: float) -> Snapshot | None:
        """The version for a request of this bucket, 0 to 1; see `bucket_of`."""
        canary = self.canary
        return canary.snapshot if canary is not None and bucket < canary.share else self.snapshot


NEVER_CANARY = 1.0
"""The bucket of a request that the canary never answers."""


def bucket_of(images: Iterable[bytes]) -> float:
    """Where the hash of a request's images falls, 0 to 1: spread evenly, and the same whenever it comes again."""
    digest = hashlib.blake2b(digest_size=8)
    for image in images:
        digest.update(image)
    return int.from_bytes(digest.digest()) / 2**64
