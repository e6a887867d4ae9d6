"""`evaluate`: how many labelled images a server answers rightly, and what it takes the others for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from hippotune import evaluation
from hippotune.commands.images import BUDGET_MS, KEEP, TMAX, asked
from hippotune.evaluation import STRANGE, Evaluation
from hippotune.flags import Json, with_settings
from hippotune.output import counted, print_json, print_note, print_table
from hippotune.packing import listed
from hippotune.setting_types import Part
from hippotune.settings import Settings
from hippotune.sources import open_source, refuse_file

LISTED = 20
"""Labels in the table, the worst."""
CONFUSED = 3
"""Wrong answers named for a label."""


@with_settings(Part.CLIENT)
def evaluate(
    settings: Settings,
    source: Annotated[
        str,
        typer.Argument(
            help="Folder LABEL/IMAGE; .csv or .parquet of paths and labels; hf:NAME[:SPLIT]; torchvision:NAME[:SPLIT]."
        ),
    ],
    tmax: Annotated[int | None, typer.Option(help=TMAX)] = None,
    keep: Annotated[float | None, typer.Option(help=KEEP)] = None,
    budget_ms: Annotated[float | None, typer.Option(help=BUDGET_MS)] = None,
    per_class: Annotated[int | None, typer.Option(min=1, help="Images of a label at most.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests under way at the same time.")] = 4,
    data: Annotated[Path, typer.Option(help="Where torchvision keeps its sets.")] = Path("data"),
    as_json: Json = False,
) -> None:
    """Classify images whose labels are known, and count how many answers are right, label by label.

    Take images that were not taught: those are answered better than new ones.
    """
    try:
        refuse_file(source)
        images = open_source(source, data)
    except (ValueError, FileNotFoundError) as error:
        raise typer.BadParameter(str(error), param_hint="SOURCE") from None
    if per_class is not None:
        images = images.only(per_class)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with settings.client() as client, Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("asking", total=len(images.rows))
        ask = asked(tmax=tmax, keep=keep, budget_ms=budget_ms)
        found = evaluation.evaluate(client, images, ask, concurrency, lambda: progress.advance(bar))
    print_unanswerable(found)
    if as_json:
        print_json(found)
    else:
        print_evaluation(found)


def print_unanswerable(found: Evaluation) -> None:
    """A note each on images that were not answered and on labels that no version knows."""
    if found.problems:
        told = listed([f"{each.image}: {each.detail}" for each in found.problems], CONFUSED)
        print_note(f"{counted(len(found.problems), 'image')} not answered: {told}")
    if found.untaught:
        told = listed(found.untaught, LISTED)
        print_note(f"{counted(len(found.untaught), 'label')} never taught, so never right: {told}")


def print_evaluation(found: Evaluation) -> None:
    """The whole in a line, then a line a label, the worst first."""
    versions = ", ".join(map(str, found.versions))
    strange = "" if found.strange is None else f", {found.strange:.1%} with a familiarity below {STRANGE:g}"
    more = len(found.classes) - LISTED
    print_table(
        f"version {versions}: {found.right:.1%} of {counted(found.images, 'image')} right, {found.class_right:.1%} in "
        f"the mean over labels; mean score {found.score:.2f}{strange}"
        + (f"; the worst {LISTED} of {len(found.classes)} labels, --json tells all" if more > 0 else ""),
        ["label", "images", "right", "score", "taken for"],
        [
            [
                each.label,
                each.images,
                f"{each.right:.1%}",
                f"{each.score:.2f}",
                ", ".join(f"{label} {count}" for label, count in list(each.taken_for.items())[:CONFUSED]),
            ]
            for each in found.classes[:LISTED]
        ],
        spare=("score", "images"),
    )
