"""Draw every table and plot anew, and put means over seeds beside the results: `python -m benchmarks.report`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.report import continual, theory
from benchmarks.report.rows import means, read


def main(arguments: list[str] | None = None) -> None:
    """Read results, write pages."""
    parse = argparse.ArgumentParser("python -m benchmarks.report", description=__doc__)
    parse.add_argument("--results", type=Path, default=Path("benchmarks/results/continual"))
    parse.add_argument("--theory", type=Path, default=Path("benchmarks/results/krylov.json"))
    parse.add_argument("--out", type=Path, default=Path("docs/measured"))
    options = parse.parse_args(arguments)
    rows = read(options.results)
    continual.write(rows, options.out)
    options.results.with_suffix(".json").write_text(json.dumps(means(rows), indent=1) + "\n")
    if options.theory.exists():
        theory.write(json.loads(options.theory.read_text()), options.out)
    print(f"{sum(len(row.runs) for row in rows)} runs of {len(rows)} rows -> {options.out}/continual.md")


if __name__ == "__main__":
    main()
