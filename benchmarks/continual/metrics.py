"""What a continual learner is judged by, all in percent.

R[i][j] is the accuracy on task j's test images after task i was learned, for j <= i, every class seen so far being
a possible answer. Tasks count alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

import torch
from torch import Tensor

Matrix = Sequence[Sequence[float]]
"""Row i holds R[i][0] .. R[i][i]."""


def accuracy(matrix: Matrix) -> list[float]:
    """A_i: mean over the tasks learned by then (Lopez-Paz & Ranzato, NeurIPS 2017), one for each row."""
    return [mean(row) for row in matrix]


def last_accuracy(matrix: Matrix) -> float:
    """A_T, after the last task."""
    return accuracy(matrix)[-1]


def average_anytime_accuracy(matrix: Matrix) -> float:
    """AAA: mean of A_1 .. A_T; called average incremental accuracy by Rebuffi et al. (iCaRL, CVPR 2017)."""
    return mean(accuracy(matrix))


def forgetting(matrix: Matrix) -> float:
    """Mean over all tasks but the last of max_{i<T} R[i][j] - R[T][j] (Chaudhry et al., ECCV 2018)."""
    *earlier, final = matrix
    tasks = range(len(earlier))
    return mean(max(row[j] for row in earlier[j:]) - final[j] for j in tasks) if earlier else 0.0


def backward_transfer(matrix: Matrix) -> float:
    """BWT: mean over all tasks but the last of R[T][j] - R[j][j] (Lopez-Paz & Ranzato, NeurIPS 2017)."""
    final = matrix[-1]
    return mean(final[j] - matrix[j][j] for j in range(len(matrix) - 1)) if len(matrix) > 1 else 0.0


def minimum_at_task_ends(matrix: Matrix) -> float:
    """Mean over all tasks but the last of min_{i >= j} R[i][j]: the worst of the finished states, none in between."""
    return (
        mean(min(row[j] for row in matrix[j:]) for j in range(len(matrix) - 1)) if len(matrix) > 1 else 100.0
    )


def expected_calibration_error(scores: Tensor, right: Tensor, bins: int = 15) -> float:
    """ECE: mean over images of |how often answers as sure as this one are right - how sure they are|, in bins of it.

    scores: [n, C], a probability a class.  right: [n] bool, whether the best one is true. Guo et al., On calibration
    of modern neural networks, ICML 2017.
    """
    sure = scores.max(dim=1).values  # [n]
    bin_of = (sure * bins).long().clamp_max(bins - 1)
    gaps = torch.zeros(bins, dtype=scores.dtype).index_add(0, bin_of, right.to(scores.dtype) - sure)
    return 100 * gaps.abs().sum().item() / len(sure)


@dataclass(frozen=True, slots=True)
class Probe:
    """Accuracies on the probe images of every task learned before, some steps into learning task `task` (from 0).

    step: updates made on that task; the last probe of a task is made when it is learned.
    """

    task: int
    step: int
    accuracies: tuple[float, ...]


def minimum_accuracy(probes: Sequence[Probe], tasks: int) -> float:
    """min-ACC: mean over tasks j < T of the least accuracy ever probed after j was learned.

    De Lange, van de Ven, Tuytelaars: Continual evaluation for lifelong learning: identifying the stability gap,
    ICLR 2023.
    """
    lows = [min(probe.accuracies[j] for probe in probes if probe.task > j) for j in range(tasks - 1)]
    return mean(lows) if lows else 100.0


def worst_case_accuracy(probes: Sequence[Probe], matrix: Matrix) -> float:
    """WC-ACC = R[T][T] / T + (1 - 1/T) min-ACC, same source: what is guaranteed at every step."""
    tasks = len(matrix)
    return matrix[-1][-1] / tasks + (1 - 1 / tasks) * minimum_accuracy(probes, tasks)
