"""Our own server in tables and sentences, a section for each part that was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

Figures = Mapping[str, Any]

RATES = {
    "bare": "the bare runtime",
    "preprocessed": "preprocessed",
    "jpeg": "JPEG",
    "multipart": "JPEG, multipart",
    "plain_vit": "JPEG, a plain ViT",
    "nothing": "JPEG, a model that costs nothing",
}


def sections(result: Figures) -> Iterator[str]:
    """Markdown; a part that was not measured is not there."""
    for part, (title, told) in SECTIONS.items():
        if part in result:
            yield from (f"### {title}", "", *told(result[part]))


def throughput(figures: Figures) -> Iterator[str]:
    rates = figures["images_per_second"]
    yield from grid(("", *(RATES[name] for name in rates)), [("images/s", *map(whole, rates.values()))])
    yield f"{figures['connections']} connections, at most {figures['batch']} images in a forward pass."
    yield ""


def concurrency(figures: Figures) -> Iterator[str]:
    head = (f"{name.replace('_', ' ')}: images/s | p50 / p99, ms" for name in figures)
    counts = next(iter(figures.values()))
    rows = (
        (count.removesuffix("_connections"), *(f"{whole(one['per_second'])} | {times(one)}" for one in sides))
        for count, sides in ((count, [side[count] for side in figures.values()]) for count in counts)
    )
    yield from grid(("connections", *head), rows)
    asked = [one for side in figures.values() for one in side.values()]
    failed, answered = (sum(one[name] for one in asked) for name in ("failed", "answered"))
    yield from (f"{failed} requests failed of {failed + answered:,}.", "")


def alone(figures: Figures) -> Iterator[str]:
    yield (
        f"An answer takes {figures['latency_p50_ms']:.1f} ms (p50 of {figures['requests']:,}). What of it is not "
        f"computing: {figures['overhead_p50_ms']:.1f} ms (p50), {figures['overhead_p99_ms']:.1f} ms (p99)."
    )
    yield ""


def budgets(figures: Figures) -> Iterator[str]:
    rates = figures["images_per_second"]
    names = (name.replace("_", " ") for name in rates)
    yield from grid(("requests with", *names), [("images/s", *map(whole, rates.values()))])


def swaps(figures: Figures) -> Iterator[str]:
    without, during = figures["p99_ms_without"], figures["p99_ms_during"]
    first = [figures[f"pointer_to_first_answer_ms_{name}"] for name in ("p50", "p99")]
    yield (
        f"{figures['swaps']:,} swaps while {figures['answered'] + figures['failed']:,} requests came, of which "
        f"{figures['failed']} failed. p99 of an answer: {during:.0f} ms, in turns with {without:.0f} ms without. "
        f"From moving the pointer to the first answer: {first[0]:.0f} ms (p50), {first[1]:.0f} ms (p99). "
        f"Memory grew by {figures['memory_growth']:.1%}."
    )
    yield ""


def scale(figures: Figures) -> Iterator[str]:
    settled = figures["as_the_defaults_learn"]
    ways = ("ten slots a task", "as the defaults learn, ten slots in all")
    head = (f"{way}: p50, ms | over one task" for way in ways)
    rows = (
        (
            f"{int(tasks.removeprefix('tasks_')):,}",
            *(f"{one['latency_p50_ms']:.1f} | {one['over_1']:.2f}x" for one in (found, settled[tasks])),
        )
        for tasks, found in figures.items()
        if found is not settled
    )
    yield from grid(("tasks of ten classes", *head), rows)


def start(figures: Figures) -> Iterator[str]:
    yield (
        f"{figures['start_to_ready_s']:.1f} s from starting the process to ready, its runtime chosen by measurement "
        f"(median of {figures['starts']} starts)."
    )
    yield ""


SECTIONS: Mapping[str, tuple[str, Callable[[Figures], Iterator[str]]]] = {
    "throughput": ("Saturated", throughput),
    "concurrency": ("By connections and size of the photographs", concurrency),
    "alone": ("One caller", alone),
    "budgets": ("Mixed budgets beside uniform ones", budgets),
    "swaps": ("Swaps under load", swaps),
    "scale": ("More and more tasks", scale),
    "start": ("Starting", start),
}


def times(one: Figures) -> str:
    return f"{one['latency_p50_ms']:.1f} / {one['latency_p99_ms']:.1f}"


def whole(number: float) -> str:
    return f"{number:,.0f}"


def grid(head: Sequence[str], body: Iterable[Iterable[str]]) -> Iterator[str]:
    """A table, and an empty line. A cell may stand for two: `images/s | p50`."""
    titles = " | ".join(head)
    yield f"| {titles} |"
    yield f"|{'---|' * (titles.count(' | ') + 1)}"
    yield from (f"| {' | '.join(row)} |" for row in body)
    yield ""
