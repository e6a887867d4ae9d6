"""`classify` and `bench`: images in, answers out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hippotune.calls import Ask
from hippotune.client import Client
from hippotune.flags import Json, with_settings
from hippotune.latency import latency, noise
from hippotune.output import print_json, print_table
from hippotune.settings import Part, Settings

Images = Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="JPEG, PNG or WebP files.")]
Tmax = Annotated[int | None, typer.Option(help="Loop steps at most, from 1.")]
Epsilon = Annotated[float | None, typer.Option(help="Stop once a step moves the memory by less.")]
Topk = Annotated[int | None, typer.Option(help="Slots recalled a step.")]
Label = Annotated[list[str] | None, typer.Option(help="Choose among these labels only; repeatable.")]
Explain = Annotated[
    bool, typer.Option("--explain", help="Add what was recalled at each layer and step (JSON).")
]


@with_settings(Part.CLIENT)
def classify(
    settings: Settings,
    images: Images,
    tmax: Tmax = None,
    epsilon: Epsilon = None,
    topk: Topk = None,
    label: Label = None,
    explain: Explain = False,
    as_json: Json = False,
) -> None:
    """Classify images within a budget."""
    ask: Ask = {}
    if tmax is not None:
        ask["tmax"] = tmax
    if epsilon is not None:
        ask["epsilon"] = epsilon
    if topk is not None:
        ask["topk"] = topk
    if label:
        ask["labels"] = label
    if explain:
        ask["explain"] = True
    with Client(
        settings.url, api_key=settings.api_key, timeout=settings.timeout_s, retries=settings.retries
    ) as client:
        answers = [(path, client.classify(path, **ask)) for path in images]
    if as_json:
        print_json([{"file": path, "answer": answer} for path, answer in answers])
        return
    print_table(
        f"version {answers[-1][1].version}, tmax {answers[-1][1].budget.tmax}",
        ["image", "label", "score", "next", "steps", "ms"],
        [
            [
                path,
                answer.label or "(knows no class yet)",
                f"{answer.predictions[0].score:.3f}" if answer.predictions else "",
                ", ".join(f"{p.label} {p.score:.2f}" for p in answer.predictions[1:3]),
                " ".join(map(str, answer.steps)),
                f"{answer.timings.total:.1f}" if answer.timings else "",
            ]
            for path, answer in answers
        ],
    )


@with_settings(Part.CLIENT)
def bench(
    settings: Settings,
    images: Annotated[
        list[Path] | None,
        typer.Argument(exists=True, dir_okay=False, help="Images to ask about; else noise."),
    ] = None,
    tmax: Annotated[
        list[int] | None, typer.Option(help="Budgets to compare; repeatable. Else 1 and 4.")
    ] = None,
    requests: Annotated[int, typer.Option(min=1, help="Requests for each budget.")] = 200,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests under way at the same time.")] = 1,
    as_json: Json = False,
) -> None:
    """Measure latency over HTTP, budgets in turn so that a busy machine slows all of them alike."""
    bodies = [path.read_bytes() for path in images or []] or [noise()]
    with Client(settings.url, api_key=settings.api_key, timeout=settings.timeout_s, retries=0) as client:
        measured = latency(client, bodies, tuple(tmax or (1, 4)), requests, concurrency)
    if as_json:
        print_json({f"tmax{steps}": result for steps, result in measured.items()})
        return
    print_table(
        f"{requests} requests each, {concurrency} at a time",
        ["tmax", "p50 ms", "p99 ms", "mean ms", "requests/s", "failed"],
        [
            [
                steps,
                f"{result.p50:.1f}",
                f"{result.p99:.1f}",
                f"{result.mean:.1f}",
                f"{result.per_second:.1f}",
                result.failed,
            ]
            for steps, result in measured.items()
        ],
    )
