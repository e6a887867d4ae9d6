"""The figures of a run of kills."""

from __future__ import annotations

from benchmarks.chaos.load import Seen


def test_a_slow_answer_is_one_of_the_window_that_it_began_in() -> None:
    quick = [(0.09 * number, 0.1) for number in range(100)]
    later = [(10 + 0.09 * number, 0.1) for number in range(100)]
    seen = Seen(answered=[*quick, *later[:50], (9.5, 5.0), *later[50:]])
    assert seen.worst_p99_s() < 1, "one of a hundred and one, not one of one"
