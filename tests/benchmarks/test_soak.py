"""The soak of `benchmarks.soak`, shortened: memory of a real server and its trainer under every kind of request."""

from __future__ import annotations

from benchmarks.running import up
from benchmarks.soak import OPTIONS, worked

SECONDS = (12.0, 36.0, 108.0)
"""The first that suffices for so much work: a machine that has other work takes longer."""
ANSWERS = 100
SERVER_MAY_GROW, TRAINER_MAY_GROW = 0.05, 0.25
"""In so short a time allocators still settle; the hour is held to 2 %. A fifth of it is five readings of a trainer that
takes and gives back up to a hundred MiB with every task: more than gross leaks cannot be told."""


def test_memory_is_flat() -> None:
    with up(*OPTIONS, "--runtime", "torch") as running:
        for seconds in SECONDS:
            figures = worked(running, seconds, seconds / 18)
            if figures["counts"]["answers"] > ANSWERS:
                break
    assert figures["counts"]["callers lost"] == 0, figures
    assert figures["counts"]["answers"] > ANSWERS, figures
    assert figures["server_grown"] <= SERVER_MAY_GROW, figures
    assert figures["trainer_grown"] <= TRAINER_MAY_GROW, figures
