"""The trainer process: waits for its turn, learns what the queue brings, gives back what it holds."""

from __future__ import annotations

import contextlib
import threading
import time

import structlog
import torch

from exchange.blobs import BlobStore
from exchange.connection import connect
from exchange.errors import ExchangeError, ExchangeUnavailable, LeaseLost
from exchange.lease import Lease
from exchange.manifests import BackboneRecord
from exchange.registry import Registry
from exchange.upkeep import explain_waiting
from exchange.work import WorkQueue
from model.backbone import load_backbone
from model.network import RetrievalViT
from trainer.config import TrainerConfig
from trainer.heartbeat import Heartbeat
from trainer.intake.claims import Claims
from trainer.store.restored import restore_records
from trainer.store.shelves import Shelves
from trainer.term import Term

log = structlog.get_logger()

RETRY_S = 1.0
"""Pause before asking again for a lease that another trainer holds, or for a Redis that is away."""
LONGEST_RECONNECT_S = 5.0
"""Longest pause before Redis is tried again."""
LONGEST_RETRY_S = 30.0
"""Longest pause before a store that could not be written, or a version that is damaged, is tried again."""


class Worker:
    """One trainer of several that may wait beside one queue. Only the holder of the lease learns."""

    def __init__(
        self, network: RetrievalViT, queue: WorkQueue, registry: Registry, config: TrainerConfig
    ) -> None:
        self.network, self.queue, self.registry, self.config = network, queue, registry, config
        self.lease = Lease(queue.redis, queue.config.prefix, queue.config.lease_s)
        self.trouble: type[ExchangeError] | None = None
        self.waiting = False
        self.retry_s = RETRY_S

    @classmethod
    def open(cls, config: TrainerConfig) -> Worker:
        """A trainer that has its backbone and knows its store.

        Raises ValueError (UnsupportedBackbone among them), BackboneChanged and FileNotFoundError for settings that
        cannot work.
        """
        if config.threads:
            torch.set_num_threads(config.threads)
        network = RetrievalViT(load_backbone(config.backbone), config.loop).to(config.device)
        redis = connect(config.redis_url)
        queue = WorkQueue(redis, BlobStore(config.store / "blobs"), config.queue)
        registry = Registry(redis, config.store / "versions", config.queue.prefix)
        registry.shelf.check_backbone(BackboneRecord.of(network.backbone.identity))
        log.info("trainer ready", backbone=network.backbone.identity.name, px=network.backbone.px)
        return cls(network, queue, registry, config)

    def run(self, stop: threading.Event) -> None:
        """Work until asked to stop; what is unfinished then goes back to the queue."""
        while not stop.is_set():
            began, pause_s = time.monotonic(), RETRY_S
            try:
                token = self.lease.acquire()
                self.tell_waiting(token is None)
                if token is not None:
                    self.serve(token, stop)
                self.trouble = None
            except LeaseLost as error:
                log.warning("term ended", reason=str(error))
            except ExchangeError as error:
                pause_s = self.back_off(error, steady=time.monotonic() - began > LONGEST_RETRY_S)
            stop.wait(pause_s)

    def tell_waiting(self, waiting: bool) -> None:
        """Say once that another trainer holds the lease."""
        if waiting and not self.waiting:
            log.info("waiting for the lease, which another trainer holds", lease_s=self.lease.ttl_s)
        self.waiting = waiting

    def back_off(self, error: ExchangeError, *, steady: bool) -> float:
        """Say once, in the log and in the tasks that wait, what keeps this trainer from working.

        Returns the seconds until it should try again. steady: it worked until just now.
        """
        if steady or type(error) is not self.trouble:
            self.retry_s = RETRY_S / 2
            log.warning("cannot learn, trying again", reason=str(error))
        self.trouble = type(error)
        if isinstance(error, ExchangeUnavailable):
            longest_s = LONGEST_RECONNECT_S
        else:
            # The store, or what lies in it: somebody has to free the disk, or to activate another version.
            longest_s = LONGEST_RETRY_S
            with contextlib.suppress(ExchangeUnavailable):
                explain_waiting(self.queue, f"waiting: {error}")
        self.retry_s = min(2 * self.retry_s, longest_s)
        return self.retry_s

    def serve(self, token: int, stop: threading.Event) -> None:
        """One term, with everything held given back at its end."""
        heartbeat, claims = Heartbeat(self.lease, token), Claims(self.queue, token, self.config)
        try:
            with heartbeat:
                self.registry.recover()
                if newer := self.registry.readmit():
                    log.warning(
                        "Redis is older than the store: newer versions are listed again", versions=newer
                    )
                shelves = Shelves.open(self.config.store)
                term = Term(self.network, claims, self.registry, shelves, heartbeat, stop)
                base = term.knowledge.base
                restore_records(self.queue, self.registry, base, self.config.keep_tasks)
                log.info("learning", version=base.version, tasks=len(base.state.tasks))
                term.run()
        except ExchangeError:
            claims.give_back()
            raise
        else:
            claims.give_back()
        finally:
            # The heart beats no more: a beat now would renew the lease for a trainer that is gone.
            # After any other error nothing is given back, and the queue counts it against what was being worked on: a
            # task that brings the trainer down three times is a dead letter, not a loop.
            # A lease that Redis cannot be told of now is taken over by this trainer when Redis is back.
            with contextlib.suppress(ExchangeUnavailable):
                self.lease.release(token)
