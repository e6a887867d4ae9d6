"""The page's part on what each idea of the loop and of the learner is worth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.continual.suite import AS_THEY_ARE
from benchmarks.report.plots import KNOBS, sweeps
from benchmarks.report.rows import Row, table

ONE_IDEA_LESS = """| row | what differs |
| --- | --- |
| one step | `tmax=1` |
| four vectors of one step | one question; the t-th vector mixes the t-th best few slots |
| one step, P as slots | `tmax=1`, and as many more slots as `P` has parameters |
| one question for all images | the loop, asked a fixed random question instead of the image's |
| four constants | four learned vectors join the attention, nobody asks (VPT-Deep, Jia et al., ECCV 2022) |
| last step only | the loop, of which attention sees the last recall alone |

The other rows change one setting of the learner. Those with slots for every task have one spread for all classes, too:
set their changes beside its."""


def compared(row: Row, rows: Sequence[Row]) -> Row:
    """What a row is set beside: the first, or the one of images as they are, where it saw them so, too."""
    as_they_are = next((other for other in rows if other.name == AS_THEY_ARE.name), rows[0])
    varied = row.runs[0]["config"]["config"]["learner"].get("vary", False)  # earlier runs do not tell
    return rows[0] if varied or row is as_they_are else as_they_are


def ablations(rows: Sequence[Row], protocol: str, folder: Path) -> list[str]:
    """One idea taken out at a time, and other budgets at inference."""
    if len(rows) < 2:
        return []
    body = []
    for row in (row for row in rows if row.name != "other budgets"):
        base = compared(row, rows)
        name = f"{row.name}{' *' if base.name == AS_THEY_ARE.name else ''}"
        body.append(
            [
                f"`{name}`" if row is base else name,
                row.text("last"),
                "" if row is base else row.ahead(base, "last"),
                row.text("aaa"),
                "" if row is base else row.ahead(base, "aaa"),
                base.pairs(row),
            ]
        )
    head = ["", "last", "change", "AAA", "change", "seeds"]
    told = "Changes are between runs of the same seed."
    if any("*" in line[0] for line in body):
        told += f" * Measured on `{AS_THEY_ARE.name}`, and compared with that row."
    parts = [f"### {protocol}: one idea less", ONE_IDEA_LESS, table(head, body), told]
    swept = [run["own"]["sweep"] for row in rows for run in row.runs if run["own"].get("sweep")]
    if swept:
        sweeps(swept[0], folder / f"continual-{protocol}-budgets.svg")
        keys = (*KNOBS, "accuracy", "mean_steps", "giga_multiply_adds")
        lines = [[f"{point[key]:.4g}" for key in keys] for point in swept[0]]
        parts += [
            f"### {protocol}: other budgets, the same pools",
            f"![Accuracy under other budgets](continual-{protocol}-budgets.svg)",
            table([*KNOBS, "accuracy", "mean steps", "GMAC"], lines),
        ]
    return parts
