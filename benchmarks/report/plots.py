"""Pictures of kept figures, for light and dark pages alike. Nothing in them depends on the day they were drawn."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report.rows import Row

KNOBS = ("tmax", "epsilon", "topk", "keep")
OURS = "hippotune"

INK, FAINT = "#1f2328", "#d0d7de"
"""What a reader's dark page turns over; see `THEME`."""
ACCENT = "#5b8def"
COLOURS = ("#e08a6b", "#3cb69d", "#b57edc", "#d4a72c", "#e06c9f", "#8b949e", "#4fb3d9", "#a3b757")
"""Seen as well on white as on black."""
THEME = (
    f"<style>svg {{ --ink: {INK}; --faint: {FAINT} }} "
    "@media (prefers-color-scheme: dark) { svg { --ink: #e6edf3; --faint: #3d444d } }</style>"
)
LABEL_GAP = 0.05
"""Between two labels, as a share of the height of a plot."""

mpl.use("svg")
mpl.rcParams |= {
    "svg.hashsalt": "hippotune",
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "figure.facecolor": "none",
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
}


def new(width: float = 9, height: float = 4) -> tuple[Figure, Axes]:
    """An empty plot."""
    figure = Figure((width, height), layout="constrained")
    return figure, figure.subplots()


def write(figure: Figure, path: Path) -> None:
    """As SVG without a date, in the colours of the page it stands on."""
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    text = drawn.getvalue().replace(INK, "var(--ink)").replace(FAINT, "var(--faint)")
    text = text.replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans'")
    head, mark, rest = text.partition("<defs>")
    path.write_text(head + THEME + mark + rest)


def colours(names: Iterable[str]) -> dict[str, str]:
    """The accent for ours, another colour for each of the others."""
    others = [name for name in names if name != OURS]
    return {OURS: ACCENT} | {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(others)}


def apart(places: Sequence[float], gap: float = LABEL_GAP) -> list[float]:
    """Places 0..1, moved as little as keeps each `gap` from the next; in the order they came."""
    order = sorted(range(len(places)), key=lambda one: places[one])
    groups: list[list[int]] = []
    centres: list[float] = []
    for one in order:
        groups.append([one])
        centres.append(places[one])
        while (
            len(groups) > 1
            and centres[-1] - centres[-2] < gap * (len(groups[-1]) + len(groups[-2])) / 2 - 1e-9
        ):
            both = [*groups.pop(-2), *groups.pop()]
            groups.append(both)
            centres[-2:] = [float(np.mean([places[each] for each in both]))]
    moved = [0.0] * len(places)
    for centre, group in zip(centres, groups, strict=True):
        for number, one in enumerate(group):
            moved[one] = centre + gap * (number - (len(group) - 1) / 2)
    return moved


def height_of(axes: Axes, y: float) -> float:
    """Where a value lies, as a share of the plot's height."""
    return float((axes.transScale + axes.transLimits).transform((axes.get_xlim()[0], y))[1])


def name_lines(axes: Axes, ends: Mapping[str, float], hues: Mapping[str, str]) -> None:
    """Each line's name at its end, instead of a legend."""
    axes.set_ylim(*axes.get_ylim())
    for (name, _), place in zip(
        ends.items(), apart([height_of(axes, y) for y in ends.values()]), strict=True
    ):
        weight = "bold" if name.startswith(OURS) else "normal"
        axes.text(
            1.01, place, name, transform=axes.transAxes, color=hues[name], va="center", fontweight=weight
        )


def over_tasks(rows: Sequence[Row], path: Path) -> None:
    """Accuracy on all classes seen, after each task; the mean over seeds."""
    figure, axes = new()
    curves = {
        row.name: np.mean(np.array(row.values("accuracy")), axis=0) for row in rows if row.values("accuracy")
    }
    hues = colours(row.name for row in rows)
    for name, line in curves.items():
        ours = name == OURS
        tasks = range(1, len(line) + 1)
        axes.plot(
            tasks,
            line,
            marker="o",
            ms=3.5,
            color=hues[name],
            lw=2.5 if ours else 1.3,
            zorder=3 if ours else 2,
        )
        axes.set_xticks(tasks)
    axes.set(xlabel="tasks learned", ylabel="accuracy on all classes seen (%)")
    name_lines(axes, {name: float(line[-1]) for name, line in curves.items()}, hues)
    write(figure, path)


