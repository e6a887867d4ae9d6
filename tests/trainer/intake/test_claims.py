"""What becomes of claims at the end of a term."""

from __future__ import annotations

import pytest

from exchange.errors import ExchangeUnavailable
from exchange.records import Claim, TaskState
from tests.trainer.bench import Bench
from trainer.learning.task import Task


def test_a_redis_that_is_away_is_told_of_no_claim_after_another(
    bench: Bench, first: Task, second: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def away(claim: Claim) -> None:
        told.append(claim.task.id)
        raise ExchangeUnavailable("away")

    tasks = [bench.submit(first), bench.submit(second)]
    with bench.term() as term, monkeypatch.context() as patch:
        for _ in tasks:
            assert term.claims.take(block_ms=0) is not None
        patch.setattr(term.claims.queue, "release", away)
        term.claims.give_back()
    assert told == tasks[:1]
    with bench.trainer():
        for task in tasks:
            bench.wait_for(task, TaskState.CONSOLIDATED)
