"""What the measured ratios should be, and whether they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Asked:
    """what: in words.  path: where the figure is, by dots.  most, least: what it may be; one of them is None."""

    what: str
    path: str
    least: float | None = None
    most: float | None = None

    def find(self, document: dict[str, Any]) -> float | None:
        """None where that was not measured."""
        found: Any = document
        for key in self.path.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        return found

    def met(self, value: float) -> bool:
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    @property
    def bound(self) -> str:
        return f">= {self.least:g}" if self.least is not None else f"<= {self.most:g}"


ASKED = (
    Asked("saturated, preprocessed images, over the bare runtime", "throughput.preprocessed_over_bare", 0.95),
    Asked("saturated, JPEG, over the bare runtime", "throughput.jpeg_over_bare", 0.85),
    Asked("the loop over a plain ViT in the same server", "throughput.looped_over_plain_vit", 0.95),
    Asked("one caller: latency beyond compute, p50, ms", "alone.overhead_p50_ms", most=1.5),
    Asked("one caller: latency beyond compute, p99, ms", "alone.overhead_p99_ms", most=4),
    Asked("same runtime: saturated, over the best other server", "same.saturated_over_best", 1),
    Asked("same runtime: p50 over the best other, worst load", "same.latency_p50_over_best", most=1),
    Asked("same runtime: p99 over the best other, worst load", "same.latency_p99_over_best", most=1),
    Asked("a model that costs nothing: over the best other", "nothing.saturated_over_best", 1.5),
    Asked("our default runtime over theirs: over the best other", "default.saturated_over_best", 1.5),
    Asked("mixed budgets over the default one", "budgets.mixed_over_default", 0.97),
    Asked("swaps under load: requests failed", "swaps.failed", most=0),
    Asked("swaps under load: p99 over p99 without", "swaps.p99_ratio", most=1.2),
    Asked("swaps under load: growth of memory after the first 50", "swaps.memory_growth", most=0.02),
    Asked("from pointer to first answer, p50, ms", "swaps.pointer_to_first_answer_ms_p50", most=50),
    Asked("latency with 100 tasks over one", "scale.tasks_100.over_1", most=1.1),
    Asked("latency with 1,000 tasks over one", "scale.tasks_1000.over_1", most=1.25),
    Asked(
        "the same as the defaults learn, 1,000 tasks",
        "scale.as_the_defaults_learn.tasks_1000.over_1",
        most=1.25,
    ),
    Asked("from start to ready, s", "start.start_to_ready_s", most=10),
)


def rows(document: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """What was measured of it: what, the bound, the value, yes or no."""
    for asked in ASKED:
        value = asked.find(document)
        if value is not None:
            yield asked.what, asked.bound, f"{value:.3g}", "yes" if asked.met(value) else "no"