def heat_map(matrix: Sequence[Sequence[float]], path: Path) -> None:
    """R[i][j]: accuracy on task j after task i."""
    figure, axes = new(9, 4.6)
    square = np.full((len(matrix), len(matrix)), np.nan)
    for i, line in enumerate(matrix):
        square[i, : len(line)] = line
    low, high = np.floor(np.nanmin(square) / 10) * 10, np.ceil(np.nanmax(square) / 10) * 10
    image = axes.imshow(square, vmin=low, vmax=high, cmap="Blues", aspect="auto", alpha=0.9)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set(xlabel="judged on task", ylabel="after task")
    numbers = [str(number) for number in range(1, len(matrix) + 1)]
    axes.set_xticks(range(len(matrix)), numbers)
    axes.set_yticks(range(len(matrix)), numbers)
    for (i, j), value in np.ndenumerate(square):
        if not np.isnan(value):
            dark = value > (low + high) / 2
            axes.text(j, i, f"{value:.0f}", ha="center", va="center", color="#ffffff" if dark else "#0a3069")
    bar = figure.colorbar(image, label="accuracy (%)")
    bar.outline.set_visible(False)
    write(figure, path)


def against_cost(rows: Sequence[Row], path: Path) -> None:
    """Last accuracy against multiply-adds of one answer."""
    figure, axes = new()
    found = {row.name: (row.mean("giga_multiply_adds"), row.mean("last")) for row in rows}
    points = sorted((cost, last, name) for name, (cost, last) in found.items() if cost and last)
    hues = colours(row.name for row in rows)
    for cost, last, name in points:
        axes.plot(cost, last, "o", ms=8 if name == OURS else 6, color=hues[name])
    axes.margins(x=0.12, y=0.1)
    axes.set(xlabel="giga multiply-adds of one answer", ylabel="last accuracy (%)")
    axes.set_ylim(*axes.get_ylim())
    left, right = axes.get_xlim()
    for _, column in groupby(points, key=lambda point: round(8 * (point[0] - left) / (right - left))):
        beside = list(column)
        places = apart([height_of(axes, last) for _, last, _ in beside])
        edge = max(cost for cost, *_ in beside) + (right - left) / 70
        for (*_, name), place in zip(beside, places, strict=True):
            where = ("data", "axes fraction")
            axes.annotate(name, (edge, place), xycoords=where, color=hues[name], va="center")
    write(figure, path)


def turned(
    knobs: Mapping[str, Sequence[float]],
    accuracy: Mapping[str, Sequence[float]],
    costs: Mapping[str, Mapping[str, Sequence[float]]],
    path: Path,
) -> None:
    """A column for each knob, turned alone: above what it does to the accuracy in percent, below to what it saves.

    costs: for each knob, the lines below by their names.
    """
    figure = Figure((9, 4.4), layout="constrained")
    panels = figure.subplots(2, len(knobs), sharex="col", squeeze=False)
    for column, (knob, values) in enumerate(knobs.items()):
        above, below = panels[:, column]
        above.plot(range(len(values)), accuracy[knob], marker="o", ms=4, color=ACCENT)
        for (name, line), hue in zip(costs[knob].items(), COLOURS, strict=False):
            below.plot(range(len(values)), line, marker="o", ms=4, color=hue, label=name)
        below.set_xticks(range(len(values)), [f"{value:g}" for value in values], fontsize=8)
        below.set_xlabel(knob, fontweight="bold")
        below.margins(x=0.08)
    low = min(min(line) for line in accuracy.values())
    high = max(max(line) for line in accuracy.values())
    room = max(high - low, 1) / 10
    dearest = max(max(line) for lines in costs.values() for line in lines.values())
    for above, below in panels.T:
        above.set_ylim(low - room, high + room)
        below.set_ylim(0, 1.08 * dearest)
        above.label_outer()
        below.label_outer()
    panels[1, 0].set_ylabel("of the full budget's")
    panels[1, -1].legend(frameon=False, fontsize=8, loc="lower right")
    panels[0, 0].set_ylabel("accuracy (%)")
    write(figure, path)


def knobs(curves: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    """What `benchmarks.budgets` measured: accuracy, and time as a share of that at the full budget."""
    turned(
        {knob: [row[knob] for row in rows] for knob, rows in curves.items()},
        {knob: [100 * row["accuracy"] for row in rows] for knob, rows in curves.items()},
        {
            knob: {f"time, batch {batch}": [row[f"time_batch_{batch}"] for row in rows] for batch in (1, 8)}
            for knob, rows in curves.items()
        },
        path,
    )


def sweeps(points: Sequence[dict[str, Any]], path: Path) -> None:
    """What other budgets answer, and what of the loop and of the transformer they compute."""
    own = max(points, key=lambda point: point["tmax"])
    lines = {}
    for knob in KNOBS:
        others = [name for name in KNOBS if name != knob]
        lines[knob] = sorted(
            (point for point in points if all(point[name] == own[name] for name in others)),
            key=lambda point: float(point[knob]),
        )
    most = own["giga_multiply_adds"]
    turned(
        {knob: [point[knob] for point in line] for knob, line in lines.items()},
        {knob: [point["accuracy"] for point in line] for knob, line in lines.items()},
        {
            knob: {
                "steps": [point["mean_steps"] / own["tmax"] for point in line],
                "multiply-adds": [point["giga_multiply_adds"] / most for point in line],
            }
            for knob, line in lines.items()
        },
        path,
    )
