"""Everything a trainer can be told, in one frozen record."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from exchange.queue import QueueConfig
from model.deliberation import LoopConfig
from model.spec import BackboneSpec
from trainer.learning.config import LearnerConfig, ValidationConfig


@dataclass(frozen=True, slots=True)
class TrainerConfig:
    """A trainer process.

    redis_url: where the queue is.  store: directory shared with the servers.
    queue: names and bounds of the task queue.
    backbone, loop, learner: what is learned, on what, and how.
    validation: what is held out of it to measure forgetting.
    consumer: this worker's name, different for every process on one queue.
    device: a torch device.  threads: for torch and decoding; None takes what the machine grants.
    max_pixels: largest image decoded.
    keep_versions: how many versions stay on disk to roll back to.
    keep_tasks: how many records of ended tasks stay in Redis.
    max_pending_mb: with so many decoded megabytes waiting to be consolidated, no task is taken up until one is.
    upkeep_s: seconds between two rounds of dropping what is not kept.
    """

    redis_url: str
    store: Path
    queue: QueueConfig = field(default_factory=QueueConfig)
    backbone: BackboneSpec = field(default_factory=BackboneSpec)
    loop: LoopConfig = field(default_factory=LoopConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    consumer: str = "trainer"
    device: str = "cpu"
    threads: int | None = None
    max_pixels: int = 50_000_000
    keep_versions: int = 20
    keep_tasks: int = 10_000
    max_pending_mb: int = 2048
    upkeep_s: float = 600.0
