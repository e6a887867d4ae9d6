"""schemathesis over the API document of a running server: every operation, every check."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.running import Up

HERE = Path(__file__).parent
COMMAND = "from schemathesis.cli import schemathesis; schemathesis()"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of schemathesis, which its seed repeats. complete: it was not stopped before its end."""

    seed: int
    phases: str
    operations: int
    cases: int
    seconds: float
    complete: bool
    failures: list[dict[str, Any]]
    errors: list[dict[str, Any]]


def runs(running: Up, cases: int, examples: int, seed: int, log: Path, until: float) -> Iterator[Run]:
    """Runs with one seed after another until there are as many cases, or `until` by the monotonic clock has come.

    What the phases `examples` and `coverage` make does not depend on the seed, so that only seed 1 has them.
    """
    while cases > 0 and time.monotonic() < until:
        phases = "examples,coverage,fuzzing,stateful" if seed == 1 else "fuzzing,stateful"
        run = one_run(running, examples, seed, phases, log)
        yield run
        if not run.cases:
            return
        cases, seed = cases - run.cases, seed + 1


def one_run(running: Up, examples: int, seed: int, phases: str, log: Path) -> Run:
    """Up to `examples` cases an operation; its words go to `log`."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        with log.open("ab") as words:
            subprocess.run(
                [
                    sys.executable, "-c", COMMAND, "--config-file", str(HERE / "schemathesis.toml"),
                    "run", f"{running.address}/openapi.json", "--header", f"Authorization: Bearer {running.key}",
                    "--max-examples", str(examples), "--seed", str(seed), "--phases", phases,
                    "--continue-on-failure", "--no-shrink", "--report", "json", "--report-json-path", str(report),
                ],
                cwd=folder,  # it leaves a folder behind
                env=os.environ | {"SCHEMATHESIS_HOOKS": "benchmarks.fuzz.hooks", "PYTHONPATH": str(HERE.parents[1])},
                stdout=words,
                stderr=words,
            )  # fmt: skip
        told = json.loads(report.read_bytes())
    return Run(
        seed=seed,
        phases=phases,
        operations=told["operations"]["tested"],
        cases=told["test_cases"]["generated"],
        seconds=time.monotonic() - began,
        complete=told["complete"],
        failures=told["failures"],
        errors=told["errors"],
    )


def statuses(running: Up) -> Counter[str]:
    """How often the server answered with which status, by its own count."""
    text = httpx.get(f"{running.address}/metrics", headers={"X-API-Key": running.key}).text
    counts: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "hippotune_request_duration_seconds_count":
                counts[sample.labels["code"]] += int(sample.value)
    return counts
