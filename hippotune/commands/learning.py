"""`feedback`, `tasks`, `forget`, `versions`, `activate`: what is learned and which version answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from hippotune import completion
from hippotune.client import Client
from hippotune.errors import HippoTuneError, TaskFailed
from hippotune.flags import Json, with_settings
from hippotune.listings import print_task, print_tasks, print_version, print_versions
from hippotune.output import print_hint, print_json
from hippotune.records import LOST, Task
from hippotune.setting_types import Part
from hippotune.settings import Settings

T = TypeVar("T")

Wait = Annotated[bool, typer.Option("--wait", help="Return once it is consolidated; 1 if it never is.")]


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
            task = watch(client, task)
    print_outcome(task, as_json)


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
    print_outcome(queued, as_json)


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
            left = watch(client, left)
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


def watch(client: Client, task: Task) -> Task:
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


def print_outcome(task: Task, as_json: bool) -> None:
    """Raises TaskFailed for one that will never be learned."""
    if as_json:
        print_json(task)
    else:
        print_task(task)
    if task.state in LOST:
        raise TaskFailed(task)
