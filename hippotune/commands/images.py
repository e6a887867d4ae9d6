"""`classify` and `bench`: images in, answers out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from hippotune import completion
from hippotune.calls import Ask
from hippotune.client import Client
from hippotune.errors import HippoTuneError, Refused, unnumbered
from hippotune.evaluation import OF_ONE_IMAGE
from hippotune.flags import Json, with_settings
from hippotune.latency import Latency, latency, noise
from hippotune.output import print_error, print_json, print_table
from hippotune.records import Budget, Classification, LayerTrace
from hippotune.setting_types import Part
from hippotune.settings import Settings

Images = Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="JPEG, PNG or WebP files.")]
TMAX = "Loop steps at most, from 1."
EPSILON = "Stop once a step moves the memory by less."
TOPK = "Slots recalled a step."
KEEP = "Share of image tokens kept apart, 0.5 to 1; less is faster."
BUDGET_MS = "Answer within so many milliseconds if that can be, with the largest keep that does."
REPEATED = " Repeat to compare."
SHOWN = 3
"""Labels of an answer in the table, unless told otherwise."""
USUAL = (Ask(tmax=1), Ask(tmax=4))
"""What `bench` compares unless told otherwise."""


@with_settings(Part.CLIENT)
def classify(
    settings: Settings,
    images: Images,
    tmax: Annotated[int | None, typer.Option(help=TMAX)] = None,
    epsilon: Annotated[float | None, typer.Option(help=EPSILON)] = None,
    topk: Annotated[int | None, typer.Option(help=TOPK)] = None,
    keep: Annotated[float | None, typer.Option(help=KEEP)] = None,
    budget_ms: Annotated[float | None, typer.Option(help=BUDGET_MS)] = None,
    timeout_ms: Annotated[int | None, typer.Option(help="Give up after so many milliseconds.")] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(autocompletion=completion.labels, help="Choose among these labels only; repeatable."),
    ] = None,
    top: Annotated[int | None, typer.Option(help="Labels in an answer, best first.")] = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Show which slot each step recalled most; --json tells all of them."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Classify images within a budget."""
    ask = asked(tmax=tmax, epsilon=epsilon, topk=topk, keep=keep, budget_ms=budget_ms)
    ask |= asked(timeout_ms=timeout_ms, labels=label or None, top=top, explain=explain or None)
    with settings.client() as client:
        found = outcomes(client, images, ask)
    answers = [(path, each) for path, each in found if isinstance(each, Classification)]
    failures = [each for _, each in found if isinstance(each, Exception)]
    if as_json:
        print_json([told(path, each) for path, each in found])
    elif answers:
        print_answers(answers, top or SHOWN)
        for path, answer in answers if explain else ():
            print_trace(str(path), answer.trace or ())
    for failure in failures[:-1]:
        print_error(unnumbered(failure))
    if failures:
        raise failures[-1]


def outcomes(
    client: Client, images: Sequence[Path], ask: Ask
) -> list[tuple[Path, Classification | HippoTuneError | OSError]]:
    """What became of each image, as far as the first error that is not of its image alone."""
    found: list[tuple[Path, Classification | HippoTuneError | OSError]] = []
    for path in images:
        try:
            found.append((path, client.classify(path, **ask)))
        except Refused as error:
            problem = error.problem | {"detail": f"{path}: {error.problem.get('detail', 'refused')}"}
            found.append((path, Refused(error.status, problem, busy=error.busy)))
            if error.status not in OF_ONE_IMAGE:
                break
        except OSError as error:
            found.append((path, error))
        except HippoTuneError as error:
            found.append((path, error))
            break
    return found


def told(path: Path, found: Classification | HippoTuneError | OSError) -> dict[str, Any]:
    """The JSON of an image's outcome."""
    if isinstance(found, Classification):
        return {"file": path, "answer": found}
    return {
        "file": path,
        "problem": found.problem if isinstance(found, Refused) else {"detail": unnumbered(found)},
    }


