"""The measured curves as a page: `python -m benchmarks.serving.page` writes docs/measured/serving.md from the results.

It says what the files in benchmarks/results say and nothing else; a part that was not measured is not there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.budgets import table

RESULTS = Path("benchmarks/results")


def page(serving: dict[str, Any] | None, budgets: dict[str, Any] | None) -> str:
    """Markdown."""
    lines = ["# Serving, measured", ""]
    if serving is not None:
        lines += [*heading(serving), *serving_lines(serving)]
    if budgets is not None:
        lines += ["## What budgets buy", "", *heading(budgets), table(budgets["curves"]), ""]
    return "\n".join(lines).rstrip() + "\n"


def heading(result: dict[str, Any]) -> list[str]:
    """By which command, on what."""
    machine, backbone = result["machine"], result["backbone"]
    name = backbone if isinstance(backbone, str) else f"{backbone['name']} at {backbone['px']} px"
    where = f"{machine['processor']}, {result['threads']} threads, load {machine['load']:.1f} when it ended"
    return [f"`{result['command']}`, {result['date']}: {name}; {where}.", ""]


def serving_lines(result: dict[str, Any]) -> Iterator[str]:
    """A section for each part that was measured."""
    titles = {
        "throughput": "At saturation, images a second",
        "alone": "One caller",
        "mixed_budgets": "Mixed budgets beside uniform ones, images a second",
        "swaps": "Swaps under load",
        "scale": "More and more tasks, ten slots and ten classes each",
        "peers": "Beside other servers",
    }
    for part, title in titles.items():
        if part in result:
            yield from (f"## {title}", "", "| | |", "|---|---|")
            yield from (f"| {name} | {value} |" for name, value in flat(result[part]))
            yield ""


def flat(figures: dict[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Nested figures as rows: `peers: looped: litserve`."""
    for key, value in figures.items():
        name = before + key.replace("_", " ")
        if isinstance(value, dict):
            yield from flat(value, f"{name}: ")
        else:
            yield name, f"{value:.4g}" if isinstance(value, float) else str(value)


def read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text()) if path.exists() else None


def main(
    out: Annotated[Path, typer.Option(help="The page.")] = Path("docs/measured/serving.md"),
    results: Annotated[Path, typer.Option(help="Folder of the figures.")] = RESULTS,
) -> None:
    """Write the page. Fails when nothing was measured yet."""
    serving, budgets = read(results / "serving.json"), read(results / "budgets.json")
    if serving is None and budgets is None:
        raise typer.BadParameter(f"{results} holds neither serving.json nor budgets.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page(serving, budgets))


if __name__ == "__main__":
    typer.run(main)
