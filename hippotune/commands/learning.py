"""`submit`, `tasks`, `forget`, `versions`, `activate`: what is learned and which version answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from hippotune.client import Client
from hippotune.errors import TaskFailed
from hippotune.flags import Json, with_settings
from hippotune.output import moment, print_json, print_table
from hippotune.records import LOST, Task, Version
from hippotune.settings import Part, Settings

Wait = Annotated[bool, typer.Option("--wait", help="Return once it is consolidated; 1 if it never is.")]


@with_settings(Part.CLIENT)
def submit(
    settings: Settings,
    source: Annotated[Path, typer.Argument(exists=True, help="Folder LABEL/IMAGE, or a zip or tar of one.")],
    name: Annotated[str, typer.Option(help="Name of the task; else that of the folder or archive.")] = "",
    key: Annotated[
        str | None, typer.Option(help="Idempotency key: the same key makes the same task.")
    ] = None,
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Hand in labelled images to be learned."""
    with _client(settings) as client:
        try:
            task = client.submit(source, name or source.resolve().stem, key)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="SOURCE") from None
        if wait:
            task = _watch(client, task)
    _print_task(task, as_json)


@with_settings(Part.CLIENT)
def feedback(
    settings: Settings,
    answer: Annotated[str, typer.Argument(help="Id of an answer, as `classify --json` gives it.")],
    label: Annotated[str, typer.Argument(help="What the image shows, a known label or a new one.")],
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Correct an answer without sending its image again."""
    with _client(settings) as client:
        task = client.feedback(answer, label)
        if wait:
            task = _watch(client, task)
    _print_task(task, as_json)


@with_settings(Part.CLIENT)
def tasks(
    settings: Settings,
    task: Annotated[str | None, typer.Argument(help="Id of one task; else all.")] = None,
    as_json: Json = False,
) -> None:
    """List tasks, newest first."""
    with _client(settings) as client:
        found = client.tasks() if task is None else [client.task(task)]
    if as_json:
        print_json(found if task is None else found[0])
    else:
        _print_tasks(found)


@with_settings(Part.CLIENT)
def retry(
    settings: Settings, task: Annotated[str, typer.Argument(help="Id of the task.")], as_json: Json = False
) -> None:
    """Queue a failed task again."""
    with _client(settings) as client:
        queued = client.retry(task)
    _print_task(queued, as_json)


@with_settings(Part.CLIENT)
def forget(
    settings: Settings,
    task: Annotated[str, typer.Argument(help="Id of the task.")],
    wait: Annotated[
        bool, typer.Option("--wait", help="Return once it is forgotten; 1 if it cannot be.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Cancel a task that waits or has failed, or forget one that was learned."""
    with _client(settings) as client:
        left = client.remove(task)
        if wait:
            left = _watch(client, left)
    if as_json:
        print_json(left)
    else:
        _print_tasks([left])
    if left.ended and left.state not in LOST:
        raise TaskFailed(left)


@with_settings(Part.CLIENT)
def versions(
    settings: Settings,
    version: Annotated[int | None, typer.Argument(help="Number of one version; else all.")] = None,
    as_json: Json = False,
) -> None:
    """List versions, newest first."""
    with _client(settings) as client:
        found = client.versions() if version is None else [client.version(version)]
    if as_json:
        print_json(found if version is None else found[0])
    else:
        _print_versions(found)


@with_settings(Part.CLIENT)
def activate(
    settings: Settings,
    version: Annotated[int, typer.Argument(help="Number of the version.")],
    canary: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Share of requests it is tried on; 0 ends a trial, none promotes it."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Serve another version: roll back, or forward; or try it on a share of the requests first."""
    with _client(settings) as client:
        activated = client.activate(version, canary)
    if as_json:
        print_json(activated)
    elif canary is not None:
        Console().print(f"version {activated.version} now answers {canary:.0%} of the requests")
    else:
        Console().print(f"version {activated.version} is now served")


def _client(settings: Settings) -> Client:
    return Client(
        settings.url, api_key=settings.api_key, timeout=settings.timeout_s, retries=settings.retries
    )


def _watch(client: Client, task: Task) -> Task:
    """Follow a task to its end behind a progress bar on stderr."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(task.state, total=1.0)
        for seen in client.watch(task.id):
            progress.update(bar, description=seen.state, completed=seen.progress)
            task = seen
    return task


def _print_task(task: Task, as_json: bool) -> None:
    """Raises TaskFailed for one that will never be learned."""
    if as_json:
        print_json(task)
    else:
        _print_tasks([task])
    if task.state in LOST:
        raise TaskFailed(task)


def _print_tasks(found: list[Task]) -> None:
    print_table(
        f"{len(found)} tasks",
        ["id", "name", "state", "progress", "images", "labels", "version", "submitted", "error"],
        [
            [
                task.id,
                task.name,
                task.state,
                f"{task.progress:.0%}",
                task.images,
                _some(task.labels),
                task.version if task.version is not None else "",
                moment(task.created_at),
                task.error or "",
            ]
            for task in found
        ],
    )


def _print_versions(found: list[Version]) -> None:
    print_table(
        f"{len(found)} versions",
        ["version", "", "kind", "labels", "tasks", "slots", "published"],
        [
            [
                version.version,
                "served" if version.current else "",
                version.kind,
                _some(version.labels),
                len(version.consolidated) + len(version.fast),
                version.slots,
                moment(version.created_at),
            ]
            for version in found
        ],
    )


def _some(labels: tuple[str, ...], shown: int = 6) -> str:
    rest = len(labels) - shown
    return ", ".join(labels[:shown]) + (f" and {rest} more" if rest > 0 else "")
