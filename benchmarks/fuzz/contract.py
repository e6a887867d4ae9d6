"""schemathesis over the API document of a running server: every operation, every check."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
COMMAND = "from schemathesis.cli import schemathesis; schemathesis()"


def try_contract(address: str, key: str, examples: int, seed: int, log: Path) -> dict[str, Any]:
    """Figures of one run of up to `examples` cases an operation and phase; its words go to `log`."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        with log.open("ab") as words:
            subprocess.run(
                [
                    sys.executable, "-c", COMMAND, "--config-file", str(HERE / "schemathesis.toml"),
                    "run", f"{address}/openapi.json", "--header", f"Authorization: Bearer {key}",
                    "--max-examples", str(examples), "--seed", str(seed), "--continue-on-failure", "--no-shrink",
                    "--report", "json", "--report-json-path", str(report),
                ],
                cwd=folder,  # it leaves a folder behind
                env=os.environ | {"SCHEMATHESIS_HOOKS": "benchmarks.fuzz.hooks", "PYTHONPATH": str(HERE.parents[1])},
                stdout=words,
                stderr=words,
            )  # fmt: skip
        told = json.loads(report.read_bytes())
    return {
        "operations": told["operations"]["tested"],
        "cases": told["test_cases"]["generated"],
        "complete": told["complete"],
        "failures": told["failures"],
        "errors": told["errors"],
    }
