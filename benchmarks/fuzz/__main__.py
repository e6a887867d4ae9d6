"""What nobody would send: `python -m benchmarks.fuzz --out FILE.json`; one half alone with `--only`.

* schemathesis sends cases made from the API document to a running `hippotune up`, with all of its checks;
  `schemathesis.toml` tells where a check asks for what the contract does not promise;
* atheris runs whatever parses what a client sent, each parser in a process of its own: no exception but a refusal,
  no input that takes ten seconds, no memory that grows when the same inputs come again.

With `--resume` it goes on from what FILE.json holds: `--only contract --minutes 9 --resume` again and again comes to
the whole number of cases in short pieces. Ends with 1 when anything was found. Needs the extra `bench`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.fuzz.contract import runs, statuses
from benchmarks.fuzz.parsers import targets
from benchmarks.machine import keep
from benchmarks.running import up

CASES, INPUTS = 20_000, 1_000_000
EXAMPLES = 100
"""Cases an operation, of one run of schemathesis."""
LEAKED_MIB = 4.0
"""Growth from the second to the last fifth of a replay that counts as a leak: a byte an input would be less."""


def main(
    quick: Annotated[bool, typer.Option("--quick", help="A fiftieth of it.")] = False,
    out: Annotated[Path | None, typer.Option(help="File for the figures.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from what that file holds.")] = False,
    minutes: Annotated[float, typer.Option(help="Begin no run of schemathesis later than this.")] = 600.0,
    only: Annotated[str, typer.Option(help="`contract` or `parsers` alone.")] = "",
    logs: Annotated[Path | None, typer.Option(help="Folder for what both tools said.")] = None,
) -> None:
    """Try, print, keep."""
    share = 0.02 if quick else 1.0
    known = json.loads(out.read_bytes()) if resume and out is not None and out.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = logs or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        command = f"python -m benchmarks.fuzz{' --quick' * quick}{f' --only {only}' * bool(only)}"
        figures: dict[str, Any] = {"command": command}
        if only != "parsers":
            until = time.monotonic() + 60 * minutes
            before = known.get("contract", {})
            figures["contract"] = contract(
                before, round(share * CASES), 10 if quick else EXAMPLES, folder, until
            )
        if only != "contract":
            figures["parsers"] = parsers(known.get("parsers", {}), round(share * INPUTS), folder)
            figures["inputs"] = sum(part["inputs"] for part in figures["parsers"].values())
    figures["found"] = found(figures)
    figures["findings"] = len(figures["found"])
    keep(figures, out)
    if figures["found"]:
        raise typer.Exit(1)


def contract(before: dict[str, Any], cases: int, examples: int, folder: Path, until: float) -> dict[str, Any]:
    """What earlier runs told, and more of them, until there are as many cases or time is up."""
    told, answers = list(before.get("runs", [])), Counter(before.get("statuses", {}))
    missing = cases - sum(run["cases"] for run in told)
    seed = 1 + max((run["seed"] for run in told), default=0)
    with up("--epochs", "0", "--runtime", "torch", "--threads", "1") as running:
        told += map(asdict, runs(running, missing, examples, seed, folder / "contract.log", until))
        answers += statuses(running)
        with running.client() as client:
            well = client.ready() and running.process.poll() is None
    return {
        "operations": max(run["operations"] for run in told),
        "cases": sum(run["cases"] for run in told),
        "cases_wanted": cases,
        "statuses": dict(sorted(answers.items())),
        "healthy_afterwards": well and before.get("healthy_afterwards", True),
        "runs": told,
    }


def parsers(before: dict[str, Any], inputs: int, folder: Path) -> dict[str, Any]:
    """By parser; those that were tried before are not tried again."""
    told = dict(before)
    for name, target in targets().items():
        if name in before:
            continue
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
        for run in part["runs"]:
            told += [f"{failure['title']}: {failure['operations']}" for failure in run["failures"]]
            told += [str(error) for error in run["errors"]]
            told += [] if run["cases"] else ["schemathesis tried nothing"]
        told += [] if part["healthy_afterwards"] else ["the server was not well afterwards"]
    for name, part in figures.get("parsers", {}).items():
        told += [f"{name}: ended with {part['exit_code']}"] if part["exit_code"] else []
        told += [f"{name}: grew by {part['grown_mib']:.1f} MiB"] if part["grown_mib"] > LEAKED_MIB else []
    return told


if __name__ == "__main__":
    typer.run(main)
