from __future__ import annotations

from benchmarks.continual.protocols import Protocol
from benchmarks.continual.speed import EVERY_TASK, images_per_second, ratios


def test_ours_and_a_method_of_two_passes_learn_the_same_tasks(protocol: Protocol) -> None:
    for row in ("hippotune", EVERY_TASK):
        assert images_per_second(row, protocol, ["loop.layers=(1, 2)"]) > 0
    assert images_per_second("l2p", protocol) > 0


def test_ratios_say_how_many_times_as_fast_ours_is() -> None:
    assert ratios({"ours": 6.0, "a": 2.0, "b": 12.0}, "ours", ("a", "b")) == {"a": 3.0, "b": 0.5}
