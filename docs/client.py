"""What the Python client offers, as rows of tables for docs/client.md."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator

from hippotune import Client, errors, records


def methods() -> Iterator[list[str]]:
    """How each is called, what it answers with, what it does."""
    for name, method in vars(Client).items():
        if not name.startswith("_"):
            told = inspect.signature(method)
            _, *taken = [each.replace(annotation=each.empty) for each in told.parameters.values()]
            call = f"{name}({', '.join(map(str, taken))})"
            yield [f"`{call}`", f"`{told.return_annotation}`", first(method)]


def answers() -> Iterator[list[str]]:
    """The records that methods answer with, and what is in them."""
    for name, kind in vars(records).items():
        if dataclasses.is_dataclass(kind):
            fields = [field.name for field in dataclasses.fields(kind)]
            worked_out = [each for each, value in vars(kind).items() if isinstance(value, property)]
            yield [f"`{name}`", first(kind), ", ".join(f"`{each}`" for each in (*fields, *worked_out))]


def raised() -> Iterator[list[str]]:
    """The errors, each with when it is raised."""
    for name, kind in vars(errors).items():
        if inspect.isclass(kind) and issubclass(kind, errors.HippoTuneError):
            yield [f"`{name}`", first(kind)]


def first(thing: object) -> str:
    """The first paragraph of a docstring, on a line."""
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())
