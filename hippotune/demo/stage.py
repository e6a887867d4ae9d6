"""The demo on a terminal: bars while it learns, then what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from hippotune.demo.data import DemoTask
from hippotune.demo.report import Report, average_accuracy, forgetting
from hippotune.demo.run import Learned
from hippotune.records import Task


class Stage:
    """Shows a run as it goes; a context manager, since it holds the terminal's last lines."""

    def __init__(self, console: Console) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),  # it holds labels, which may look like markup
            BarColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
        )
        self._console = console
        self._progress = Progress(*columns, console=console, transient=True)
        self._bar: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def submitted(self, task: DemoTask) -> None:
        """A task is about to be sent."""
        self._bar = self._progress.add_task(
            f"{task.name}  ({len(task.train)} images)", total=1.0, state="queued"
        )

    def progressed(self, task: Task) -> None:
        """The server said how far it is."""
        if self._bar is not None:
            self._progress.update(self._bar, completed=task.progress, state=task.state)

    def learned(self, task: DemoTask, learned: Learned, accuracies: Sequence[float]) -> None:
        """A task is consolidated; accuracies on it and all before it."""
        if self._bar is not None:
            self._progress.remove_task(self._bar)
        average = sum(accuracies) / len(accuracies)
        self._console.print(
            f"[green]learned[/green] {escape(f'{task.name:<24}')} served after {learned.to_served:5.2f} s, "
            f"consolidated after {learned.to_consolidated:5.1f} s, version {learned.version}, "
            f"accuracy so far {average:.1%}",
            highlight=False,
            soft_wrap=True,
        )


def show(console: Console, tasks: Sequence[DemoTask], report: Report, version: int) -> None:
    """The accuracy matrix, and the figures below it."""
    matrix = Table("after", *(escape(task.name) for task in tasks))
    for task, row in zip(tasks, report.matrix, strict=True):
        matrix.add_row(escape(task.name), *(f"{100 * accuracy:.1f}" for accuracy in row))
    figures = Table(show_header=False, box=None)
    figures.add_row("average accuracy", f"{average_accuracy(report.matrix):.1%}")
    figures.add_row("forgetting", f"{100 * forgetting(report.matrix):.1f} points")
    if report.unknown_before is not None and report.unknown_after is not None:
        shares = f"{report.unknown_before:.1%} before they were taught, {report.unknown_after:.1%} after"
        figures.add_row("held-out images taken for unknown", shares)
    figures.add_row("version served", str(version))
    figures.add_row("seconds from POST to served", _list(report.seconds_to_served))
    figures.add_row("seconds from POST to consolidated", _list(report.seconds_to_consolidated))
    for tmax, found in report.latency.items():
        figures.add_row(f"latency at tmax {tmax}", f"p50 {found.p50:.1f} ms, p99 {found.p99:.1f} ms")
    figures.add_row("failed requests", str(report.failed_requests))
    console.print(
        "\nAccuracy on held-out images (%), with all classes known so far to choose from", highlight=False
    )
    console.print(matrix)
    console.print(figures)


def _list(seconds: Sequence[float]) -> str:
    return "  ".join(f"{value:.2f}" for value in seconds)
