"""The processes of a real installation, and how to kill them: a Redis, two trainers, two servers."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from exchange.blobs import BlobStore
from exchange.children import stop
from exchange.connection import connect, reaching_redis
from exchange.embedded import EmbeddedRedis
from exchange.errors import ExchangeUnavailable
from exchange.queue import QueueConfig, TaskQueue
from exchange.records import TaskState
from exchange.tasks import GROUP
from hippotune import Client
from hippotune.supervision import hippotune

LEASE_S = 3.0
COMMON = {
    "HIPPOTUNE_THREADS": "1",
    "HIPPOTUNE_QUEUE_LEASE_S": str(LEASE_S),
    # Here kills are no fault of a task: how a poisonous one ends is tested elsewhere.
    "HIPPOTUNE_QUEUE_MAX_DEATHS": "10000",
}
TRAINING = ["--epochs", "3", "--enough", "1", "--least-steps", "24", "--batch", "4", "--slots", "2"]
TRAINING += ["--settled", "100000", "--least-images", "0", "--validation-share", "0", "--keep-versions", "10"]


@dataclass(slots=True)
class Trainer:
    """consumer: its name on the queue, another one in each life."""

    consumer: str
    process: subprocess.Popen[bytes]


@dataclass(slots=True)
class Fleet:
    """Everything on one store. The random choices follow from a seed, when they happen does not."""

    root: Path
    dice: random.Random
    redis: EmbeddedRedis = field(init=False)
    queue: TaskQueue = field(init=False)
    trainers: list[Trainer] = field(default_factory=list)
    servers: list[tuple[str, subprocess.Popen[str]]] = field(default_factory=list)
    lives: int = 0

    def __enter__(self) -> Self:
        self.redis = EmbeddedRedis(self.root / "redis")
        self.redis.start()
        config = QueueConfig(lease_s=LEASE_S)
        self.queue = TaskQueue(connect(self.redis.url), BlobStore(self.root / "blobs"), config)
        self.trainers = [self.trainer() for _ in range(2)]
        self.servers = [self.server() for _ in range(2)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in [t.process for t in self.trainers] + [process for _, process in self.servers]:
            stop(process)  # type: ignore[arg-type]
        self.redis.stop()

    def trainer(self) -> Trainer:
        self.lives += 1
        consumer = f"trainer{self.lives}"
        command = hippotune("train", "--consumer", consumer, *TRAINING)
        with (self.root / f"{consumer}.log").open("wb") as log:
            return Trainer(
                consumer, subprocess.Popen(command, env=self.environment(), stdout=log, stderr=log)
            )

    def server(self, port: int = 0) -> tuple[str, subprocess.Popen[str]]:
        """A server that answers, and its address."""
        command = hippotune("serve", "--json", "--port", str(port), "--runtime", "torch")
        with (self.root / "server.log").open("ab") as log:
            process = subprocess.Popen(
                command, env=self.environment(), stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"]
        with Client(address, retries=0) as client:
            while not client.ready():
                time.sleep(0.05)
        return address, process

    def environment(self) -> dict[str, str]:
        ours = {"HIPPOTUNE_STORE": str(self.root), "REDIS_URL": self.redis.url}
        return os.environ | COMMON | ours

    def kill_trainer(self) -> str | None:
        """SIGKILL the trainer that holds tasks, if one does, and start another; what it was doing.

        None, and nobody killed, while Redis cannot say who holds what.
        """
        with suppress(ExchangeUnavailable), reaching_redis():
            phase = self.phase()
            found = self.queue.redis.xinfo_consumers(self.queue.keys.queue, GROUP)
            busy = {consumer["name"].decode() for consumer in found if consumer["pending"]}
            victims = [trainer for trainer in self.trainers if trainer.consumer in busy] or self.trainers
            victim = self.dice.choice(victims)
            victim.process.kill()
            victim.process.wait()
            self.trainers = [trainer for trainer in self.trainers if trainer is not victim] + [self.trainer()]
            return phase
        return None

    def phase(self) -> str:
        """The furthest state of an unfinished task."""
        states = {task.state for task in self.queue.newest(20)}
        order = (TaskState.FORGETTING, TaskState.CONSOLIDATING, TaskState.SERVED, TaskState.LEARNING)
        return next((state.value for state in order if state in states), "idle")

    def kill_redis(self, away_s: float) -> None:
        """SIGKILL, and start again on the same data."""
        assert self.redis.pid is not None
        os.kill(self.redis.pid, 9)
        self.redis.stop()
        time.sleep(away_s)
        self.redis.start()

    def restart_server(self, ask: bool) -> None:
        """Ask one of the two to stop, or kill it, and start it again on the same port."""
        address, process = self.servers.pop(0)
        if ask:
            process.terminate()
        else:
            process.kill()
        process.wait()
        self.servers.append(self.server(int(address.rpartition(":")[2])))

    def said(self, words: str) -> int:
        """How often trainers logged something."""
        logs: Sequence[Path] = list(self.root.glob("trainer*.log"))
        return sum(log.read_text(errors="replace").count(words) for log in logs)