@with_settings(Part.CLIENT)
def bench(
    settings: Settings,
    images: Annotated[
        list[Path] | None,
        typer.Argument(exists=True, dir_okay=False, help="Images to ask about; else noise."),
    ] = None,
    tmax: Annotated[list[int] | None, typer.Option(help=TMAX + REPEATED)] = None,
    epsilon: Annotated[list[float] | None, typer.Option(help=EPSILON + REPEATED)] = None,
    topk: Annotated[list[int] | None, typer.Option(help=TOPK + REPEATED)] = None,
    keep: Annotated[list[float] | None, typer.Option(help=KEEP + REPEATED)] = None,
    budget_ms: Annotated[list[float] | None, typer.Option(help=BUDGET_MS + REPEATED)] = None,
    requests: Annotated[int, typer.Option(min=1, help="Requests for each budget.")] = 200,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests under way at the same time.")] = 1,
    as_json: Json = False,
) -> None:
    """Measure latency over HTTP for every combination of the budgets named; tmax 1 and 4 if none is.

    The budgets take turns, so that a busy machine slows all of them alike.
    """
    knobs = {"tmax": tmax, "epsilon": epsilon, "topk": topk, "keep": keep, "budget_ms": budget_ms}
    named = {name: values for name, values in knobs.items() if values}
    budgets = [asked(**dict(zip(named, each, strict=True))) for each in product(*named.values())]
    if not named:
        budgets = list(USUAL)
    bodies = [path.read_bytes() for path in images or []] or [noise()]
    with settings.client(retries=0) as client:
        measured = latency(client, bodies, budgets, requests, concurrency)
    if as_json:
        print_json([{"asked": ask, "measured": found} for ask, found in zip(budgets, measured, strict=True)])
        return
    print_latencies(f"{requests} requests each, {concurrency} at a time", budgets, measured)


def asked(**values: Any) -> Ask:
    """Those of the values that say something."""
    return cast(Ask, {name: value for name, value in values.items() if value is not None})


def granted(budgets: Sequence[Budget]) -> str:
    """The budgets of answers in a line; shares of tokens differ where the server chose them."""
    least, most = (choose(budget.keep for budget in budgets) for choose in (min, max))
    kept = f"{least:g}" if least == most else f"{least:g} to {most:g}"
    return f"tmax {budgets[-1].tmax}, epsilon {budgets[-1].epsilon:g}, topk {budgets[-1].topk}, keep {kept}"


def print_answers(answers: Sequence[tuple[Path, Classification]], shown: int = SHOWN) -> None:
    """A line an image, with this many labels; the title tells what answered all of them."""
    versions = sorted({answer.version for _, answer in answers})  # several where a canary is tried
    named = f"{'version' if len(versions) == 1 else 'versions'} {', '.join(map(str, versions))}"
    print_table(
        f"{named}, {granted([answer.budget for _, answer in answers])}",
        ["image", "label", "score", "familiar", "next", "steps", "ms"],
        [
            [
                path,
                answer.label or "(knows no class yet)",
                f"{answer.predictions[0].score:.3f}" if answer.predictions else "",
                "" if answer.familiarity is None else f"{answer.familiarity:.3f}",
                ", ".join(f"{p.label} {p.score:.2f}" for p in answer.predictions[1:shown]),
                " ".join(map(str, answer.steps)),
                f"{answer.timings_ms.total:.1f}",
            ]
            for path, answer in answers
        ],
        spare=("steps", "next"),
    )


def print_latencies(title: str, budgets: Sequence[Ask], measured: Sequence[Latency]) -> None:
    """A line a budget."""
    print_table(
        title,
        ["asked", "kept", "p50 ms", "p99 ms", "mean ms", "per second", "failed"],
        [
            [
                ", ".join(f"{name} {value:g}" for name, value in cast(dict[str, float], ask).items()),
                f"{found.keep:.2f}",
                f"{found.p50:.1f}",
                f"{found.p99:.1f}",
                f"{found.mean:.1f}",
                f"{found.per_second:.1f}",
                found.failed,
            ]
            for ask, found in zip(budgets, measured, strict=True)
        ],
        spare=("mean ms", "failed"),
    )


def print_trace(image: str, trace: Sequence[LayerTrace]) -> None:
    """A line a layer: the slot that each step recalled most, its share, and how far the last step moved the recall."""
    if not trace:
        typer.echo(f"{image}: nothing recalled, as this version has no slots")
        return
    steps = max(len(layer.steps) for layer in trace)
    print_table(
        f"{image}: most recalled, slot and share",
        ["layer", *(f"step {number}" for number in range(1, steps + 1)), "moved"],
        [
            [
                layer.layer,
                *(f"{best[0].slot}, {best[0].weight:.0%}" for best in layer.steps),
                *("stopped" for _ in range(steps - len(layer.steps))),
                f"{layer.moved[-1]:.2g}",
            ]
            for layer in trace
        ],
    )
