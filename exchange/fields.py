"""How a task is kept in a Redis hash: one text field for each fact, so that a script can change one alone."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from exchange.records import TaskChange, TaskRecord, TaskState, change_from_json

FIXED_FIELDS = frozenset({"id", "name", "images", "labels", "created_at", "change"})
"""Never change, and are not repeated in every event."""

HIDDEN_FIELDS = frozenset({"samples", "entry", "dead", "order", "deaths"})
"""What the queue itself knows of a task: its list of samples, its entries in the streams, and how often a trainer died
at it."""

_METRIC = "metric:"
_LONGEST_ERROR = 2000


def labels_to_field(labels: Iterable[str]) -> str:
    return orjson.dumps(sorted(set(labels))).decode()


def change_to_fields(change: TaskChange) -> dict[str, str]:
    """What is new, by the names of the fields."""
    known = {
        "state": change.state,
        "progress": change.progress,
        "version": change.version,
        "error": shorten(change.error),
    }
    known |= {_METRIC + name: float(value) for name, value in (change.metrics or {}).items()}
    return {name: str(value) for name, value in known.items() if value is not None}


def shorten(error: str | None) -> str | None:
    """Keeps a stray dump of a tensor out of Redis."""
    return error[:_LONGEST_ERROR] if error else None


def read_fields(flat: Iterable[bytes]) -> dict[str, str]:
    """Names and values in turn, as Redis returns them, as a dictionary."""
    texts = [part.decode(errors="replace") for part in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def decode_fields(fields: Mapping[Any, Any]) -> dict[str, str]:
    return {name.decode(errors="replace"): value.decode(errors="replace") for name, value in fields.items()}


def task_from_fields(fields: Mapping[str, str]) -> TaskRecord:
    return TaskRecord(
        id=fields["id"],
        name=fields["name"],
        state=TaskState(fields["state"]),
        images=int(fields["images"]),
        labels=tuple(orjson.loads(fields["labels"])),
        progress=float(fields["progress"]),
        metrics={
            name.removeprefix(_METRIC): float(value)
            for name, value in fields.items()
            if name.startswith(_METRIC)
        },
        error=fields.get("error"),
        created_at=float(fields["created_at"]),
        updated_at=float(fields["updated_at"]),
        version=int(fields["version"]) if "version" in fields else None,
        served_at=_time(fields, "served_at"),
        consolidated_at=_time(fields, "consolidated_at"),
        change=change_from_json(fields["change"]) if "change" in fields else None,
    )


def _time(fields: Mapping[str, str], name: str) -> float | None:
    return float(fields[name]) if name in fields else None
