"""Follows the version pointer: has a version made ready, then swaps one reference.

A version that fails on the way is reported and never served; the one before it stays. Redis may go away for
as long as it likes: the watcher keeps trying, more slowly, and the version in memory keeps answering.
"""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import dataclass
from time import monotonic, perf_counter

import structlog

from exchange.errors import ExchangeUnavailable, VersionUnreadable, told_of
from exchange.manifests import Canary
from exchange.moves import Moves
from exchange.registry import Registry
from service.engine.batching import Engine
from service.engine.loading import MISSING, Loader
from service.engine.snapshot import CanarySnapshot, Served, Snapshot
from service.metrics import Metrics
from service.runtimes.base import Runtime

log = structlog.get_logger(__name__)

WAIT_S = 1.0
FIRST_RETRY_S = 0.1
LAST_RETRY_S = 5.0
AGAIN_S = 30.0
"""After so long a version refused because the disk did not give it is tried again: some take a minute to show one."""
KEPT_REFUSALS = 20


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
        self._registry, self._runtime = registry, runtime
        self._served, self._metrics = served, metrics
        self._stop = threading.Event()
        self._loader = Loader(registry.shelf, runtime, engine, self._stop)
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self.refusals: tuple[Refusal, ...] = ()
        self.unserved: Refusal | None = None
        """Why nothing is served though the registry points to a version; None where something is."""
        self._followed: int | None = None
        """The version that the registry pointed to when it was followed last."""
        self._canary: Canary | None = None
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
        retry_s = FIRST_RETRY_S
        with closing(Moves(self._registry)) as moves:
            while not self._stop.is_set():
                try:
                    self._look(moves)
                except Exception as error:  # nothing may end this thread
                    if retry_s == FIRST_RETRY_S:
                        log.warning("cannot follow the registry, trying on", reason=str(error))
                    self._stop.wait(retry_s)
                    retry_s = min(2 * retry_s, LAST_RETRY_S)
                else:
                    if retry_s > FIRST_RETRY_S:
                        log.info("following the registry again")
                    retry_s = FIRST_RETRY_S

    def _look(self, moves: Moves) -> None:
        """Wait for the pointer to move, up to `WAIT_S`, and follow it and the canary. Raises ExchangeUnavailable."""
        if self._again is not None and monotonic() > self._again:
            self._try_again()
        waits = self.caught_up or self.lost
        pointer = moves.wait(self._followed, WAIT_S) if waits else self._registry.current()
        if pointer is not None and pointer != self._followed:
            self._follow(pointer)
            self._followed = pointer
        self._follow_canary()
        if not self.caught_up:
            self._catch_up(pointer)

    def _try_again(self) -> None:
        """Follow once more what was followed already: the disk did not give all of it."""
        self._followed = self._again = None
        # A canary that answers needs no second try, and has to be remembered for its end to be noticed.
        if self._served.canary is None:
            self._canary = None

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
            snapshot = self._loader.load(version)
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
