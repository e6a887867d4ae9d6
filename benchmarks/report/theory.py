"""The page on the loop as a solver, from the figures of `benchmarks.krylov`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.report.rows import table

INTRODUCTION = r"""# The loop as a solver

The paper reads the loop as a few terms of an iterative solver. Whether that holds of pools as we train them is
measured, not assumed: `python -m benchmarks.krylov --out benchmarks/results/krylov.json` trains the pools of the quick
protocol on the first task and examines the step $F(q) = \mathrm{LN}(\alpha q + (1 - \alpha)\,\mathrm{LN}(P S(q) V))$
and its Jacobian $J$ at the queries of test images.

| column | meaning |
| --- | --- |
| residual | $\lVert F(q_t) - q_t \rVert / \lVert q_t \rVert$ after 1, 4 and 64 steps: 0 is a fixed point |
| radius | spectral radius of $J$ at the seed query, and where 64 steps end; below 1 the step contracts |
| asymmetry | $\lVert J - J^\top \rVert / \lVert J \rVert$: 0 for a Hessian, 1.41 for a matrix without any symmetry |
| to Newton | what is left of the way to the exact second-order step: four terms, the best polynomial, four real steps |
| after Newton | residual after the exact second-order step, over the one before: above 1 it leads away |
"""


def write(figures: Mapping[str, Any], folder: Path) -> None:
    """`theory.md` in a folder: one line a layer, then what of the theory holds."""
    head = ["layer", "residual", "radius", "asymmetry", "to Newton", "after Newton"]
    four = figures["terms"].index(4)
    body = [
        [
            str(layer["layer"]),
            several(layer["residual"][step] for step in (0, 2, -1)),
            several((layer["radius_first"], layer["radius_last"])),
            f"{layer['asymmetry']:.2f}",
            several(layer[way][four] for way in ("neumann", "krylov", "loop")),
            f"{layer['newton']:.2f}",
        ]
        for layer in figures["layers"]
    ]
    verdict = [f"- {claim}: {answer}." for claim, answer in figures["verdict"].items()]
    measured = f"{figures['queries']} queries, medians."
    parts = [
        INTRODUCTION.rstrip("\n"),
        table(head, body),
        measured,
        "## Whether it holds",
        "\n".join(verdict),
    ]
    (folder / "theory.md").write_text("\n\n".join(parts) + "\n")


def several(values: Any) -> str:
    """Figures in one cell."""
    return " / ".join(f"{value:.2f}" for value in values)
