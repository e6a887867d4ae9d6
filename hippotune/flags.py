"""Settings as command line flags, so that each is written down once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from typing_extensions import Doc

from hippotune.defaults import DEFAULTS
from hippotune.setting_types import PREFIX, Part, variable
from hippotune.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]


def with_settings(*parts: Part) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command a flag for every setting of `parts`; it receives them all as its argument `settings`.

    Flags are handed on as text: the settings class checks them and the environment in the same way.
    """
    chosen = {name: field for name, field in Settings.model_fields.items() if _part(field) in parts}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**arguments: Any) -> None:
            flags = {name: arguments.pop(name) for name in chosen}
            command(
                settings=read({name: value for name, value in flags.items() if value is not None}),
                **arguments,
            )

        signature = inspect.signature(command, eval_str=True)
        own = [parameter for name, parameter in signature.parameters.items() if name != "settings"]
        flags = [_parameter(name, field) for name, field in chosen.items()]
        run.__signature__ = inspect.Signature([*own, *flags])  # type: ignore[attr-defined]  # read by typer
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *flags]}
        del run.__wrapped__
        return run

    return decorate


def read(flags: dict[str, Any]) -> Settings:
    """Settings from the environment and the flags. Raises typer.BadParameter naming the wrong one."""
    try:
        return Settings(**flags)
    except ValidationError as error:
        found = error.errors()[0]
        name = str(found["loc"][0]).lower().removeprefix(PREFIX.lower())
        told, given = found["msg"].removeprefix("Value error, "), repr(found["input"])
        if not told.startswith(given):
            told = f"{given}: {told[0].lower()}{told[1:]}"
        raise typer.BadParameter(told, param_hint=f"{_flag(name)} (or {variable(name)})") from None


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    default = f" (default: {DEFAULTS[name]})" if name in DEFAULTS else ""
    switch = field.annotation == bool | None
    option = typer.Option(
        _flag(name),
        help=f"{_doc(field)}{default} ({variable(name)})",
        rich_help_panel=_part(field).value,
        metavar=None if switch else "VALUE",
        show_default=False,
    )
    kind, told = inspect.Parameter.KEYWORD_ONLY, bool | None if switch else str | None
    return inspect.Parameter(name, kind, default=None, annotation=Annotated[told, option])


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _part(field: FieldInfo) -> Part:
    return next(item for item in field.metadata if isinstance(item, Part))


def _doc(field: FieldInfo) -> str:
    return next(item for item in field.metadata if isinstance(item, Doc)).documentation
