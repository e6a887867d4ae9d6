"""One version, whole and unchanging, and the single reference through which the engine sees it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from exchange.records import Manifest
from model.budget import Budget
from model.checkpoint import Checkpoint
from model.deliberation import LoopConfig
from service.problems import refused
from service.runtimes import Classifier


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

    def clamp(self, budget: Budget) -> Budget:
        """What this version can give of a budget that may have been checked against another version."""
        if budget.tmax <= self.loop.tmax and budget.topk <= self.most_slots:
            return budget
        return replace(budget, tmax=min(budget.tmax, self.loop.tmax), topk=min(budget.topk, self.most_slots))


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


def budget_for(
    snapshot: Snapshot, tmax: int | None, epsilon: float | None, topk: int | None, keep: float | None = None
) -> Budget:
    """A request's budget, the version's own where it names nothing. Raises Problem past what it can give."""
    loop = snapshot.loop
    if tmax is not None and not 1 <= tmax <= loop.tmax:
        raise refused("tmax", tmax, f"lie in 1..{loop.tmax}")
    if topk is not None and not 1 <= topk <= snapshot.most_slots:
        raise refused("topk", topk, f"lie in 1..{snapshot.most_slots}")
    default = loop.budget
    return Budget(
        tmax=default.tmax if tmax is None else tmax,
        epsilon=default.epsilon if epsilon is None else epsilon,
        topk=default.topk if topk is None else topk,
        keep=default.keep if keep is None else keep,
    )
