"""`submit`: labelled images of any kind of source, handed in as one task or several."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from hippotune.client import Client
from hippotune.commands.learning import Wait, WaitS, print_outcomes, watch
from hippotune.encoding import whole
from hippotune.errors import HippoTuneError, Refused, Unanswered, unnumbered
from hippotune.flags import Json, with_settings
from hippotune.image_files import NAMED, as_text
from hippotune.output import counted, print_hint, print_note
from hippotune.packing import USUAL, Source, TaskLimits, Unfit, listed, packed
from hippotune.records import Task
from hippotune.setting_types import Part
from hippotune.settings import Settings
from hippotune.sources import open_source, sent_whole


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which images of a source are handed in.

    per_class: the first so many of each label; None for all.  skip_damaged: all but those that cannot be read.
    """

    per_class: int | None
    skip_damaged: bool

    def of(self, source: Source) -> Source:
        """The source as far as it is chosen."""
        source = source if self.per_class is None else source.only(self.per_class)
        return whole(source) if self.skip_damaged else source

    @property
    def flags(self) -> str:
        """Those that choose anything."""
        flags = {"--per-class": self.per_class is not None, "--skip-damaged": self.skip_damaged}
        return " and ".join(flag for flag, given in flags.items() if given)


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
    wait_s: WaitS = None,
    per_class: Annotated[int | None, typer.Option(min=1, help="Images of a label at most.")] = None,
    task_images: Annotated[
        int, typer.Option(min=1, help="Images a task; more make several tasks, cut between labels.")
    ] = USUAL.images,
    task_mb: Annotated[int, typer.Option(min=1, help="Megabytes a task, likewise.")] = USUAL.size >> 20,
    skip_damaged: Annotated[
        bool,
        typer.Option("--skip-damaged", help="Leave out images that cannot be read, and say which."),
    ] = False,
    data: Annotated[Path, typer.Option(help="Where torchvision keeps its sets.")] = Path("data"),
    as_json: Json = False,
) -> None:
    """Hand in labelled images to be learned."""
    key = key or uuid.uuid4().hex  # of all tasks of a source, so that all of it can be handed in again
    limits, chosen = TaskLimits(task_images, task_mb << 20, USUAL.labels), Chosen(per_class, skip_damaged)
    with settings.client() as client:
        with _advised(source, key, skip_damaged):
            handed_in = _all(_submitted(client, source, name, key, chosen, limits, data))
        tasks, late = watch(handed_in, client, wait, wait_s)
    print_outcomes(tasks, as_json, late)


@contextmanager
def _advised(source: str, key: str, skip_damaged: bool) -> Iterator[None]:
    """Inside, who is refused or not answered is told what to do. Raises typer.BadParameter for a wrong source."""
    try:
        yield
    except Unfit as error:
        told = f"{error}. --skip-damaged leaves such images out"
        raise typer.BadParameter(told, param_hint="SOURCE") from None
    except Refused as error:
        if not (skip_damaged or sent_whole(source)) and _is_of_images(error):
            print_hint("--skip-damaged leaves out images that are damaged")
        raise
    except Unanswered:
        print_hint(f"the same command with --key {key} finds it, and hands in nothing twice")
        raise
    except (ValueError, FileNotFoundError) as error:
        raise typer.BadParameter(unnumbered(error), param_hint="SOURCE") from None


def _is_of_images(error: Refused) -> bool:
    """Whether it is said to be images that cannot be read; not that they are too large."""
    return error.status in (415, 422) and "files[" in str(error)


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
    key: str,
    chosen: Chosen,
    limits: TaskLimits,
    data: Path,
) -> Iterator[Task]:
    """The tasks a source becomes: one, or as many as the limits make of it, named and keyed by number."""
    if sent_whole(text):
        if chosen.flags:
            raise ValueError(f"{text} is handed in whole; unpack it to choose images by {chosen.flags}")
        if (size := Path(text).stat().st_size) > limits.size:
            told = (
                f"{text} has {size >> 20} MB; unpack it: a folder is cut into tasks of {limits.size >> 20} MB"
            )
            raise ValueError(told)
        yield client.submit(text, name or as_text(Path(text).stem), key)
        return
    source = chosen.of(open_source(text, data))
    name = name or as_text(source.name)
    left_out: list[str] = []
    try:
        for number, archive in _archives(source, name, limits, left_out if chosen.skip_damaged else None):
            later = number > 1
            yield client.submit(
                archive, f"{name} {number}" if later else name, f"{key}-{number}" if later else key
            )
    finally:
        if left_out:
            told = f"left out {len(left_out)} of {counted(len(source.rows), 'image')}"
            print_note(f"{source.name}: {told}: {listed(left_out, NAMED)}")


def _archives(
    source: Source, name: str, limits: TaskLimits, left_out: list[str] | None
) -> Iterator[tuple[int, Path]]:
    """A source as numbered archives, behind a progress bar on stderr: each counts once the next is asked for."""
    described = TextColumn("{task.description}", markup=False)  # it holds a name, which may look like markup
    columns = (SpinnerColumn(), described, BarColumn(), MofNCompleteColumn())
    with (
        Progress(*columns, console=Console(stderr=True)) as progress,
        packed(source, limits, left_out) as archives,
    ):
        bar = progress.add_task(f"handing in {name}", total=len(source.rows))
        for number, (archive, images) in enumerate(archives, start=1):
            yield number, archive
            progress.update(bar, advance=images, total=len(source.rows) - len(left_out or ()))
