"""Makes a version ready to answer: reads it, checks it, prepares its tensors, warms a loop that is new."""

from __future__ import annotations

import threading

import structlog

from exchange.errors import VersionNotFound, VersionUnreadable
from exchange.manifests import SERVING, Manifest
from exchange.shelf import Shelf
from model.checkpoint import Checkpoint
from model.deliberation import LoopConfig
from service.engine.batching import Engine
from service.engine.snapshot import Snapshot
from service.runtimes.base import Classifier, Runtime, fault_of, grey_images, passes_of

log = structlog.get_logger(__name__)

WARM_UP_S = 120.0
READ_PAUSES_S = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Pauses between attempts to read a version, before it is refused: a shared disk may show files after the pointer."""
MISSING = (VersionNotFound, VersionUnreadable, OSError)
"""What the disk does not give, or not yet. Unlike damage, this may pass by itself."""


class VersionRefused(Exception):
    """A version cannot be served; the message says why."""


class Loader:
    """From a version's number to a snapshot. stop: set where nothing more is to be waited for."""

    def __init__(self, shelf: Shelf, runtime: Runtime, engine: Engine, stop: threading.Event) -> None:
        self._shelf, self._runtime, self._engine, self._stop = shelf, runtime, engine, stop
        self._warmed: set[tuple[LoopConfig, bool]] = set()
        """See `passes_of`."""

    def load(self, version: int) -> Snapshot:
        """A version read, checked and warmed. Raises whatever says that it cannot be."""
        manifest, checkpoint = self._read_patiently(version)
        check_agreement(manifest, checkpoint)
        classifier = self._runtime.prepare(checkpoint)
        passes = passes_of(checkpoint)
        if passes not in self._warmed:
            warmed = self._engine.call(lambda: warm(classifier, checkpoint, self._runtime.identity.px))
            warmed.result(WARM_UP_S)
            self._warmed.add(passes)
        return Snapshot.of(manifest, checkpoint, classifier)

    def _read_patiently(self, version: int) -> tuple[Manifest, Checkpoint]:
        """What lies on the disk of a version. Raises what the last reading raised; damage at once."""
        for pause_s in READ_PAUSES_S:
            try:
                return self._read(version)
            except MISSING as error:
                log.warning("version cannot be read, trying on", version=version, reason=str(error))
            if self._stop.wait(pause_s):
                break
        return self._read(version)

    def _read(self, version: int) -> tuple[Manifest, Checkpoint]:
        self._shelf.verify(version, SERVING)
        return self._shelf.manifest(version), Checkpoint.load(self._shelf.path(version, SERVING))


def check_agreement(manifest: Manifest, checkpoint: Checkpoint) -> None:
    """Raise VersionRefused when a manifest promises other contents than its file holds."""
    if manifest.labels != checkpoint.labels:
        raise VersionRefused("the manifest and the file name different labels")
    if manifest.slots != checkpoint.pools.slots:
        raise VersionRefused(f"the manifest counts {manifest.slots} slots, the file {checkpoint.pools.slots}")


def warm(classifier: Classifier, checkpoint: Checkpoint, px: int) -> None:
    """One real forward pass, in the engine's thread. Raises VersionRefused unless it gives probabilities."""
    output = classifier.classify(grey_images(px), [checkpoint.loop.budget], explain=False)
    if (fault := fault_of(output, len(checkpoint.labels))) is not None:
        raise VersionRefused(f"warm-up gave {fault}")
