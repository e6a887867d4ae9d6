"""The command line: `hippotune COMMAND --help` explains each."""

from __future__ import annotations

import gc
import sys
from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from exchange.errors import BackboneChanged, ExchangeError
from hippotune.commands import (
    demo,
    doctor,
    evaluate,
    export,
    images,
    keys,
    labels,
    learning,
    processes,
    submit,
)
from hippotune.errors import HippoTuneError, Refused, Unanswered, Unreachable, unnumbered
from hippotune.output import Exit, left_out_is_told, print_error, print_hint, print_untold


class Listing(TyperGroup):
    """A group that lists what it is about, unless one of its commands is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """`tasks`, `tasks ID` and `tasks --json` are `tasks list` and the rest."""
        named = bool(args) and args[0] in (*self.commands, "--help")
        completing = ctx.resilient_parsing and not args
        return super().parse_args(ctx, args if named or completing else ["list", *args])

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Commands, and what `list` takes, since its name may be left out."""
        usual = self.commands["list"]
        context = usual.make_context("list", [], parent=ctx, resilient_parsing=True)
        argument = [] if incomplete.startswith("-") else usual.params[0].shell_complete(context, incomplete)
        return [
            *super().shell_complete(ctx, incomplete),
            *usual.shell_complete(context, incomplete),
            *argument,
        ]


def print_version(asked: bool) -> None:
    """What is installed, and the end of the command."""
    if asked:
        typer.echo(f"hippotune {version('hippotune')}")
        raise typer.Exit


def options(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=print_version, is_eager=True, help="Show which release this is and exit."
        ),
    ] = False,
) -> None:
    """What may stand before a command."""


def application() -> typer.Typer:
    """The commands and their flags."""
    app = typer.Typer(
        no_args_is_help=True,
        help="Image classification that keeps learning: teach it over HTTP, ask it within a budget.",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no server, 4 refused, 5 busy, 6 unfinished, "
        "130 interrupted.",
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    app.callback()(options)
    app.command(rich_help_panel="See it")(demo.demo)
    for command in (processes.up, processes.serve, processes.train):
        app.command(rich_help_panel="Run it")(command)
    for command in (images.classify, evaluate.evaluate, images.bench):
        app.command(rich_help_panel="Ask it")(command)
    for command in (submit.submit, learning.feedback, learning.forget):
        app.command(rich_help_panel="Teach it")(command)
    for command in (learning.versions, learning.activate, doctor.doctor):
        app.command(rich_help_panel="Look after it")(command)
    app.add_typer(keys.application(), rich_help_panel="Run it")
    tasks = typer.Typer(cls=Listing)
    tasks.command("list")(learning.tasks)
    tasks.command("retry")(learning.retry)
    told = "List tasks, or show one: `tasks ID`. `tasks retry ID` queues a failed one again."
    app.add_typer(tasks, name="tasks", rich_help_panel="Teach it", help=told)
    known = typer.Typer(cls=Listing)
    known.command("list")(labels.labels)
    known.command("rename")(labels.rename)
    known.command("forget")(labels.forget)
    told = (
        "List the labels that are known. `labels rename OLD NEW` and `labels forget LABEL` change one class."
    )
    app.add_typer(known, name="labels", rich_help_panel="Teach it", help=told)
    exports = typer.Typer(no_args_is_help=True, help="Take a version away: `hippotune export onnx`.")
    exports.command()(export.onnx)
    exports.callback()(lambda: None)  # keeps the one command named
    app.add_typer(exports, name="export", rich_help_panel="Look after it")
    return app


def main() -> None:
    """Turns what can go wrong into a line on stderr and an exit code."""
    try:
        with left_out_is_told():
            application()()
    except KeyboardInterrupt:  # before there is a command to hear of it
        sys.exit(Exit.INTERRUPTED)
    except HippoTuneError as error:
        print_error(str(error))
        if isinstance(error, Unreachable) and not isinstance(error, Unanswered):
            print_hint("`hippotune up` starts one; --url or HIPPOTUNE_URL names another")
        if isinstance(error, Refused):
            print_untold(error)
        if isinstance(error, Refused) and error.status == HTTPStatus.UNAUTHORIZED:
            print_hint("HIPPOTUNE_API_KEY or --api-key names one; `hippotune keys new` makes one")
        sys.exit(Exit.of(error))
    except BackboneChanged as error:
        print_error(str(error))
        print_hint("take another folder with --store, or that backbone with --backbone, --px and --weights")
        sys.exit(Exit.FAILED)
    except (ExchangeError, ValueError, OSError) as error:
        print_error(unnumbered(error))
        sys.exit(Exit.FAILED)
    finally:
        gc.freeze()  # else Python's end is a search for garbage among all that torch brought: seconds, for nothing
