"""Kept figures of `benchmarks.continual`, read back and averaged over seeds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """All seeds of one method, variant or ablation under the same protocol and scenario.

    runs: the figures of each seed, as `benchmarks.continual` wrote them, by rising seed.
    """

    name: str
    protocol: str
    scenario: str
    runs: tuple[dict[str, Any], ...]

    @property
    def method(self) -> str:
        return self.runs[0]["method"]

    def values(self, key: str) -> list[float]:
        """A figure of each seed; none where it was not measured."""
        return [run[key] for run in self.runs if run.get(key) is not None]

    def mean(self, key: str) -> float | None:
        """Over the seeds, or None."""
        values = self.values(key)
        return mean(values) if values else None

    def text(self, key: str, digits: int = 1) -> str:
        """Mean and, of several seeds, their standard deviation, for a table."""
        values = self.values(key)
        if not values:
            return ""
        spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
        return f"{mean(values):.{digits}f}{spread}"

    def differences(self, other: Row, key: str) -> list[float]:
        """This row's figure less another's, for each seed that both were run on."""
        theirs = {run["seed"]: run[key] for run in other.runs if run.get(key) is not None}
        return [run[key] - theirs[run["seed"]] for run in self.runs if run["seed"] in theirs and run.get(key)]

    def pairs(self, other: Row) -> str:
        """How many seeds both were run on, for a table."""
        return str(len(self.differences(other, "last")))

    def ahead(self, other: Row, key: str, digits: int = 1) -> str:
        """Mean difference over the seeds both were run on and, of several, its standard deviation, for a table."""
        found = self.differences(other, key)
        if not found:
            return ""
        spread = f" ± {stdev(found):.{digits}f}" if len(found) > 1 else ""
        return f"{mean(found):+.{digits}f}{spread}"


def read(folder: Path) -> tuple[Row, ...]:
    """Every file of a folder, grouped. Files that say `limit_tasks` or another split are looks, not figures."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.json")):
        run = json.loads(path.read_text())
        if (
            "config" not in run
            or run["config"]["limit_tasks"]
            or run["config"]["protocol"]["split"] != "test"
        ):
            continue
        key = run["protocol"], run["config"]["protocol"]["scenario"], run["name"]
        groups.setdefault(key, []).append(run)
    return tuple(
        Row(name, protocol, scenario, tuple(sorted(runs, key=lambda run: run["seed"])))
        for (protocol, scenario, name), runs in groups.items()
    )


def pick(rows: Iterable[Row], protocol: str, scenario: str, names: Sequence[str]) -> list[Row]:
    """Rows of these names, in their order, as far as they were run."""
    found = {row.name: row for row in rows if (row.protocol, row.scenario) == (protocol, scenario)}
    return [found[name] for name in names if name in found]


def means(rows: Iterable[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """Figures that are quoted elsewhere, by protocol and method: means over seeds; class-incremental tasks alone."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        if row.scenario == "class":
            of_row = {key: row.mean(key) for key in ("last", "aaa", "forgetting", "ece")}
            kept = {key: value for key, value in of_row.items() if value is not None}
            if len(lasts := row.values("last")) > 1:
                kept["last_deviation"] = stdev(lasts)
            found.setdefault(row.protocol, {})[row.name] = {**kept, "seeds": len(row.runs)}
    return found


def bound(rows: Iterable[Row], protocol: str) -> float | None:
    """What learning all classes at once ends at: the best head of each seed, averaged."""
    joint = pick(rows, protocol, "class", ["joint"])
    return mean(run["own"]["best_head"] for run in joint[0].runs) if joint else None


def table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """Markdown, the first column to the left and the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
