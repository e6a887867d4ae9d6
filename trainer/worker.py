"""The trainer process: waits for its turn, learns what the queue brings, gives back what it holds."""

from __future__ import annotations

import contextlib
import threading

import structlog
import torch

from exchange.blobs import BlobStore
from exchange.connection import connect
from exchange.errors import ExchangeUnavailable, LeaseLost
from exchange.lease import Lease
from exchange.queue import TaskQueue
from exchange.records import Claim
from exchange.registry import Registry
from exchange.upkeep import drop_idle_consumers, prune_tasks, sweep_blobs
from model.backbone import load_backbone
from model.network import RetrievalViT
from trainer.heartbeat import Heartbeat
from trainer.learner import Learner
from trainer.lineage import Lineage
from trainer.process import TrainerConfig
from trainer.term import Term

log = structlog.get_logger()

RETRY_S = 1.0
"""Pause before asking again for a lease that another trainer holds, or for a Redis that is away."""


class Worker:
    """One trainer of several that may wait beside one queue. Only the holder of the lease learns."""

    def __init__(self, learner: Learner, queue: TaskQueue, registry: Registry, config: TrainerConfig) -> None:
        self.learner, self.queue, self.registry, self.config = learner, queue, registry, config
        self.lease = Lease(queue.redis, queue.config.prefix, queue.config.lease_s)

    def run(self, stop: threading.Event) -> None:
        """Work until asked to stop; what is unfinished then goes back to the queue."""
        reachable = True
        while not stop.is_set():
            try:
                token = self.lease.acquire()
                reachable = True
                if token is not None:
                    self.serve(token, stop)
            except LeaseLost as error:
                log.warning("term ended", reason=str(error))
            except ExchangeUnavailable as error:
                if reachable:
                    log.warning("queue unreachable, waiting", reason=str(error))
                reachable = False
            stop.wait(RETRY_S)

    def serve(self, token: int, stop: threading.Event) -> None:
        """One term, with everything held given back at its end."""
        self.registry.recover()
        lineage = Lineage(self.registry, self.learner)
        with Heartbeat(self.queue, self.lease, token) as heartbeat:
            try:
                term = Term(self.learner, self.queue, lineage, heartbeat, self.config, stop)
                log.info("learning", version=term.base.version, tasks=len(term.base.state.tasks))
                self.tidy()
                term.run()
            except (LeaseLost, ExchangeUnavailable):
                self.give_back(heartbeat.claims)
                raise
            else:
                self.give_back(heartbeat.claims)
            finally:
                # After any other error the claims run out instead, so that the queue counts the delivery: a task
                # that brings the trainer down three times is a dead letter, not a loop.
                with contextlib.suppress(ExchangeUnavailable):
                    self.lease.release(token)

    def tidy(self) -> None:
        """Drop records and images nobody needs any more."""
        prune_tasks(self.queue, self.config.keep_tasks)
        sweep_blobs(self.queue)
        drop_idle_consumers(self.queue)

    def give_back(self, claims: list[Claim]) -> None:
        """Return unfinished tasks, as far as Redis can be reached and they are still ours."""
        for claim in claims:
            with contextlib.suppress(ExchangeUnavailable, LeaseLost):
                self.queue.release(claim)


def run(config: TrainerConfig, stop: threading.Event) -> None:
    """Run one trainer until `stop` is set.

    Raises UnsupportedBackbone, BackboneChanged and FileNotFoundError for settings that cannot work.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    network = RetrievalViT(load_backbone(config.backbone), config.loop).to(config.device)
    redis = connect(config.redis_url)
    queue = TaskQueue(redis, BlobStore(config.store / "blobs"), config.queue)
    registry = Registry(redis, config.store / "versions", config.queue.prefix)
    log.info("trainer ready", backbone=network.backbone.identity.name, px=network.backbone.px)
    Worker(Learner(network, config.learner), queue, registry, config).run(stop)
