"""Many calls at the same time."""

from __future__ import annotations

import time
from threading import Event

import pytest

from hippotune.latency import gather

TURNS = 5000


def test_an_error_of_any_caller_ends_all_of_them() -> None:
    failing, asked = Event(), list[int]()

    def ask(turn: int) -> None:
        asked.append(turn)
        if turn == 0:  # by the caller that goes on
            failing.wait()
        elif turn == 1:
            failing.set()
            raise ValueError("refused")
        time.sleep(0.001)

    with pytest.raises(ValueError, match="refused"):
        gather(ask, TURNS, concurrency=2)
    assert len(asked) < TURNS
