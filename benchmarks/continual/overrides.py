"""`--set learner.slots=20`: any field of a frozen configuration, by its dotted name, from text."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

Config = TypeVar("Config")


class UnknownSetting(ValueError):
    """No such field, or a value that is not of its kind; the message says which."""


def override(config: Config, settings: Iterable[str]) -> Config:
    """The configuration with each `path.to.field=value` applied. Raises UnknownSetting.

    A value is a Python literal, or else text; it must be of the kind of what it replaces, unless that is None.
    """
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals:
            raise UnknownSetting(f"{setting!r} is not field=value")
        config = put(config, path.split("."), literal(text), setting)
    return config


def put(config: Any, path: list[str], value: Any, setting: str) -> Any:
    """One field replaced, however deep."""
    if (
        not is_dataclass(config)
        or isinstance(config, type)
        or path[0] not in {field.name for field in fields(config)}
    ):
        known = ", ".join(field.name for field in fields(config)) if is_dataclass(config) else "none"
        raise UnknownSetting(f"{setting}: no field {path[0]!r} there; fields: {known}")
    now = getattr(config, path[0])
    new = put(now, path[1:], value, setting) if len(path) > 1 else fitting(now, value, setting)
    return replace(config, **{path[0]: new})


def literal(text: str) -> Any:
    """Text as a Python literal where it is one."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def fitting(now: Any, value: Any, setting: str) -> Any:
    """The value, as a float where one stood."""
    if isinstance(now, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if now is not None and value is not None and type(value) is not type(now):
        raise UnknownSetting(f"{setting}: {now!r} stands there, which is a {type(now).__name__}")
    return value
