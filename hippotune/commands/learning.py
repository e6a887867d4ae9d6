"""`submit`, `tasks`, `forget`, `versions`, `activate`: what is learned and which version answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from hippotune import completion
from hippotune.client import Client
from hippotune.errors import HippoTuneError, TaskFailed, unnumbered
from hippotune.flags import Json, with_settings
from hippotune.kinds import Part
from hippotune.listings import print_task, print_tasks, print_version, print_versions
from hippotune.output import print_hint, print_json
from hippotune.packing import USUAL, TaskLimits, packed
from hippotune.records import LOST, Task
from hippotune.samples import as_text
from hippotune.settings import Settings
from hippotune.sources import is_archive, open_source

T = TypeVar("T")

Wait = Annotated[bool, typer.Option("--wait", help="Return once it is consolidated; 1 if it never is.")]


@with_settings(Part.CLIENT)
def submit(
    settings: Settings,
    source: Annotated[
        str,
        typer.Argument(
            help="Folder LABEL/IMAGE; zip or tar of one, or of a WebDataset; .csv or .parquet of paths and labels; "
            "hf:NAME[:SPLIT]; torchvision:NAME[:SPLIT]."
        ),
    ],
    name: Annotated[str, typer.Option(help="Name of the task; else that of the source.")] = "",
    key: Annotated[
        str | None, typer.Option(help="Idempotency key: the same key makes the same task.")
    ] = None,
    wait: Wait = False,
    per_class: Annotated[int | None, typer.Option(min=1, help="Images of a label at most.")] = None,
    task_images: Annotated[
        int, typer.Option(min=1, help="Images a task; more make several tasks, cut between labels.")
    ] = USUAL.images,
    task_mb: Annotated[int, typer.Option(min=1, help="Megabytes a task, likewise.")] = USUAL.size >> 20,
    data: Annotated[Path, typer.Option(help="Where torchvision keeps its sets.")] = Path("data"),
    as_json: Json = False,
) -> None:
    """Hand in labelled images to be learned."""
    limits = TaskLimits(task_images, task_mb << 20)
    with settings.client() as client:
        try:
            handed_in = _all(_submitted(client, source, name, key, per_class, limits, data))
        except (ValueError, FileNotFoundError) as error:
            raise typer.BadParameter(unnumbered(error), param_hint="SOURCE") from None
        if wait:
            handed_in = [_watch(client, task) for task in handed_in]
    if len(handed_in) == 1:
        _print_task(handed_in[0], as_json)
        return
    if as_json:
        print_json(handed_in)
    else:
        print_tasks(handed_in)
    if lost := [task for task in handed_in if task.state in LOST]:
        raise TaskFailed(lost[0])


def _all(submitted: Iterator[Task]) -> list[Task]:
    """All the tasks of a source. What stops one of them does not take back those before it, so they are named."""
    handed_in: list[Task] = []
    try:
        for task in submitted:
            handed_in.append(task)  # noqa: PERF402  # a list made whole would be lost with the error
    except (HippoTuneError, ValueError, OSError, KeyboardInterrupt):
        if handed_in:
            ids = ", ".join(task.id for task in handed_in)
            print_hint(f"handed in before that, and learned all the same: {ids}")
        raise
    return handed_in


def _submitted(
    client: Client,
    text: str,
    name: str,
    key: str | None,
    per_class: int | None,
    limits: TaskLimits,
    data: Path,
) -> Iterator[Task]:
    """The tasks a source becomes: one, or as many as the limits make of it, named and keyed by number."""
    if is_archive(text):
        if per_class is not None:
            raise ValueError(f"{text} is handed in whole; unpack it to choose images by --per-class")
        if (size := Path(text).stat().st_size) > limits.size:
            told = (
                f"{text} has {size >> 20} MB; unpack it: a folder is cut into tasks of {limits.size >> 20} MB"
            )
            raise ValueError(told)
        yield client.submit(text, name or as_text(Path(text).stem), key)
        return
    source = open_source(text, data)
    source = source if per_class is None else source.only(per_class)
    name = name or as_text(source.name)
    described = TextColumn("{task.description}", markup=False)  # it holds a name, which may look like markup
    columns = (SpinnerColumn(), described, BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress, packed(source, limits) as archives:
        bar = progress.add_task(f"handing in {name}", total=len(source.rows))
        for number, (archive, images) in enumerate(archives, start=1):
            later = number > 1
            yield client.submit(
                archive, f"{name} {number}" if later else name, f"{key}-{number}" if key and later else key
            )
            progress.advance(bar, images)


@with_settings(Part.CLIENT)
def feedback(
    settings: Settings,
    answer: Annotated[str, typer.Argument(help="Id of an answer, as `classify --json` gives it.")],
    label: Annotated[
        str,
        typer.Argument(
            autocompletion=completion.labels, help="What the image shows, a known label or a new one."
        ),
    ],
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Correct an answer without sending its image again."""
    with settings.client() as client:
        task = client.feedback(answer, label)
        if wait:
            task = _watch(client, task)
    _print_task(task, as_json)


