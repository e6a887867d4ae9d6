"""The page on learning quality, from the figures of `benchmarks.continual`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

from benchmarks.continual.metrics import minimum_at_task_ends
from benchmarks.continual.suite import ABLATIONS, DEEP_RANPAC, METHODS, SETTLED, TOLD_APART
from benchmarks.report.ablations import ablations
from benchmarks.report.plots import against_cost, heat_map, over_tasks
from benchmarks.report.rows import Row, bound, pick, table

INTRODUCTION = Path(__file__).with_name("introduction.md")
PROTOCOLS = {
    "quick": "CIFAR-100, ten tasks, 128 px, 50 training and 20 test images a class",
    "few": "CIFAR-100, ten tasks, 128 px, 5 training and 20 test images a class",
    "full": "CIFAR-100, ten tasks, 224 px, all images",
    "cub": "100 species of CUB-200-2011, ten tasks, 224 px, all images",
}
CAUTIONS = {
    "cub": "Many of these birds are classes of ImageNet-1k, which the backbone was trained on: frozen features tell "
    "them apart already, and whoever leaves those alone forgets little. Learning rates are those of CIFAR-100.",
}
SCENARIOS = {
    "domain": "The same 20 labels in five tasks, each time from other classes (CIFAR-100's superclasses)",
    "blurry": "30 % of each class' training images come in other tasks",
    "online": "One pass over every image",
    "trial": "A task of two classes, one image each, comes first; `settled at once` trains slots on it and never again",
    "single": "A hundred tasks of one class each; `images told apart` trains slots on them with `few_classes`",
}
PAPERS = ("l2p", "dualprompt", "coda")
PROBABILITIES = ("hippotune", "joint", "slca", "lora", "der", *PAPERS)

LOOP = """The loop inside, layer by layer: entropy of the weights of the first and of the last step in nats, share of
the slots that any image asks for first, spread of recalls across images, spectral radius of a step."""


def write(rows: Sequence[Row], folder: Path) -> None:
    """`continual.md` and its pictures in a folder. Sections without figures are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [INTRODUCTION.read_text()]
    for protocol, title in PROTOCOLS.items():
        if methods := pick(rows, protocol, "class", [entry.name for entry in METHODS]):
            parts += [f"## {protocol}: {title}", CAUTIONS.get(protocol, "")]
            parts += [comparison(ranked(methods), bound(rows, protocol))]
            parts += pictures(methods, protocol, folder)
        if ablated := pick(rows, protocol, "class", ["hippotune", *(entry.name for entry in ABLATIONS)]):
            parts += ablations(ablated, protocol, folder)
        for scenario, meaning in SCENARIOS.items():
            if others := pick(
                rows, protocol, scenario, [entry.name for entry in (*METHODS, SETTLED, TOLD_APART)]
            ):
                parts += [f"### {protocol}, {scenario}", f"{meaning}.", comparison(ranked(others), None)]
    (folder / "continual.md").write_text("\n\n".join(part.strip("\n") for part in parts if part) + "\n")


def ranked(rows: Sequence[Row]) -> list[Row]:
    """All classes at once, then the best first."""
    return sorted(rows, key=lambda row: (row.name != "joint", -(row.mean("last") or 0)))


def comparison(rows: Sequence[Row], joint: float | None) -> str:
    """Quality and cost of every method."""
    quality = ["last", "of joint", "AAA", "forgetting", "BWT", "min at ends", "min-ACC", "WC-ACC"]
    head = ["method", *quality, "GMAC", "trained", "seeds"]
    body = []
    for row in rows:
        last = joint if row.name == "joint" else row.mean("last")
        share = f"{last / joint:.3f}" if joint and last is not None else ""
        shown = f"{joint:.1f}" if row.name == "joint" and joint else row.text("last")
        quality = [row.text(key) for key in ("aaa", "forgetting", "bwt")]
        quality += [worst_at_ends(row), *(row.text(key) for key in ("min_acc", "wc_acc"))]
        trained = f"{(row.mean('trainable_parameters') or 0) / 1e6:.2f} M"
        cost = [
            row.text("giga_multiply_adds", 3).partition(" ")[0],
            trained,
        ]
        body.append([f"`{row.name}`", shown, share, *quality, *cost, str(len(row.runs))])
    return table(head, body)


def worst_at_ends(row: Row) -> str:
    """The worst finished state of each task, for a table; "" of all classes at once."""
    if row.name == "joint":
        return ""
    worst = [run | {"worst": minimum_at_task_ends(run["matrix"])} for run in row.runs]
    return replace(row, runs=tuple(worst)).text("worst")


