"""Tasks, labels and versions as people read them, on a terminal of 80 columns too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hippotune.output import counted, moment, print_record, print_table
from hippotune.records import Label, Task, Version

LISTED = 6
"""Labels named in a list."""


def print_task(task: Task) -> None:
    """All there is to say about one task."""
    print_record(
        [
            ("id", task.id),
            ("name", task.name),
            ("state", f"{task.state}, {task.progress:.0%}"),
            ("images", _unless_order(task, task.images)),
            ("labels", _unless_order(task, ", ".join(task.labels))),
            ("version", task.version),
            ("submitted", moment(task.created_at)),
            ("served", moment(task.served_at)),
            ("consolidated", moment(task.consolidated_at)),
            ("error", task.error),
            *_figures(task.metrics),
        ]
    )


def print_tasks(found: Sequence[Task], cut: bool = False) -> None:
    """A line for each task; errors, which may be long, come below. cut: there may be older ones."""
    print_table(
        ("newest " if cut else "") + counted(len(found), "task"),
        ["id", "name", "state", "images", "labels", "version", "submitted"],
        [
            [
                task.id,
                task.name,
                task.state if task.ended else f"{task.state} {task.progress:.0%}",
                _unless_order(task, task.images),
                _unless_order(task, _some(task.labels, len(task.labels))),
                task.version if task.version is not None else "",
                moment(task.created_at),
            ]
            for task in found
        ],
        whole=("id", "state"),
        spare=("submitted", "images", "version", "labels"),
    )
    if failed := [(task.id, task.error) for task in found if task.error]:
        print_record(failed)


def print_labels(found: Sequence[Label], more: bool) -> None:
    """A line for each label, with the newest task that taught it. more: there are others."""
    print_table(
        counted(len(found), "label") + (" and more; --limit lists them" if more else ""),
        ["label", "images", "tasks"],
        [
            [
                one.label,
                "" if one.images is None else one.images,
                "" if one.tasks is None else _some(one.tasks[-1:], len(one.tasks)),
            ]
            for one in found
        ],
        spare=("tasks", "images"),
    )


def print_version(version: Version) -> None:
    """All there is to say about one version."""
    print_record(
        [
            ("version", version.version),
            ("state", _state(version)),
            ("kind", version.kind),
            ("parent", version.parent),
            ("published", moment(version.created_at)),
            ("labels", ", ".join(version.labels)),
            ("consolidated", " ".join(version.consolidated)),
            ("fast", " ".join(version.fast)),
            ("slots", version.slots),
            *_figures(version.metrics),
        ]
    )


def print_versions(found: Sequence[Version]) -> None:
    """A line each, with what it knows beyond the one before it."""
    print_table(
        counted(len(found), "version"),
        ["version", "", "kind", "labels", "new", "accuracy", "forgetting", "slots", "published"],
        [
            [
                version.version,
                _state(version),
                version.kind,
                version.label_count,
                _some(version.new_labels, version.new_label_count or 0),
                _measured(version.metrics),
                _percent(version.metrics.get("forgetting")),
                version.slots,
                moment(version.created_at),
            ]
            for version in found
        ],
        whole=("version", ""),
        spare=("slots", "published", "kind", "forgetting", "accuracy"),
    )


def _unless_order(task: Task, fact: object) -> object:
    """What is said of images; nothing for an order about a class, which has none and whose name says all."""
    return fact if task.change is None else ""


def _state(version: Version) -> str:
    if version.current:
        return "served"
    return "" if version.canary is None else f"canary {version.canary:.0%}"


def _figures(metrics: Mapping[str, float]) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), f"{value:.4g}") for name, value in sorted(metrics.items())]


def _measured(metrics: Mapping[str, float]) -> str:
    """Accuracy, and on how many held-out images: of three, all being right says next to nothing."""
    images = metrics.get("held_out_images")
    return _percent(metrics.get("accuracy")) + (
        f" of {images:.0f}" if images and "accuracy" in metrics else ""
    )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:z.1%}"


def _some(labels: Sequence[str], count: int) -> str:
    """count: how many there are, if not all of them are given."""
    rest = count - len(labels[:LISTED])
    return ", ".join(labels[:LISTED]) + (f" and {rest} more" if rest > 0 else "")
