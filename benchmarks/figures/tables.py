"""The tables of figures, as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.figures.quoted import Figure

COMPARED = {
    "HippoTune, all classes at once": "joint",
    "**HippoTune**": "hippotune",
    "RanPAC, reading the four depths that HippoTune's head reads": "ranpac, four depths",
    "RanPAC": "ranpac",
    "SLCA": "slca",
    "CODA-Prompt": "coda",
    "DualPrompt": "dualprompt",
    "L2P": "l2p",
}
"""Names in README's table, and in the file of means."""


def table(figures: Iterable[Figure], results: Path) -> str:
    """Markdown, a figure a line."""
    return "\n".join(
        ["| measured | result | command |", "|---|---|---|", *(figure.row(results) for figure in figures)]
    )


def short_table(figures: Iterable[Figure], results: Path) -> str:
    """For README, where there is less room: commands without what they all begin with."""
    return table(figures, results).replace("| command |", "| `python -m` |", 1).replace("`python -m ", "`")


def methods(results: Path) -> str:
    """Methods side by side, a row each: with fifty images a class, and with five."""
    kept = json.loads((results / "continual.json").read_text())
    body = []
    for name, key in COMPARED.items():
        row, few = kept["quick"][key], kept["few"].get(key)
        forgotten = f"{row['forgetting']:.1f}" if "forgetting" in row else ""
        body.append(
            f"| {name} | {with_deviation(row)} | {forgotten} | {with_deviation(few) if few else ''} |"
        )
    head = "| method | right at the end, % | points forgotten | with 5 images a class, % |"
    return "\n".join((head, "|---|---:|---:|---:|", *body))


def with_deviation(row: dict[str, float]) -> str:
    """Last accuracy and, of several seeds, its standard deviation."""
    return f"{row['last']:.1f}" + (f" ± {row['last_deviation']:.1f}" if "last_deviation" in row else "")


def strangers(results: Path) -> str:
    """How many images are taken for unknown, a row a kind and a column a scene."""
    scenes = json.loads((results / "familiarity.json").read_text())["scenes"]
    told = {
        name: {"of known classes": found["known"]}
        | {kind: strange["below"] for kind, strange in found["strangers"].items()}
        for name, found in scenes.items()
    }
    rows = []
    for kind in next(iter(told.values())):
        shares = (found[kind] for found in told.values())
        rows.append([kind, *(f"{100 * at['0.01']:.1f} / {100 * at['0.05']:.1f}" for at in shares)])
    return by_scene("taken for unknown at 0.01 / 0.05, %", list(told), rows)


def few_classes(results: Path) -> str:
    """How many images of known classes are taken for unknown where those are few, a row for each number of classes."""
    rows = json.loads((results / "few_classes.json").read_text())["rows"]
    sets, counts = ({row[key]: None for row in rows} for key in ("set", "images"))
    shares = {
        (
            row["set"],
            row["classes"],
            row["images"],
        ): f"{100 * row['known'][0]:.1f} / {100 * row['known'][1]:.1f}"
        for row in rows
    }
    body = [
        [str(classes), *(shares[name, classes, images] for name in sets for images in counts)]
        for classes in {row["classes"]: None for row in rows}
    ]
    heads = [f"{name}, {images} images" for name in sets for images in counts]
    return by_scene("classes: taken for unknown at 0.01 / 0.05, %", heads, body)


def newcomers(results: Path) -> str:
    """How many images of new and of old classes are answered rightly, a row for each number of images learned."""
    scenes = json.loads((results / "newcomers.json").read_text())["scenes"]
    rows = [["none: old classes", *(f"{100 * found['old_before']:.1f}" for found in scenes.values())]]
    for images in next(iter(scenes.values()))["images"]:
        shares = (found["images"][images] for found in scenes.values())
        figured = ([100 * each[kind] for kind in ("new", "new_among_new", "old")] for each in shares)
        rows.append([images, *("{:.1f} / {:.1f} / {:.1f}".format(*each) for each in figured)])
    return by_scene("images a new class: new right / among new / old right, %", list(scenes), rows)


def kinds(results: Path) -> str:
    """How many images that are no photographs are answered rightly, a row a kind."""
    found = json.loads((results / "kinds.json").read_text())["kinds"]
    ways = next(iter(found.values()))["right"]
    rows = [[kind, *(f"{100 * share:.1f}" for share in one["right"].values())] for kind, one in found.items()]
    return by_scene("right, %", list(ways), rows)


def mixed(results: Path) -> str:
    """What is made of images of one kind, by what was taught beside it."""
    rows = json.loads((results / "mixed.json").read_text())["rows"]
    parts = ("right", "score", "unknown", "worst")
    body = [[name, *(f"{100 * row[part]:.1f}" for part in parts)] for name, row in rows.items()]
    return by_scene("taught, %", ["right", "mean score", "below 0.01", "in the worst case"], body)


def by_scene(what: str, scenes: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of a column a scene, each row led by what it is of."""
    whole = [[what, *scenes], ["---", *("---:" for _ in scenes)], *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in whole)
