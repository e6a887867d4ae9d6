"""Pictures of kept figures. Nothing in them depends on the day they were drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report.figures import Row

KNOBS = ("tmax", "epsilon", "topk", "keep")

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "hippotune"
mpl.rcParams["svg.fonttype"] = "none"


def new(width: float = 7, height: float = 4) -> tuple[Figure, Axes]:
    """An empty plot."""
    figure = Figure((width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def write(figure: Figure, path: Path) -> None:
    """As SVG without a date."""
    figure.savefig(path, metadata={"Date": None})


def over_tasks(rows: Sequence[Row], path: Path) -> None:
    """Accuracy on all classes seen, after each task; the mean over seeds."""
    figure, axes = new()
    for row in rows:
        curves = row.values("accuracy")
        if curves:
            line = np.mean(np.array(curves), axis=0)
            axes.plot(
                range(1, len(line) + 1),
                line,
                marker="o",
                ms=3,
                label=row.name,
                lw=2.5 if row.name == "hippotune" else 1,
            )
    axes.set(xlabel="tasks learned", ylabel="accuracy on all classes seen (%)")
    axes.legend(fontsize="small", ncols=2, frameon=False)
    write(figure, path)


def heat_map(matrix: Sequence[Sequence[float]], path: Path) -> None:
    """R[i][j]: accuracy on task j after task i."""
    figure, axes = new(6, 5)
    square = np.full((len(matrix), len(matrix)), np.nan)
    for i, line in enumerate(matrix):
        square[i, : len(line)] = line
    image = axes.imshow(square, vmin=0, vmax=100, cmap="viridis")
    axes.set(xlabel="judged on task", ylabel="after task")
    axes.set_xticks(range(len(matrix)), range(1, len(matrix) + 1))
    axes.set_yticks(range(len(matrix)), range(1, len(matrix) + 1))
    for (i, j), value in np.ndenumerate(square):
        if not np.isnan(value):
            axes.text(
                j, i, f"{value:.0f}", ha="center", va="center", fontsize=7, color="w" if value < 60 else "k"
            )
    figure.colorbar(image, label="accuracy (%)")
    write(figure, path)


def against_cost(rows: Sequence[Row], path: Path) -> None:
    """Last accuracy against multiply-adds of one answer."""
    figure, axes = new()
    for row in rows:
        cost, last = row.mean("giga_multiply_adds"), row.mean("last")
        if cost is not None and last is not None:
            axes.plot(cost, last, "o", color="C3" if row.name == "hippotune" else "C0")
            axes.annotate(row.name, (cost, last), xytext=(5, 3), textcoords="offset points", fontsize=8)
    axes.set(xlabel="giga multiply-adds of one answer", ylabel="last accuracy (%)")
    write(figure, path)


def knobs(curves: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    """Accuracy against the time of one image, a line for each knob of a budget, from the full one on."""
    figure, axes = new()
    for knob, rows in curves.items():
        line = [(row["time_batch_1"], 100 * row["accuracy"]) for row in rows]
        axes.plot(*zip(*line, strict=True), marker="o", ms=4, label=knob)
        axes.annotate(f"{rows[-1][knob]:g}", line[-1], xytext=(5, 3), textcoords="offset points", fontsize=8)
    axes.set(xlabel="time of one image, full budget = 1", ylabel="accuracy (%)")
    axes.legend(fontsize="small", frameon=False)
    write(figure, path)


def sweeps(points: Sequence[dict[str, Any]], path: Path) -> None:
    """What other budgets answer: one panel for tmax, epsilon, top-k and keep, each varied alone."""
    figure = Figure((10, 3), layout="constrained")
    own = max(points, key=lambda point: point["tmax"])
    panels = figure.subplots(1, len(KNOBS), sharey=True)
    for axes, field in zip(panels, KNOBS, strict=True):
        others = [name for name in KNOBS if name != field]
        line = sorted(
            (point[field], point["accuracy"])
            for point in points
            if all(point[name] == own[name] for name in others)
        )
        axes.plot(*zip(*line, strict=True), marker="o", ms=4)
        axes.set_xlabel(field)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("accuracy (%)")
    write(figure, path)
