"""`demo`: the main job, end to end, on this machine."""

from __future__ import annotations

import os
import shlex
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer
from rich.console import Console
from rich.markup import escape

from hippotune.client import Client
from hippotune.errors import HippoTuneError, unnumbered
from hippotune.flags import with_settings
from hippotune.image_files import media_type
from hippotune.output import Exit
from hippotune.setting_types import Part
from hippotune.settings import Settings
from hippotune.supervision import everything, until_asked_to_stop

if TYPE_CHECKING:
    from hippotune.demo.data import DemoTask
    from hippotune.demo.report import Report

CACHE = Path.home() / ".cache" / "hippotune"
CIFAR_TRAIN, CIFAR_TEST = 20, 10
"""Images a class of CIFAR-100 unless told otherwise: a CPU gets through them."""


@with_settings(Part.COMMON, Part.SERVER, Part.TRAINER)
def demo(
    settings: Settings,
    data: Annotated[
        str, typer.Option(help="`digits`, `cifar100` (downloaded once), or a folder LABEL/IMAGE.")
    ] = "digits",
    tasks: Annotated[int | None, typer.Option(min=1, help="Tasks to deal the classes into.")] = None,
    per_class: Annotated[int | None, typer.Option(min=1, help="Most images of a class to learn.")] = None,
    test_per_class: Annotated[int | None, typer.Option(min=1, help="Most images of a class to ask.")] = None,
    leave: Annotated[bool, typer.Option("--exit", help="Stop when done instead of serving on.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="File for the figures as JSON.")] = None,
) -> None:
    """Start everything, teach it task after task over HTTP, and show what it keeps."""
    console, finished = Console(), False
    if json_file is not None and not json_file.absolute().parent.is_dir():  # the figures come minutes later
        raise typer.BadParameter(f"no such folder: {json_file.parent}", param_hint="--json")
    chosen = _load(data, tasks, per_class, test_per_class)
    with until_asked_to_stop(), ExitStack() as running:
        store = settings.store
        if "store" not in settings.model_fields_set:
            store = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="hippotune-")))
        port = settings.port if "port" in settings.model_fields_set else free_port(settings)
        environment = os.environ | settings.environment()
        address, child = running.enter_context(
            everything(store, "--port", str(port), environment=environment)
        )
        console.print(
            f"HippoTune is at [bold]{escape(address)}[/bold]; teaching it {escape(data)}", highlight=False
        )
        report = _run(console, address, chosen, budgets=(1, settings.tmax or 4))
        if json_file is not None:
            json_file.write_bytes(orjson.dumps(report.document(), option=orjson.OPT_INDENT_2))
        finished = True
        if not leave:
            console.print(_invitation(address, _keep_one(store, chosen)), highlight=False, soft_wrap=True)
            if code := child.wait():
                raise HippoTuneError(f"what was left serving ended by itself, with exit code {code}")
    if not finished:
        raise typer.Exit(Exit.INTERRUPTED)


def _load(data: str, tasks: int | None, train: int | None, test: int | None) -> list[DemoTask]:
    """Raises typer.BadParameter for data that cannot be used."""
    from hippotune.demo.data import Limits, cifar100, digits, folder

    try:
        if data == "digits":
            return digits(Limits(tasks or 5, train, test))
        if data == "cifar100":
            return cifar100(CACHE, Limits(tasks or 10, train or CIFAR_TRAIN, test or CIFAR_TEST))
        return folder(Path(data), Limits(tasks or 5, train, test))
    except (OSError, ValueError) as error:
        raise typer.BadParameter(unnumbered(error), param_hint="--data, --tasks") from None


def _run(console: Console, address: str, tasks: list[DemoTask], budgets: tuple[int, ...]) -> Report:
    from hippotune.demo.run import Demo
    from hippotune.demo.stage import Stage, show

    with Client(address, retries=0) as client:
        with Stage(console) as stage:
            report = Demo(client, tasks, stage).run(sorted(set(budgets)))
        current = next(version.version for version in client.versions(labels=False) if version.current)
    show(console, tasks, report, current)
    return report


def free_port(settings: Settings) -> int:
    """The usual port if nobody has it, else any."""
    try:
        socket.create_connection((settings.host, settings.port)).close()
    except OSError:
        return settings.port
    return 0


def _keep_one(store: Path, tasks: list[DemoTask]) -> Path:
    """A held-out image as a file, to paste into a command."""
    image = tasks[-1].test[0].image
    path = store / f"held-out.{media_type(image).removeprefix('image/')}"
    path.write_bytes(image)
    return path


def _invitation(address: str, image: Path) -> str:
    kind = media_type(image.read_bytes())
    url, file = (escape(shlex.quote(each)) for each in (f"{address}/classify?tmax=2", str(image)))
    return (
        f"\nStill serving at [bold]{escape(address)}[/bold]. Ask it yourself:\n\n"
        f"  curl -H 'Content-Type: {kind}' --data-binary @{file} {url}\n\n"
        "Ctrl-C stops it."
    )
