"""Put measured figures into README.md and docs/: `python -m benchmarks.figures`.

Between `<!-- figures: NAME -->` and `<!-- end -->` stands a table made from benchmarks/results/*.json. Nobody types a
figure; `--check` says which file is stale.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.figures.quoted import README, TABLES
from benchmarks.figures.regions import filled
from benchmarks.figures.tables import (
    few_classes,
    kinds,
    methods,
    mixed,
    newcomers,
    short_table,
    strangers,
    table,
)

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results"


def bodies(results: Path) -> dict[str, str]:
    """Each table by its name, from the files of a folder."""
    return {
        **{name: table(figures, results) for name, figures in TABLES.items()},
        "readme": short_table(README, results),
        "methods": methods(results),
        "familiarity": strangers(results),
        "few-classes": few_classes(results),
        "newcomers": newcomers(results),
        "kinds": kinds(results),
        "mixed": mixed(results),
    }


def main(check: bool, results: Path = RESULTS) -> int:
    """Fill the tables; with `check` only say which files are stale. Answers the exit code."""
    made, stale = bodies(results), 0
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = path.read_text()
        new = filled(text, "figures", made)
        if new == text:
            continue
        stale += 1
        told = "is stale: run python -m benchmarks.figures" if check else "written"
        print(f"{path.relative_to(ROOT)} {told}")
        if not check:
            path.write_text(new)
    return int(check and stale > 0)


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
