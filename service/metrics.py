"""What Prometheus reads. One set of collectors an app, never a module-level one."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from exchange.records import TaskRecord, TaskState

SECONDS = (
    0.0001, 0.00025, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.005,
    0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30,
)  # fmt: skip
SIZES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
STEPS = (0, 1, 2, 3, 4, 5, 6, 8, 12, 16)
STAGES = ("read", "decode", "queue", "compute", "encode")
LEARNING = ("loss", "accuracy", "forgetting")


class Metrics:
    """The collectors, and the children the hot path uses looked up once."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Histogram(
            "hippotune_request_duration_seconds",
            "From the first byte of a request to the last of its answer.",
            ("route", "code"),
            buckets=SECONDS,
            registry=registry,
        )
        stage = Histogram(
            "hippotune_stage_duration_seconds",
            "Parts of POST /classify: reading, decoding, waiting, the forward pass, writing the answer.",
            ("stage",),
            buckets=SECONDS,
            registry=registry,
        )
        self.stages = {name: stage.labels(name) for name in STAGES}
        self.batch_size = Histogram(
            "hippotune_batch_size", "Images in a forward pass.", buckets=SIZES, registry=registry
        )
        self.steps = Histogram(
            "hippotune_retrieval_steps",
            "Mean retrieval steps a layer of an image.",
            buckets=STEPS,
            registry=registry,
        )
        self.queue_depth = Gauge(
            "hippotune_queue_depth", "Images admitted and not yet answered.", registry=registry
        )
        self.rejected = Counter(
            "hippotune_rejected",
            "Requests answered with an error, by reason.",
            ("reason",),
            registry=registry,
        )
        self.version_info = Gauge(
            "hippotune_version_info", "1 for the version being served.", ("version",), registry=registry
        )
        self.swap = Histogram(
            "hippotune_swap_seconds",
            "From seeing that the version pointer moved to serving the new version.",
            buckets=SECONDS,
            registry=registry,
        )
        self.task_state = Gauge(
            "hippotune_task_state", "Tasks in each state, of the newest 1000.", ("state",), registry=registry
        )
        self.stream_lag = Gauge(
            "hippotune_stream_lag", "Tasks in the stream that no trainer has taken yet.", registry=registry
        )
        self.learning = {
            name: Gauge(f"hippotune_trainer_{name}", f"{name} of the task learned last.", registry=registry)
            for name in LEARNING
        }

    def served(self, version: int) -> None:
        """Exactly one version is being served."""
        self.version_info.clear()
        self.version_info.labels(str(version)).set(1)

    def tasks(self, newest: Sequence[TaskRecord], lag: int) -> None:
        """Report the task queue as it is, `newest` first."""
        tally = Tally(task.state for task in newest)
        for state in TaskState:
            self.task_state.labels(state.value).set(tally[state])
        self.stream_lag.set(lag)
        learned = next((task for task in newest if task.metrics), None)
        for name, gauge in self.learning.items():
            if learned is not None and name in learned.metrics:
                gauge.set(learned.metrics[name])
