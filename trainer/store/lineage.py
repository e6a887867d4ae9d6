"""What this trainer builds on: the learner state behind the version that is being served."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from exchange.errors import (
    BackboneChanged,
    LoopChanged,
    NotCanary,
    StoreUnavailable,
    VersionCorrupt,
    VersionNotFound,
    VersionUnreadable,
    told_of,
)
from exchange.manifests import LEARNER, SERVING, BackboneRecord, Draft, Manifest
from exchange.registry import Registry
from model.checkpoint import InvalidCheckpoint
from trainer.learning.epochs import EPOCH_FORMAT
from trainer.learning.learner import Learner
from trainer.learning.state import LearnerState

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Base:
    """A learner state and the version the next one replaces.

    version: None before the first.  consolidated: the version that holds the state; None for what nobody has saved.
    """

    state: LearnerState
    version: int | None
    consolidated: int | None = None


class Lineage:
    """Loads and publishes versions. A fast version holds no learner state: it is its parent's plus a head."""

    def __init__(self, registry: Registry, learner: Learner) -> None:
        self.registry, self.learner = registry, learner
        self.backbone = BackboneRecord.of(learner.network.backbone.identity)

    def load(self) -> Base:
        """The state behind the version now served, be it the newest or one somebody rolled back to.

        Should Redis know none any more, the newest on disk is served again: nothing that was learned is to be lost.
        Raises BackboneChanged and LoopChanged when it was learned on another backbone, or its slots in another loop;
        VersionCorrupt, VersionNotFound and VersionUnreadable when a file is damaged, gone or not given: activating
        another version heals all of these, and putting the file back what was missing.
        """
        version = current = self.registry.recover()
        while version is not None:
            manifest = self.registry.shelf.manifest(version)
            if manifest.backbone != self.backbone:
                raise BackboneChanged(
                    f"version {version} was learned on {manifest.backbone}, not on {self.backbone}; "
                    "activate a version that was, or train on that backbone"
                )
            if LEARNER in manifest.files:
                self.registry.shelf.verify(version, LEARNER)
                return Base(self.read(version), current, version)
            version = manifest.below
        return Base(self.learner.start(), current)

    def read(self, version: int) -> LearnerState:
        """Raises LoopChanged, VersionCorrupt and VersionUnreadable."""
        try:
            state = LearnerState.load(self.registry.shelf.path(version, LEARNER))
        except InvalidCheckpoint as error:
            raise VersionCorrupt(f"version {version} cannot be built on: {error}") from error
        except OSError as error:  # gone since it was verified
            raise VersionUnreadable(f"version {version} cannot be read: {told_of(error)}") from error
        try:
            return self.learner.resumed(state)
        except ValueError as error:
            raise LoopChanged(f"version {version} cannot be built on: {error}") from error

    def publish(
        self,
        base: Base,
        serving: LearnerState,
        fast: Mapping[str, Sequence[str]],
        metrics: dict[str, float],
        consolidated: bool,
        lease_token: int,
    ) -> Manifest:
        """Publish `serving` for the servers and, when a task was consolidated, the base state beside it.

        fast: of the tasks that only the head knows, by id, the labels of each.
        Raises PointerMoved when another version was activated since `base` was loaded, LeaseLost when another
        trainer has taken over.
        """
        files = {SERVING: self.learner.checkpoint(serving).save}
        if consolidated:
            files[LEARNER] = base.state.save
        draft = Draft(
            kind="consolidated" if consolidated else "fast",
            parent=base.version,
            backbone=self.backbone,
            labels=serving.labels,
            consolidated=base.state.tasks,
            fast=tuple(fast),
            slots=serving.pools.slots,
            metrics=metrics,
            base=None if consolidated else base.consolidated or 0,
            images=tuple(round(count) for count in serving.moments.counts.tolist()),
            taught=places({**base.state.taught, **fast}, serving.labels),
        )
        return self.registry.publish(draft, files, lease_token)

    def basis(self, state: LearnerState, *more: object) -> str:
        """A hash of all that training on top of a state depends on, except the task's images.

        more: what else it depends on; its repr goes into the hash.
        """
        learned = state.tasks, state.labels, state.images, state.pools.slot_tasks
        settings = EPOCH_FORMAT, self.learner.space(state.pools), self.learner.config, more
        return hashlib.sha256(repr((settings, learned)).encode()).hexdigest()

    def current(self) -> int | None:
        """The version being served."""
        return self.registry.current()

    def fast_tasks(self, version: int | None) -> tuple[str, ...]:
        """The tasks that only the head of a version knows.

        Raises VersionError.
        """
        return () if version is None else self.registry.shelf.manifest(version).fast

    def end_canary_of(self, task: str) -> None:
        """Let no canary answer that knows a task. Raises VersionUnreadable where the disk does not tell."""
        self._end_canary(lambda manifest: task in manifest.applied)

    def end_canary_with(self, label: str) -> None:
        """Let no canary answer with a label. Raises VersionUnreadable where the disk does not tell."""
        self._end_canary(lambda manifest: label in manifest.labels)

    def _end_canary(self, knows: Callable[[Manifest], bool]) -> None:
        while (canary := self.registry.canary()) is not None and self._may_know(canary.version, knows):
            with suppress(NotCanary):  # somebody has chosen another one meanwhile
                self.registry.set_canary(canary.version, 0)

    def _may_know(self, version: int, knows: Callable[[Manifest], bool]) -> bool:
        """True too for a version whose manifest is gone or damaged: a server that had loaded it answers on.

        Raises VersionUnreadable.
        """
        try:
            return knows(self.registry.shelf.manifest(version))
        except (VersionNotFound, VersionCorrupt):
            return True

    def prune(self, keep: int) -> None:
        """Drop old versions, keeping `keep` to roll back to. What the disk refuses now is dropped another time."""
        try:
            self.registry.prune(keep)
        except (StoreUnavailable, VersionUnreadable) as error:
            log.warning("old versions stay for now", reason=str(error))


def places(taught: Mapping[str, Sequence[str]], labels: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Of each task that taught some of the labels, by id, where these stand among them."""
    place_of = {label: place for place, label in enumerate(labels)}
    placed = {
        task: tuple(place_of[label] for label in own if label in place_of) for task, own in taught.items()
    }
    return {task: own for task, own in placed.items() if own}
