"""The settings as docs/settings.md, and their defaults as hippotune/defaults.py."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from typing_extensions import Doc

from docs.tables import table
from exchange.queue import QueueConfig
from hippotune.setting_types import Part, variable
from hippotune.settings import Settings
from model.deliberation import LoopConfig
from service.config import ServiceConfig
from trainer.config import TrainerConfig
from trainer.learning.config import LearnerConfig, ValidationConfig

ROOMS: tuple[tuple[str, Any], ...] = (
    ("", ServiceConfig),
    ("", LearnerConfig),
    ("", LoopConfig),
    ("", TrainerConfig),
    ("queue_", QueueConfig),
    ("validation_", ValidationConfig),
)
"""The records that `hippotune.settings` fills, with what it takes off the names of their settings."""
SETTINGS = """Each is an environment variable and a flag of the same name: `HIPPOTUNE_MAX_BATCH`, `--max-batch`; the
flag wins. `REDIS_URL` is read without the prefix, too. All trainers and servers of one service need the same Redis,
queue prefix, store and backbone, weights and size included. A variable that is empty counts as unset. An empty default
means that there is none, or that the meaning says it.
"""
MODULE = '''"""What settings are where nobody sets them, for `--help`: written by `python -m docs.reference`."""

DEFAULTS = {
'''


def page() -> str:
    """Every setting, by whom it concerns."""
    lines = [
        "# Settings\n",
        SETTINGS,
    ]
    for part in Part:
        rows = []
        for name, field in Settings.model_fields.items():
            if part in field.metadata:
                (doc,) = [one.documentation for one in field.metadata if isinstance(one, Doc)]
                told = default(name)
                rows.append([f"`{variable(name)}`", doc, f"`{told}`" if told else ""])
        lines += [f"## {part.value}\n", *table(("variable", "meaning", "default"), rows)]
    return "\n".join(lines)


def module() -> str:
    """The defaults as Python, for `--help`, which cannot wait for the rooms that they stand in."""
    found = {name: told for name in Settings.model_fields if (told := default(name))}
    lines = [f"    {json.dumps(name)}: {json.dumps(told)},\n" for name, told in found.items()]
    return MODULE + "".join(lines) + "}\n"


def default(name: str) -> str:
    """A setting's own default, or that in the record of the room it goes to, as the environment spells it."""
    field = Settings.model_fields[name]
    if field.default_factory is not None:
        return ""
    if field.default is not None:
        return spelt(field.default)
    found = [
        each.default
        for prefix, config in ROOMS
        for each in dataclasses.fields(config)
        if prefix + each.name == name and each.default is not dataclasses.MISSING
    ]
    return spelt(found[0]) if found else ""


def spelt(value: Any) -> str:
    """As the environment spells it; nothing for none."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "" if value is None else str(value)
