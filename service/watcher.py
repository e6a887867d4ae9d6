"""Follows the version pointer: loads and checks a version, warms a new loop, then swaps one reference.

A version that fails on the way is reported and never served; the one before it stays. Redis may go away for
as long as it likes: the watcher keeps trying, more slowly, and the version in memory keeps answering.
"""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import dataclass
from time import monotonic, perf_counter

import structlog

from exchange.errors import ExchangeUnavailable, VersionNotFound, VersionUnreadable, told_of
from exchange.moves import Moves
from exchange.records import SERVING, Canary, Manifest
from exchange.registry import Registry
from model.checkpoint import Checkpoint
from model.deliberation import LoopConfig
from service.engine import Engine
from service.metrics import Metrics
from service.runtimes.base import Classifier, Runtime, fault_of, grey_images, passes_of
from service.snapshot import CanarySnapshot, Served, Snapshot

log = structlog.get_logger(__name__)

WAIT_S = 1.0
FIRST_RETRY_S = 0.1
LAST_RETRY_S = 5.0
WARM_UP_S = 120.0
READ_PAUSES_S = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Pauses between attempts to read a version, before it is refused: a shared disk may show files after the pointer."""
AGAIN_S = 30.0
"""After so long a version refused because the disk did not give it is tried again: some take a minute to show one."""
KEPT_REFUSALS = 20
MISSING = (VersionNotFound, VersionUnreadable, OSError)
"""What the disk does not give, or not yet. Unlike damage, this may pass by itself."""


class VersionRefused(Exception):
    """A version cannot be served; the message says why."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a version is not served."""

    version: int
    reason: str


