"""What commands print: tables for people, JSON for programs, and exit codes that scripts can use."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

import orjson
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hippotune.errors import HippoTuneError, Refused, TaskUnfinished, Unreachable
from hippotune.image_files import FilesLeftOut

UNCUT = 10_000
"""Columns where the output is no terminal: enough for anything."""


class Exit(IntEnum):
    """Exit codes of what failed. 2 is a wrong command line, as everywhere."""

    FAILED = 1
    UNREACHABLE = 3
    REFUSED = 4
    BUSY = 5
    UNFINISHED = 6
    INTERRUPTED = 130

    @classmethod
    def of(cls, error: HippoTuneError) -> Exit:
        """The code that tells this error from others."""
        if isinstance(error, Unreachable):
            return cls.UNREACHABLE
        if isinstance(error, Refused):
            return cls.BUSY if error.busy else cls.REFUSED
        return cls.UNFINISHED if isinstance(error, TaskUnfinished) else cls.FAILED


def print_json(value: Any) -> None:
    """One line of JSON on stdout; records become objects."""
    typer.echo(orjson.dumps(value, default=_plain))  # bytes: JSON is UTF-8 in any locale


def print_error(message: str) -> None:
    """One line on stderr."""
    _tell(Text.assemble(("error:", "red"), " ", _shown(message)))


def print_hint(message: str) -> None:
    """What may help, on stderr."""
    _tell(_shown(message, "dim"))


def print_note(message: str) -> None:
    """What was done otherwise than one may think, in a line on stderr."""
    _tell(Text.assemble(("note:", "yellow"), " ", _shown(message)))


def _tell(text: Text) -> None:
    Console(stderr=True, highlight=False).print(text, soft_wrap=True)


def print_untold(error: Refused) -> None:
    """What a server lists as refused beyond what its detail tells: a line each on stderr."""
    errors = error.problem.get("errors")
    for each in errors if isinstance(errors, list) else ():
        if isinstance(each, dict) and str(each.get("field")) not in str(error):
            print_hint(f"{each.get('field')} {each.get('value')}; it must {each.get('allowed')}")


@contextmanager
def left_out_is_told() -> Iterator[None]:
    """Tell of files left out in one line on stderr; Python would quote the line of our code that noticed."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, FilesLeftOut):
                print_note(str(message))
            else:
                usual(message, category, *where, **more)

        warnings.showwarning = show
        yield


def counted(number: int, noun: str) -> str:
    """A number of things in words: `1 task`, `2 tasks`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    whole: Collection[str] = (),
    spare: Sequence[str] = (),
) -> None:
    """A table on stdout; cells are shown as they are, never read as markup, nor cut.

    whole: columns that stay on one line, since they are copied into the next command.
    spare: columns left out on a terminal that is too narrow for all, the first of these first.
    """
    cells, console = [[_shown(cell) for cell in row] for row in rows], Console(highlight=False)
    if not console.is_terminal:
        console.width = UNCUT
    kept, unbounded = list(columns), console.options.update(max_width=UNCUT)
    for name in spare:
        wanted = console.measure(_table(columns, cells, kept, whole), options=unbounded).maximum
        if wanted <= console.width:
            break
        kept.remove(name)
    console.print(_shown(title, "table.title"))  # a table's own would be wrapped to the table's width
    console.print(_table(columns, cells, kept, whole))


def _table(
    columns: Sequence[str], cells: Sequence[Sequence[Text]], kept: Sequence[str], whole: Collection[str]
) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in kept:
        table.add_column(name, overflow="fold", no_wrap=name in whole)
    places = [columns.index(name) for name in kept]
    for row in cells:
        table.add_row(*(row[place] for place in places))
    return table


def print_record(pairs: Iterable[tuple[str, object]]) -> None:
    """One record on stdout: a line for each fact that is not empty."""
    console = Console(highlight=False)
    facts = [(name, value) for name, value in pairs if value not in (None, "")]
    if not console.is_terminal:  # in a file or a pipe nothing is cut, nor filled up with blanks
        width = max((len(name) for name, _ in facts), default=0)
        for name, value in facts:
            console.print(_shown(f"{name:<{width}}  {value}"), soft_wrap=True)
        return
    grid = Table.grid(padding=(0, 2))
    for name, value in facts:
        grid.add_row(_shown(name, "dim"), _shown(value))
    console.print(grid)


def moment(unix_s: float | None) -> str:
    """A time as people read it, in the local zone."""
    if unix_s is None:
        return ""
    return datetime.fromtimestamp(unix_s, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _shown(value: object, style: str = "") -> Text:
    """The value as it is: rich would read `[b]` as markup and make a flower of the label `:rose:`."""
    return Text(_encodable(str(value)), style)


def _encodable(text: str) -> str:
    """A file's name may hold bytes that are no text; those are shown as escapes."""
    return text.encode(errors="backslashreplace").decode()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return _encodable(str(value))
