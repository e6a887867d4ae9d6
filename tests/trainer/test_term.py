"""What a term does in the midst of consolidating a task."""

from __future__ import annotations

from typing import Any

import pytest

from exchange.records import TaskState
from trainer import term as terms
from trainer.promotion import Promotion
from trainer.task import Task

from .bench import Bench


def test_a_task_does_not_wait_while_the_one_before_it_is_measured(
    bench: Bench, first: Task, second: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    examine, arrived = Promotion.examine, []

    def arriving(self: Promotion, *arguments: Any) -> Any:
        task = bench.submit(second)
        result = examine(self, *arguments)
        arrived.append(bench.queue.get(task).state)
        return result

    monkeypatch.setattr(terms, "LOOK_UP_S", 0)
    monkeypatch.setattr(Promotion, "examine", arriving)
    with bench.term() as term:
        one = bench.submit(first)
        term.accept_waiting(block_ms=0)
        term.consolidation.consolidate(term.claims.pending[0])
    assert arrived == [TaskState.SERVED]
    assert bench.queue.get(one).state is TaskState.CONSOLIDATED
    assert bench.queue.get(one).progress == 1
