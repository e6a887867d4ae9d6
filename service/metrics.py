"""What Prometheus reads. One set of collectors an app, never a module-level one."""

from __future__ import annotations

import math
import threading
from collections import Counter as Tally
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from exchange.records import TaskRecord, TaskState

SECONDS = (
    0.0001, 0.00025, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.005,
    0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30,
)  # fmt: skip
SIZES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
FAMILIARITIES = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1)
SCORES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)
STEPS = (0, 1, 2, 3, 4, 5, 6, 8, 12, 16)
OUTCOMES = ("answered", "failed")
STAGES = ("read", "decode", "queue", "compute", "encode")
LEARNING = {
    "loss": "Training loss",
    "accuracy": "Accuracy on held-out images of all tasks",
    "forgetting": "What earlier tasks lost of their best accuracy",
    "interference": "Share of earlier tasks' images that the task cost, among the labels known before it",
    "held_out_images": "Images that accuracy, forgetting and interference rest on",
    "retrieval_entropy": "Mean entropy of the loop's last step in nats, 0 when it recalls one slot",
    "slot_use": "Share of slots that any image asked for first",
    "spread_ratio": "Spread of the last recall across images over that of the first; 0 when all recall the same",
    "retrieval_steps": "Mean steps of the loop",
    "spectral_radius": "Growth of a small change in one step of the loop, where it is largest; below 1 it settles",
}
"""Figures that a trainer reports with a task, and what each means."""


class Metrics:
    """The collectors, and the children the hot path uses looked up once."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._versions: frozenset[int | None] = frozenset()
        self._changing = threading.Lock()
        self._count_requests()
        self._count_images()
        self._count_versions()
        self._count_learning()

    def _count_requests(self) -> None:
        registry = self.registry
        self.requests = Histogram(
            "hippotune_request_duration_seconds",
            "From the end of a request's head to the last byte of its answer.",
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

    def _count_images(self) -> None:
        """Whichever version it was: where versions change often, the figures of each end before anybody reads them."""
        registry = self.registry
        images = Counter(
            "hippotune_images", "Images answered, or not, by any version.", ("outcome",), registry=registry
        )
        self.images = {outcome: images.labels(outcome) for outcome in OUTCOMES}
        self.top_score = Histogram(
            "hippotune_top_score", "Score of the best label of an image.", buckets=SCORES, registry=registry
        )
        self.familiarity = Histogram(
            "hippotune_familiarity",
            "How familiar an image looks: about 1 % of images of known classes are below 0.01.",
            buckets=FAMILIARITIES,
            registry=registry,
        )

    def _count_versions(self) -> None:
        registry = self.registry
        self.version_info = Gauge(
            "hippotune_version_info", "1 for the version being served.", ("version",), registry=registry
        )
        self.version_images = Counter(
            "hippotune_version_images",
            "Images answered, or not, by the version that is served and by the canary.",
            ("version", "outcome"),
            registry=registry,
        )
        self.version_compute = Histogram(
            "hippotune_version_compute_seconds",
            "Forward passes of the version that is served and of the canary.",
            ("version",),
            buckets=SECONDS,
            registry=registry,
        )
        self.version_score = Histogram(
            "hippotune_version_top_score",
            "Score of the best label of an image, by version: a bad one is less sure.",
            ("version",),
            buckets=SCORES,
            registry=registry,
        )
        self.version_familiarity = Histogram(
            "hippotune_version_familiarity",
            "How familiar an image looks, by version: about 1 % of images of known classes are below 0.01.",
            ("version",),
            buckets=FAMILIARITIES,
            registry=registry,
        )
        self.swap = Histogram(
            "hippotune_swap_seconds",
            "From seeing that the version pointer moved to serving the new version.",
            buckets=SECONDS,
            registry=registry,
        )

    def _count_learning(self) -> None:
        registry = self.registry
        self.task_state = Gauge(
            "hippotune_task_state", "Tasks in each state, of the newest 1000.", ("state",), registry=registry
        )
        self.stream_lag = Gauge(
            "hippotune_stream_lag", "Tasks in the stream that no trainer has taken yet.", registry=registry
        )
        self.stuck_tasks = Gauge(
            "hippotune_stuck_tasks",
            "Unfinished tasks whose `error` says what keeps them from being learned, of the newest 1000.",
            registry=registry,
        )
        self.trainer_alive = Gauge(
            "hippotune_trainer_alive", "1 while a trainer is at work, or waits for work.", registry=registry
        )
        self.learning = {
            name: Gauge(
                f"hippotune_trainer_{name}",
                f"{meaning}, from the newest task that reported it.",
                registry=registry,
            )
            for name, meaning in LEARNING.items()
        }
        for gauge in self.learning.values():
            gauge.set(math.nan)  # not measured yet: 0 would be a figure

    def served(self, version: int, canary: int | None = None) -> None:
        """Exactly one version is being served, and one at most is the canary. The figures of all others end: what is
        told of a pass that they began before is not counted any more, as it would bring their figures back."""
        with self._changing:
            self._versions = frozenset({version, canary})
            self.version_info.clear()
            self.version_info.labels(str(version)).set(1)
            stay = {str(version), str(canary)}
            scores, familiarity = self.version_score, self.version_familiarity
            for collector in (self.version_images, self.version_compute, scores, familiarity):
                samples = (sample for family in collector.collect() for sample in family.samples)
                for gone in {sample.labels["version"] for sample in samples} - stay:
                    collector.remove_by_labels({"version": gone})

    def version_answered(
        self,
        version: int,
        top_scores: NDArray[np.float32],
        familiarity: NDArray[np.float32],
        compute_s: float,
    ) -> None:
        """top_scores, familiarity: [B], the best score of each image of a batch, and how familiar it looks, or NaN."""
        label, scores = str(version), top_scores.tolist()
        told = familiarity[~np.isnan(familiarity)].tolist()
        self.images["answered"].inc(len(scores))
        observe_all(self.top_score, scores)
        observe_all(self.familiarity, told)
        with self._changing:
            if version not in self._versions:
                return
            self.version_images.labels(label, "answered").inc(len(scores))
            self.version_compute.labels(label).observe(compute_s)
            observe_all(self.version_score.labels(label), scores)
            if told:
                observe_all(self.version_familiarity.labels(label), told)

    def version_failed(self, version: int, images: int) -> None:
        self.images["failed"].inc(images)
        with self._changing:
            if version in self._versions:
                self.version_images.labels(str(version), "failed").inc(images)

    def tasks_unknown(self) -> None:
        """Report that Redis does not tell: an old figure would pass for the state of a queue that nobody can see."""
        self.task_state.clear()
        self.stream_lag.set(math.nan)
        self.stuck_tasks.set(math.nan)
        self.trainer_alive.set(math.nan)

    def tasks(self, newest: Sequence[TaskRecord], lag: int, has_trainer: bool) -> None:
        """Report the task queue as it is, `newest` first, and whether a trainer works on it."""
        tally = Tally(task.state for task in newest)
        for state in TaskState:
            self.task_state.labels(state.value).set(tally[state])
        self.stream_lag.set(lag)
        self.trainer_alive.set(has_trainer)
        self.stuck_tasks.set(sum(task.error is not None and not task.state.ended for task in newest))
        for name, gauge in self.learning.items():
            told = next((task.metrics[name] for task in newest if name in task.metrics), None)
            if told is not None:
                gauge.set(told)


def observe_all(histogram: Histogram, values: Iterable[float]) -> None:
    for value in values:
        histogram.observe(value)
