"""The measured curves as a page: `python -m benchmarks.serving.page` writes docs/measured/serving.md from the results.

It says what the files in benchmarks/results say and nothing else; a part that was not measured is not there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import rounding
from benchmarks.budgets import table
from benchmarks.report.plots import knobs
from benchmarks.serving.asked import rows
from benchmarks.serving.beside import OUR_NAME
from benchmarks.serving.tables import grid, sections, times

RESULTS = Path("benchmarks/results")
BESIDE = {
    "same": "The same model and runtime",
    "nothing": "A model that costs nothing",
    "default": "Our default runtime with the loop, theirs a plain ViT in torch",
}
HOW = (
    "Every server answers the same JPEGs with the same decoder and model, asked over loopback by the same caller, "
    "which takes its share of the same cores. LitServe is asked with base64 in JSON, BentoML with multipart, Ray "
    "Serve and hippotune with raw bodies. Loads are requests at random times, counted from when each was due; 100 % "
    "is what the bare runtime does in a loop (four times that for a model of no cost, half of it for torch)."
)


def page(
    serving: dict[str, Any] | None = None,
    budgets: dict[str, Any] | None = None,
    rounded: dict[str, Any] | None = None,
) -> str:
    """Markdown."""
    lines = ["# Serving, measured", ""]
    if serving is not None:
        lines += [*heading(serving), *serving_lines(serving)]
    if budgets is not None:
        lines += ["## What budgets buy", "", *heading(budgets), table(budgets["curves"]), ""]
        lines += ["![Accuracy against time, a line for each knob](budgets.svg)", ""]
    if rounded is not None:
        lines += ["## What runtimes that round buy", "", *heading(rounded), rounding.table(rounded), ""]
    return "\n".join(lines).rstrip() + "\n"


def heading(result: dict[str, Any]) -> list[str]:
    """By which command, on what."""
    machine, backbone = result["machine"], result["backbone"]
    name = backbone if isinstance(backbone, str) else f"{backbone['name']} at {backbone['px']} px"
    where = f"{machine['processor']}, {result['threads']} threads, load {machine['load']:.1f} when it ended"
    return [f"`{result['command']}`, {result['date']}: {name}; {where}.", ""]


def serving_lines(result: dict[str, Any]) -> Iterator[str]:
    """What was asked, then a section for each part that was measured."""
    if asked := list(rows(result)):
        yield from grid(("", "asked", "measured", "met"), asked)
    beside = {part: title for part, title in BESIDE.items() if result.get(part)}
    if beside:
        yield from ("## Beside other servers", "", HOW, "")
    for part, title in beside.items():
        yield from (f"### {title}", "", *versus(result[part]["servers"]))
        yield from (f"![Latency by load](serving-{part}.svg)", "")
    if own := list(sections(result)):
        yield from ("## Our server alone", "", *own)


def versus(servers: dict[str, Any]) -> Iterator[str]:
    """A line a server, and in words where another one is better."""
    answered = {name: one for name, one in servers.items() if "failed" not in one}
    loads = [load for load in next(iter(answered.values()), {}) if load != "saturated"]
    head = [
        "",
        "saturated, images/s",
        *(f"{load.replace('_', ' ')}: p50 / p99, ms" for load in loads),
        "failed",
    ]
    yield from grid(head, (line(name, one, loads) for name, one in answered.items()))
    for name, one in servers.items():
        if "failed" in one:
            yield from (f"{name} did not answer: {one['failed']}", "")
    better = list(where_better(answered, loads))
    if better:
        yield from (f"Better than {OUR_NAME}: {'; '.join(better)}.", "")


def line(name: str, one: dict[str, Any], loads: Sequence[str]) -> Iterator[str]:
    yield name
    yield f"{one['saturated']['per_second']:.0f}"
    for load in loads:
        yield times(one[load])
    yield f"{sum(part['failed'] for part in one.values())}"


def where_better(answered: dict[str, Any], loads: Sequence[str]) -> Iterator[str]:
    """Who beats us in what."""
    ours = answered.get(OUR_NAME)
    for name, one in answered.items():
        if ours is None or name == OUR_NAME:
            continue
        if one["saturated"]["per_second"] > ours["saturated"]["per_second"]:
            yield f"{name} when saturated"
        for load in loads:
            for percentile in ("p50", "p99"):
                key = f"latency_{percentile}_ms"
                if one[load][key] < ours[load][key]:
                    yield f"{name}'s {percentile} at {load.replace('_', ' ')}"


def plots(result: dict[str, Any], folder: Path) -> None:
    """p50 and p99 of every server over its open loads."""
    from benchmarks.report.plots import colours, name_lines, new, write  # matplotlib is an extra

    for part in BESIDE:
        if not result.get(part):
            continue
        figure, axes = new()
        axes.set(xlabel="load (%)", ylabel="latency (ms): p50 solid, p99 dashed", yscale="log")
        axes.yaxis.set_major_formatter("{x:g}")
        servers = {name: one for name, one in result[part]["servers"].items() if "failed" not in one}
        hues, ends = colours(servers), {}
        for name, one in servers.items():
            loads = {load: one[load] for load in one if load.startswith("load_")}
            shares = [float(load.removeprefix("load_").rstrip("%")) for load in loads]
            for percentile, style in (("p50", "-"), ("p99", "--")):
                times = [found[f"latency_{percentile}_ms"] for found in loads.values()]
                width = 2.5 if name == OUR_NAME else 1.3
                axes.plot(shares, times, style, marker="o", ms=3.5, lw=width, color=hues[name])
                ends[f"{name} {percentile}"] = times[-1]
            axes.set_xticks(shares)
        name_lines(axes, ends, {end: hues[end.rpartition(" ")[0]] for end in ends})
        write(figure, folder / f"serving-{part}.svg")


def read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text()) if path.exists() else None


def main(
    out: Annotated[Path, typer.Option(help="The page.")] = Path("docs/measured/serving.md"),
    results: Annotated[Path, typer.Option(help="Folder of the figures.")] = RESULTS,
) -> None:
    """Write the page and its plots. Fails when nothing was measured yet."""
    serving, budgets, rounded = (
        read(results / f"{name}.json") for name in ("serving", "budgets", "rounding")
    )
    if serving is None and budgets is None and rounded is None:
        raise typer.BadParameter(f"{results} holds none of serving.json, budgets.json and rounding.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page(serving, budgets, rounded))
    if serving is not None:
        plots(serving, out.parent)
    if budgets is not None:
        knobs(budgets["curves"]["onnx"], out.with_name("budgets.svg"))


if __name__ == "__main__":
    typer.run(main)
