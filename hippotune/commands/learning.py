"""`feedback`, `tasks`, `forget`, `versions`, `activate`: what is learned and which version answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from exchange.records import TaskState
from hippotune import completion
from hippotune.calls import MOST_TASKS
from hippotune.checks import task_id
from hippotune.client import Client
from hippotune.errors import HippoTuneError, TaskFailed, TaskUnfinished
from hippotune.flags import Json, with_settings
from hippotune.listings import print_task, print_tasks, print_version, print_versions
from hippotune.output import print_hint, print_json
from hippotune.records import LOST, Task
from hippotune.setting_types import Part
from hippotune.settings import Settings
from hippotune.waiting import Deadline

T = TypeVar("T")

Wait = Annotated[bool, typer.Option("--wait", help="Return once it is consolidated; 1 if it never is.")]
WaitS = Annotated[
    float | None, typer.Option(min=0, help="The same, after so many seconds at most; 6 if it goes on.")
]


def _named(task: str | None) -> str | None:
    """An id as it was typed. Raises typer.BadParameter for what is none, as of a variable of a script that is empty."""
    try:
        return None if task is None else task_id(task)
    except ValueError as error:
        raise typer.BadParameter(f"{error}; `hippotune tasks` lists them") from None


TaskId = Annotated[
    str, typer.Argument(autocompletion=completion.tasks, callback=_named, help="Id of the task.")
]


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
    wait_s: WaitS = None,
    as_json: Json = False,
) -> None:
    """Correct an answer without sending its image again."""
    with settings.client() as client:
        found, late = watch([client.feedback(answer, label)], client, wait, wait_s)
    print_outcomes(found, as_json, late)


@with_settings(Part.CLIENT)
def tasks(
    settings: Settings,
    task: Annotated[
        str | None,
        typer.Argument(
            autocompletion=completion.tasks, callback=_named, help="Id of one task; else the newest."
        ),
    ] = None,
    state: Annotated[
        TaskState | None, typer.Option(help=f"Only tasks in this state, of the newest {MOST_TASKS}.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=MOST_TASKS, help="Most tasks listed.")] = MOST_TASKS,
    as_json: Json = False,
) -> None:
    """List tasks, newest first."""
    if task is not None and (state is not None or limit != MOST_TASKS):
        raise typer.BadParameter("one task is named; --state and --limit are for lists", param_hint="TASK")
    with settings.client() as client:
        if task is not None:
            _show(client.task(task), as_json, print_task)
        else:
            found = client.tasks(state, limit)
            _show(found, as_json, partial(print_tasks, cut=len(found) == limit))


@with_settings(Part.CLIENT)
def retry(
    settings: Settings,
    task: TaskId,
    as_json: Json = False,
) -> None:
    """Queue a failed task again."""
    with settings.client() as client:
        queued = client.retry(task)
    print_outcomes([queued], as_json)


@with_settings(Part.CLIENT)
def forget(
    settings: Settings,
    task: TaskId,
    wait: Annotated[
        bool, typer.Option("--wait", help="Return once it is forgotten; 1 if it cannot be.")
    ] = False,
    wait_s: WaitS = None,
    as_json: Json = False,
) -> None:
    """Cancel a task that waits or has failed, or forget one that was learned."""
    with settings.client() as client:
        [left], late = watch([client.remove(task)], client, wait, wait_s)
    _show(left, as_json, print_task)
    if late is not None:
        raise late
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
            _show(client.versions(labels=as_json), as_json, print_versions)


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


def watch(
    tasks: Sequence[Task], client: Client, wait: bool, wait_s: float | None
) -> tuple[Sequence[Task], TaskUnfinished | None]:
    """Tasks as they ended, or as they are once `wait_s` seconds are over, and the error that says so.

    As they are now where nobody waits: neither `wait` nor `wait_s` was given.
    """
    if not wait and wait_s is None:
        return tasks, None
    seen: list[Task] = []
    late, deadline = None, Deadline(wait_s)
    for task in tasks:
        try:
            seen.append(client.task(task.id) if late else _followed(client, task, deadline.left_s()))
        except TaskUnfinished as error:
            seen.append(error.task)
            late = error
    return seen, late


def _followed(client: Client, task: Task, wait_s: float | None) -> Task:
    """Follow a task to its end behind a progress bar on stderr. Who stops before that is told how to go on."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(task.state, total=1.0)
        try:
            for seen in client.watch(task.id, wait_s):
                progress.update(bar, description=seen.state, completed=seen.progress)
                task = seen
        except (HippoTuneError, KeyboardInterrupt):
            progress.stop()
            print_hint(f"the task is not lost: `hippotune tasks {task.id}` shows it")
            raise
    return task


def print_outcomes(tasks: Sequence[Task], as_json: bool, late: TaskUnfinished | None = None) -> None:
    """One task by itself, several as a list.

    Raises TaskFailed for the first that will never be learned, and `late` for one that was waited for too long.
    """
    if len(tasks) == 1:
        _show(tasks[0], as_json, print_task)
    else:
        _show(tasks, as_json, print_tasks)
    if late is not None:
        raise late
    if lost := [task for task in tasks if task.state in LOST]:
        raise TaskFailed(lost[0])
