"""What the demo measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hippotune.latency import Latency

Matrix = Sequence[Sequence[float]]
"""Row i: accuracy, 0 to 1, on held-out images of tasks 0..i after task i, among all classes known by then."""


@dataclass(frozen=True, slots=True)
class Report:
    """One run.

    seconds_to_served, seconds_to_consolidated: for each task, from sending POST /tasks until an answer came
        from a version with its classes in the head, and from one that knows them for good.
    latency: by tmax.
    unknown_before, unknown_after: share of held-out images taken for unknown, `STRANGE`, before their task was taught
        (of all tasks but the first) and after all were; None where no version could tell.
    failed_requests: classifications not answered 200 in the whole run, none of them tried again.
    """

    matrix: Matrix
    seconds_to_served: Sequence[float]
    seconds_to_consolidated: Sequence[float]
    latency: Mapping[int, Latency]
    unknown_before: float | None
    unknown_after: float | None
    failed_requests: int

    def document(self) -> dict[str, Any]:
        """As written by `--json`; accuracies and forgetting from 0 to 1."""
        return {
            "average_accuracy": average_accuracy(self.matrix),
            "forgetting": forgetting(self.matrix),
            "matrix": self.matrix,
            "seconds_to_served": self.seconds_to_served,
            "seconds_to_consolidated": self.seconds_to_consolidated,
            "latency_ms": {
                f"tmax{tmax}": {"p50": found.p50, "p99": found.p99} for tmax, found in self.latency.items()
            },
            "unknown_before": self.unknown_before,
            "unknown_after": self.unknown_after,
            "failed_requests": self.failed_requests,
        }


def average_accuracy(matrix: Matrix) -> float:
    """Mean over all tasks after the last one."""
    return sum(matrix[-1]) / len(matrix[-1])


def forgetting(matrix: Matrix) -> float:
    """Mean over all tasks but the last of how far each fell from its best (Chaudhry et al., 2018)."""
    last = len(matrix) - 1
    if last == 0:
        return 0.0
    falls = [max(matrix[row][task] for row in range(task, last)) - matrix[last][task] for task in range(last)]
    return sum(falls) / last
