"""What nobody would send: `python -m benchmarks.fuzz --out benchmarks/results/fuzz.json`.

* schemathesis sends cases made from the API document to a running `hippotune up`, with all of its checks
  but those that `schemathesis.toml` explains;
* atheris runs whatever parses what a client sent, each parser in a process of its own: no exception but a refusal,
  no input that takes ten seconds, no memory that grows when the same inputs come again.

Ends with 1 when anything was found. Needs the extra `bench`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.fuzz.contract import try_contract
from benchmarks.fuzz.parsers import targets
from benchmarks.machine import keep
from benchmarks.running import up

CASES, INPUTS = 20_000, 1_000_000
EXAMPLES = 100
"""Cases an operation and phase, of one run of schemathesis."""
LEAKED_MIB = 4.0
"""Growth from the second to the last fifth of a replay that counts as a leak: a byte an input would be less."""


def main(
    quick: Annotated[bool, typer.Option("--quick", help="A fiftieth of it.")] = False,
    out: Annotated[Path | None, typer.Option(help="File for the figures.")] = None,
    seed: Annotated[int, typer.Option(help="Of the first run of schemathesis.")] = 1,
    only: Annotated[str, typer.Option(help="`contract` or `parsers` alone.")] = "",
    logs: Annotated[Path | None, typer.Option(help="Folder for what both tools said.")] = None,
) -> None:
    """Try, print, keep."""
    share = 0.02 if quick else 1.0
    with tempfile.TemporaryDirectory() as scratch:
        folder = logs or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        command = f"python -m benchmarks.fuzz{' --quick' * quick}{f' --only {only}' * bool(only)}"
        figures: dict[str, Any] = {"command": command}
        if only != "parsers":
            figures["contract"] = contract(round(share * CASES), 10 if quick else EXAMPLES, seed, folder)
        if only != "contract":
            figures["parsers"] = parsers(round(share * INPUTS), folder)
    figures["found"] = found(figures)
    keep(figures, out)
    if figures["found"]:
        raise typer.Exit(1)


def contract(cases: int, examples: int, seed: int, folder: Path) -> dict[str, Any]:
    """Runs with one seed after another, until there are as many cases."""
    total: dict[str, Any] = {"operations": 0, "cases": 0, "runs": 0, "failures": [], "errors": []}
    with up("--epochs", "0", "--runtime", "torch") as running:
        while total["cases"] < cases:
            told = try_contract(
                running.address, running.key, examples, seed + total["runs"], folder / "contract.log"
            )
            total["operations"] = told["operations"]
            total["runs"] += 1
            for name in ("cases", "failures", "errors"):
                total[name] += told[name]
            if not told["cases"]:
                total["errors"].append("schemathesis tried nothing")
                break
        with running.client() as client:
            total["healthy_afterwards"] = client.ready() and running.process.poll() is None
    return total


def parsers(inputs: int, folder: Path) -> dict[str, Any]:
    """By parser."""
    told = {}
    for name, target in targets().items():
        count = round(target.share * inputs)
        one = [sys.executable, "-m", "benchmarks.fuzz.one", name, str(count), str(folder)]
        with (folder / f"{name}.log").open("wb") as log:
            code = subprocess.run(one, stdout=log, stderr=log).returncode
        tried = json.loads((folder / f"{name}.json").read_text())
        again = subprocess.run([*one, "again"], capture_output=True, check=True)
        replayed = json.loads(again.stdout)
        resident = replayed["resident_mib"]
        told[name] = {
            **tried,
            "exit_code": code,
            "kept": [file.read_bytes().hex() for file in sorted(folder.glob(f"{name}-*"))],
            "replayed": replayed["inputs"],
            "grown_mib": resident[-1] - resident[1],
        }
    return told


def found(figures: dict[str, Any]) -> list[str]:
    """Everything that should not be, in words."""
    told = []
    if "contract" in figures:
        part = figures["contract"]
        told += [f"{failure['title']}: {failure['operations']}" for failure in part["failures"]]
        told += [str(error) for error in part["errors"]]
        told += [] if part.get("healthy_afterwards", True) else ["the server was not well afterwards"]
    for name, part in figures.get("parsers", {}).items():
        told += [f"{name}: ended with {part['exit_code']}"] if part["exit_code"] else []
        told += [f"{name}: grew by {part['grown_mib']:.1f} MiB"] if part["grown_mib"] > LEAKED_MIB else []
    return told


if __name__ == "__main__":
    typer.run(main)