class Watcher:
    """A thread between the registry and `Served`. `start` and `stop` once each."""

    def __init__(
        self, registry: Registry, runtime: Runtime, engine: Engine, served: Served, metrics: Metrics
    ) -> None:
        self._registry = registry
        self._runtime = runtime
        self._engine = engine
        self._served = served
        self._metrics = metrics
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self.refusals: tuple[Refusal, ...] = ()
        self.unserved: Refusal | None = None
        """Why nothing is served though the registry points to a version; None where something is."""
        self._canary: Canary | None = None
        self._warmed: set[tuple[LoopConfig, bool]] = set()
        """See `passes_of`."""
        self._again: float | None = None
        """`monotonic` time at which to try again what the disk did not give; None while it gave everything."""
        self.caught_up = False
        """True once the registry was read and what it pointed to was served or refused."""
        self.lost = False
        """True while it never pointed to a version though the store holds some: Redis was lost, not yet recovered."""

    def start(self) -> None:
        self._thread.start()

    def leave_off(self) -> None:
        """Begin nothing more. What fails from now on is no fault of a version."""
        self._stop.set()

    def stop(self) -> None:
        """Returns once the thread has ended, at most about `WAIT_S` later."""
        self.leave_off()
        self._thread.join()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        with closing(Moves(self._registry)) as moves:
            self._follow_moves(moves)

    def _follow_moves(self, moves: Moves) -> None:
        seen: int | None = None
        retry_s = FIRST_RETRY_S
        while not self._stop.is_set():
            try:
                if self._again is not None and monotonic() > self._again:
                    seen = self._again = None
                    # A canary that answers needs no second try, and has to be remembered for its end to be noticed.
                    if self._served.canary is None:
                        self._canary = None
                pointer = (
                    moves.wait(seen, WAIT_S) if self.caught_up or self.lost else self._registry.current()
                )
                if pointer is not None and pointer != seen:
                    self._follow(pointer)
                    seen = pointer
                self._follow_canary()
                if not self.caught_up:
                    self._catch_up(pointer)
                if retry_s > FIRST_RETRY_S:
                    log.info("following the registry again")
                retry_s = FIRST_RETRY_S
            except Exception as error:  # nothing may end this thread
                if retry_s == FIRST_RETRY_S:
                    log.warning("cannot follow the registry, trying on", reason=str(error))
                self._stop.wait(retry_s)
                retry_s = min(2 * retry_s, LAST_RETRY_S)

    def _catch_up(self, pointer: int | None) -> None:
        """Let requests come, unless what was learned is still to be recovered. Raises VersionUnreadable."""
        self.lost = pointer is None and self._registry.shelf.newest() is not None
        if not self.lost:
            self._runtime.opened()
            self.caught_up = True

    def _follow(self, version: int) -> None:
        """Serve a version or report why not. Raises ExchangeUnavailable."""
        serving = self._served.snapshot
        if serving is not None and serving.version == version:
            return
        began = perf_counter()
        snapshot = self._load_or_refuse(version)
        if snapshot is None and self._served.snapshot is None:
            self.unserved = next(
                (found for found in reversed(self.refusals) if found.version == version), None
            )
            snapshot = self._newest_but(version)
        if snapshot is None:
            return
        self._let_answer(snapshot, self._served.canary)
        self.unserved = None
        self._metrics.swap.observe(perf_counter() - began)
        log.info(
            "version served",
            version=snapshot.version,
            labels=len(snapshot.labels),
            slots=len(snapshot.slot_tasks),
        )

    def _newest_but(self, refused: int) -> Snapshot | None:
        """Where nothing is served yet, the newest version before a refused one is better than none."""
        try:
            manifests = self._registry.manifests()
        except VersionUnreadable:  # nor does the disk give that one
            return None
        for manifest in manifests:
            if manifest.version < refused and (snapshot := self._load_or_refuse(manifest.version)):
                return snapshot
        return None

    def _follow_canary(self) -> None:
        """Let the canary answer its share, as far as it can be served. Raises ExchangeUnavailable."""
        canary = self._registry.canary()
        if canary == self._canary:
            return
        known = self._served.canary
        if canary is None:
            snapshot = None
        elif known is not None and known.snapshot.version == canary.version:
            snapshot = known.snapshot
        else:
            snapshot = self._load_or_refuse(canary.version)
        able = CanarySnapshot(snapshot, canary.share) if canary and snapshot and snapshot.labels else None
        self._let_answer(self._served.snapshot, able)
        self._canary = canary
        log.info("canary", version=canary and canary.version, share=canary and canary.share)

    def _let_answer(self, serving: Snapshot | None, canary: CanarySnapshot | None) -> None:
        """The metrics know first, so that the first answer of a version is counted."""
        if serving is not None:
            self._metrics.served(serving.version, canary.snapshot.version if canary else None)
        self._served.snapshot, self._served.canary = serving, canary

    def _load_or_refuse(self, version: int) -> Snapshot | None:
        """A version ready to answer; None for one that cannot, which is reported. Raises ExchangeUnavailable."""
        try:
            snapshot = self._load(version)
        except ExchangeUnavailable:
            raise
        except Exception as error:  # exporters and runtimes raise what they like, and would again
            if self._stop.is_set():  # an export that was ended, say
                return None
            if isinstance(error, MISSING):
                self._again = monotonic() + AGAIN_S
            refusal = Refusal(version, told_of(error))
            told = self._again is not None and refusal in self.refusals
            if not told:  # once, however often it is tried
                self._report_refusal(refusal)
            return None
        self.refusals = tuple(refusal for refusal in self.refusals if refusal.version != version)
        return snapshot

    def _report_refusal(self, refusal: Refusal) -> None:
        self.refusals = (*self.refusals, refusal)[-KEPT_REFUSALS:]
        serving = self._served.snapshot.version if self._served.snapshot else None
        log.error("version refused", version=refusal.version, reason=refusal.reason, serving=serving)

    def _load(self, version: int) -> Snapshot:
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
        shelf = self._registry.shelf
        shelf.verify(version, SERVING)
        return shelf.manifest(version), Checkpoint.load(shelf.path(version, SERVING))


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
