"""What commands print: tables for people, JSON for programs, and exit codes that scripts can use."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from hippotune.errors import HippoTuneError, Refused, Unreachable

UNCUT = 10_000
"""Columns of a terminal that is none."""


class Exit(IntEnum):
    """Exit codes. 2 is a wrong command line, as everywhere."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    BUSY = 5
    INTERRUPTED = 130

    @classmethod
    def of(cls, error: HippoTuneError) -> Exit:
        """The code that tells this error from others."""
        if isinstance(error, Unreachable):
            return cls.UNREACHABLE
        if isinstance(error, Refused):
            return cls.BUSY if error.busy else cls.REFUSED
        return cls.FAILED


def print_json(value: Any) -> None:
    """One line of JSON on stdout; records become objects."""
    typer.echo(orjson.dumps(value, default=_plain).decode())


def print_error(message: str) -> None:
    """One line on stderr."""
    Console(stderr=True, highlight=False).print(f"[red]error:[/red] {_safe(message)}")


def print_hint(message: str) -> None:
    """What may help, on stderr."""
    Console(stderr=True, highlight=False).print(f"[dim]{_safe(message)}[/dim]")


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout; cells are shown as they are, never read as markup, nor cut for a pipe."""
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(_safe(str(cell)) for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = UNCUT
    console.print(table)


def moment(unix_s: float | None) -> str:
    """A time as people read it, in the local zone."""
    if unix_s is None:
        return ""
    return datetime.fromtimestamp(unix_s, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _safe(text: str) -> str:
    return text.replace("[", r"\[")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)