def pictures(rows: Sequence[Row], protocol: str, folder: Path) -> list[str]:
    """Curves, cost, and our matrix."""
    over_tasks(rows, folder / f"continual-{protocol}-tasks.svg")
    shown = [
        "Accuracy on all classes seen, after each task:",
        f"![Accuracy on all classes seen after each task](continual-{protocol}-tasks.svg)",
    ]
    if len(rows) > 1:
        against_cost(rows, folder / f"continual-{protocol}-cost.svg")
        shown += [
            "Last accuracy against what an answer costs (`joint` by the head that `hippotune` has):",
            f"![Last accuracy against multiply-adds](continual-{protocol}-cost.svg)",
        ]
    if ours := [row for row in rows if row.name == "hippotune"]:
        heat_map(ours[0].runs[0]["matrix"], folder / f"continual-{protocol}-matrix.svg")
        shown += [
            "`hippotune`, the first seed: accuracy on each task, after each task:",
            f"![Accuracy of hippotune on each task after each task](continual-{protocol}-matrix.svg)",
            goals(rows),
            fast_path(ours[0]),
            calibration(rows),
        ]
        if any(run["own"].get("loop") for run in ours[0].runs):
            shown += [LOOP, diagnostics(ours[0])]
    return shown


def goals(rows: Sequence[Row]) -> str:
    """How far ours is ahead of the prompt methods and of those with a closed-form or realigned head; "" of none."""
    by_name = {row.name: row for row in rows}
    ours = by_name["hippotune"]
    lines = [
        [
            f"`{name}`",
            ours.ahead(by_name[name], "last"),
            ours.ahead(by_name[name], "aaa"),
            ours.pairs(by_name[name]),
        ]
        for name in ("ranpac", DEEP_RANPAC.name, "slca", *PAPERS)
        if name in by_name
    ]
    return table(["hippotune beside, on the same seeds", "last", "AAA", "seeds"], lines) if lines else ""


def fast_path(row: Row) -> str:
    """The streaming head alone, on the task that trains pools and on those after it."""
    first = [one for run in row.runs for one in run["fast"][:1]]
    later = [one for run in row.runs for one in run["fast"][1:]]
    if not later:
        return ""
    fast, slow = mean(one["accuracy"] for one in first), mean(one["consolidated"] for one in first)
    return (
        f"Of the first task the fast head alone answers {fast:.1f} % correctly; once pools were trained on it, "
        f"{slow:.1f} % are answered correctly. Of later ones it answers "
        f"{mean(one['accuracy'] for one in later):.1f} % right after they were taken up, which took "
        f"{mean(one['seconds'] for one in later):.1f} s, and "
        f"{mean(one['consolidated'] for one in later):.1f} % once they are consolidated: they train no pools, so both "
        "are the same head."
    )


def calibration(rows: Sequence[Row]) -> str:
    """How far scores are from how often answers are right, of the methods whose scores are probabilities."""
    told = [
        f"`{row.name}` {row.text('ece')}" for row in rows if row.name in PROBABILITIES and row.values("ece")
    ]
    if not told:
        return ""
    return (
        "Expected calibration error after the last task, in points (15 bins; Guo et al., ICML 2017), of those methods "
        f"whose scores are meant as probabilities: {', '.join(told)}."
    )


def diagnostics(row: Row) -> str:
    """The loop inside, averaged over seeds, one line a layer."""
    runs = [run["own"] for run in row.runs if run["own"].get("loop")]
    head = [
        "layer",
        "H(S_1)",
        "H(S_T)",
        "slots used",
        "spread(v_T) / spread(v_1)",
        "mean steps",
        "spectral radius",
    ]
    body = []
    for place, _ in enumerate(runs[0]["loop"]):
        layers = [own["loop"][place] for own in runs]
        figures = [
            mean(layer["entropy"][0] for layer in layers),
            mean(layer["entropy"][-1] for layer in layers),
            mean(layer["slot_use"] for layer in layers),
            mean(layer["spread_ratio"] for layer in layers),
            mean(layer["mean_steps"] for layer in layers),
            mean(own["spectral_radius"][place] for own in runs),
        ]
        number = row.runs[0]["config"]["config"]["loop"]["layers"][place]
        body.append([str(number), *(f"{figure:.2f}" for figure in figures)])
    return table(head, body)