@with_settings(Part.CLIENT)
def tasks(
    settings: Settings,
    task: Annotated[
        str | None,
        typer.Argument(autocompletion=completion.tasks, help="Id of one task; else the newest 1000."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List tasks, newest first."""
    with settings.client() as client:
        if task is not None:
            _show(client.task(task), as_json, print_task)
        else:
            _show(client.tasks(), as_json, print_tasks)


@with_settings(Part.CLIENT)
def retry(
    settings: Settings,
    task: Annotated[str, typer.Argument(autocompletion=completion.tasks, help="Id of the task.")],
    as_json: Json = False,
) -> None:
    """Queue a failed task again."""
    with settings.client() as client:
        queued = client.retry(task)
    _print_task(queued, as_json)


@with_settings(Part.CLIENT)
def forget(
    settings: Settings,
    task: Annotated[str, typer.Argument(autocompletion=completion.tasks, help="Id of the task.")],
    wait: Annotated[
        bool, typer.Option("--wait", help="Return once it is forgotten; 1 if it cannot be.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Cancel a task that waits or has failed, or forget one that was learned."""
    with settings.client() as client:
        left = client.remove(task)
        if wait:
            left = _watch(client, left)
    _show(left, as_json, print_task)
    if left.ended and left.state not in LOST:
        raise TaskFailed(left)


@with_settings(Part.CLIENT)
def versions(
    settings: Settings,
    version: Annotated[
        int | None,
        typer.Argument(autocompletion=completion.versions, help="Number of one version; else all."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List versions, newest first."""
    with settings.client() as client:
        if version is not None:
            _show(client.version(version), as_json, print_version)
        else:
            _show(client.versions(), as_json, print_versions)


@with_settings(Part.CLIENT)
def activate(
    settings: Settings,
    version: Annotated[
        int, typer.Argument(autocompletion=completion.versions, help="Number of the version.")
    ],
    canary: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Share of the requests that it answers as canary; 0 ends that, none promotes it.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Serve another version: roll back, or forward; or try it on a share of the requests first."""
    with settings.client() as client:
        activated = client.activate(version, canary)
    if as_json:
        print_json(activated)
    elif canary == 0:
        Console().print("the canary has ended")
    elif canary is not None:
        Console().print(f"version {activated.version} now answers {canary:.0%} of the requests")
    else:
        Console().print(f"version {activated.version} is now served")


def _show(found: T, as_json: bool, print_it: Callable[[T], None]) -> None:
    if as_json:
        print_json(found)
    else:
        print_it(found)


def _watch(client: Client, task: Task) -> Task:
    """Follow a task to its end behind a progress bar on stderr. Who stops before that is told how to go on."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(task.state, total=1.0)
        try:
            for seen in client.watch(task.id):
                progress.update(bar, description=seen.state, completed=seen.progress)
                task = seen
        except (HippoTuneError, KeyboardInterrupt):
            progress.stop()
            print_hint(f"the task is not lost: `hippotune tasks {task.id}` shows it")
            raise
    return task


def _print_task(task: Task, as_json: bool) -> None:
    """Raises TaskFailed for one that will never be learned."""
    if as_json:
        print_json(task)
    else:
        print_task(task)
    if task.state in LOST:
        raise TaskFailed(task)
