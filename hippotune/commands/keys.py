"""`keys new`, `keys list`, `keys revoke`: who may use a server."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from exchange.files import make_durable
from hippotune.flags import Json
from hippotune.output import counted, print_json, print_table
from service.http.api_keys import ApiKey, Role, create, parse

Name = Annotated[str, typer.Option(help="Whose key it is: letters, digits and _ . @ -")]
File = Annotated[
    Path,
    typer.Option(
        "--file", envvar="HIPPOTUNE_API_KEYS_FILE", help="File of keys, as --api-keys-file of `serve`."
    ),
]
MaybeFile = Annotated[
    Path | None,
    typer.Option(
        "--file",
        envvar="HIPPOTUNE_API_KEYS_FILE",
        help="File to add it to, as --api-keys-file of `serve`; else the line to add is printed.",
    ),
]


def application() -> typer.Typer:
    """The group `keys`."""
    app = typer.Typer(name="keys", no_args_is_help=True, help="Make, list and revoke API keys of a server.")
    app.command()(new)
    app.command("list")(list_keys)
    app.command()(revoke)
    return app


def new(
    name: Name,
    role: Annotated[list[Role], typer.Option(help="What it is good for; repeatable.")],
    file: MaybeFile = None,
    as_json: Json = False,
) -> None:
    """Make a key and print it, this once; only its hash is kept. A running server reads it within a second."""
    secret, key = create(name, role)
    if file is not None:
        _add(file, key)
    if as_json:
        print_json({"key": secret, "line": key.line(), "file": file})
        return
    place = f"{file} now holds its hash." if file else f"Give the server this line:\n{key.line()}"
    typer.echo(f"Keep this key, it is not shown again. {place}", err=True)
    typer.echo(secret)


def list_keys(file: File, as_json: Json = False) -> None:
    """List the keys of a file: names and roles."""
    found = parse(file.read_text(encoding="utf-8"), str(file))
    if as_json:
        print_json([{"name": key.name, "roles": sorted(key.roles)} for key in found])
    else:
        rows = [[key.name, ", ".join(sorted(key.roles))] for key in found]
        print_table(counted(len(found), "key"), ["name", "roles"], rows)


def revoke(name: Name, file: File, as_json: Json = False) -> None:
    """Take a key out of a file; a running server refuses it within a second."""
    place = file.resolve(strict=True)
    with _alone_with(place):
        text = place.read_text(encoding="utf-8")
        parse(text, str(file))  # of the whole, since it names the line that is none
        lines = text.splitlines()
        left = [line for line in lines if name not in {key.name for key in parse(line, str(file))}]
        if left == lines:
            raise typer.BadParameter(f"{file} holds no key of that name", param_hint="--name")
        _replace(place, "".join(f"{line}\n" for line in left))
    if as_json:
        print_json({"name": name, "file": file})
    else:
        typer.echo(f"{name} is no longer in {file}.")


def _add(file: Path, key: ApiKey) -> None:
    """Raises ValueError when the file holds a key of that name."""
    place = file.resolve()
    with _alone_with(place):
        known = place.read_text(encoding="utf-8") if place.exists() else ""
        if key.name in {other.name for other in parse(known, str(file))}:
            freed = f"`hippotune keys revoke --name {key.name} --file {shlex.quote(str(file))}`"
            raise ValueError(
                f"{file} already holds a key named {key.name}: take another --name, or first {freed}"
            )
        _replace(place, known + ("\n" if known and not known.endswith("\n") else "") + key.line() + "\n")


@contextmanager
def _alone_with(file: Path) -> Iterator[None]:
    """No other command changes the file meanwhile, so that none undoes what it did not read.

    The lock is on a file beside it, which stays: the file itself is replaced, and with it a lock on it.
    """
    import fcntl  # here, since every command imports this file, and Windows has none

    with file.with_name(f".{file.name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _replace(file: Path, text: str) -> None:
    """Whole or not at all: a server may be reading. For its owner alone, unless it was there with other rights.

    file: no link, which would be replaced itself, while the server goes on to read what it leads to.
    """
    mode = file.stat().st_mode & 0o777 if file.exists() else 0o600
    with tempfile.TemporaryDirectory(dir=file.absolute().parent, prefix=f".{file.name}.") as folder:
        draft = Path(folder) / file.name
        draft.write_text(text, encoding="utf-8")
        draft.chmod(mode)
        make_durable(draft)
        draft.replace(file)
