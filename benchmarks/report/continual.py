"""The page on learning quality, from the figures of `benchmarks.continual`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from benchmarks.continual.suite import ABLATIONS, DEEP_RANPAC, METHODS
from benchmarks.report.figures import Row, bound, pick, table
from benchmarks.report.plots import KNOBS, against_cost, heat_map, over_tasks, sweeps

PROTOCOLS = {
    "quick": "CIFAR-100, ten tasks, 128 px, 50 training and 20 test images a class",
    "full": "CIFAR-100, ten tasks, 224 px, all images",
    "cub": "100 species of CUB-200-2011, ten tasks, 224 px, all images",
}
SCENARIOS = {
    "domain": "The same 20 labels in five tasks, each time from other classes (CIFAR-100's superclasses)",
    "blurry": "30 % of each class' training images come in other tasks",
    "online": "One pass over every image",
}
PAPERS = ("l2p", "dualprompt", "coda")

INTRODUCTION = """# Learning quality

Every method learns the same tasks in the same order from the same pixels, on the same frozen DeiT-Tiny (supervised on
ImageNet-1k), with the same batches and share of images mirrored and at most as many passes: `hippotune` trains its
pools on the first task and takes the others up in closed form, as `ranpac` does. Class order is
`numpy.random.default_rng(1993 + seed).permutation(100)`; a seed also sets first parameters and projections. Learning
rates of the prompt methods come from a small grid on images cut from training data
(`python -m benchmarks.continual.tune`), those of the others lie near what their papers state.
No image of an old task is kept, except by `der`, which keeps 500. Prompts are chosen for every image by itself, never
by a vote of the batch. All figures are percent, mean ± standard deviation over seeds.

Made by `python -m benchmarks.continual.suite --protocol quick`, drawn by `python -m benchmarks.report`.

| figure | meaning | source |
| --- | --- | --- |
| last | mean accuracy over tasks after the last, every class a possible answer | Lopez-Paz & Ranzato, NeurIPS 2017 |
| AAA | mean of that accuracy after each task | Rebuffi et al., CVPR 2017 |
| forgetting | mean fall from a task's best accuracy before the last task | Chaudhry et al., ECCV 2018 |
| BWT | mean change since a task was learned | Lopez-Paz & Ranzato, NeurIPS 2017 |
| min-ACC | mean over tasks of the worst moment since each was learned | De Lange et al., ICLR 2023 |
| WC-ACC | newest task's accuracy and min-ACC, weighed 1 : T - 1 | De Lange et al., ICLR 2023 |

Worst moments are looked for at steps 1, 2, 4, ..., 32 and then every 32 of each task, on a few test images a class. A
method is asked as it then stands. `hippotune` answers from what it serves, which during consolidation is the fast
version; methods trained in place answer from the parameters being trained. How fast methods learn is measured side by
side by `python -m benchmarks.continual.speed`.

A task of the quick protocol is some 160 updates. That is little for prompts, which start at random, and far from the
whole data sets and larger backbones of the papers: compare rows here with each other, not with figures printed there.
"""


def write(rows: Sequence[Row], folder: Path) -> None:
    """`continual.md` and its pictures in a folder. Sections without figures are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [INTRODUCTION]
    for protocol, title in PROTOCOLS.items():
        if methods := pick(rows, protocol, "class", [entry.name for entry in METHODS]):
            parts += [f"## {protocol}: {title}", comparison(methods, bound(rows, protocol))]
            parts += pictures(methods, protocol, folder)
        if ablated := pick(rows, protocol, "class", ["hippotune", *(entry.name for entry in ABLATIONS)]):
            parts += ablations(ablated, protocol, folder)
        for scenario, meaning in SCENARIOS.items():
            if others := pick(rows, protocol, scenario, [entry.name for entry in METHODS]):
                parts += [f"### {protocol}, {scenario}", f"{meaning}.", comparison(others, None)]
    (folder / "continual.md").write_text("\n\n".join(part.strip("\n") for part in parts) + "\n")


def comparison(rows: Sequence[Row], joint: float | None) -> str:
    """Quality and cost of every method."""
    quality = ["last", "of joint", "AAA", "forgetting", "BWT", "min-ACC", "WC-ACC"]
    head = ["method", *quality, "GMAC", "trained", "seeds"]
    body = []
    for row in rows:
        last = joint if row.name == "joint" else row.mean("last")
        share = f"{last / joint:.3f}" if joint and last is not None else ""
        shown = f"{joint:.1f}" if row.name == "joint" and joint else row.text("last")
        quality = [row.text(key) for key in ("aaa", "forgetting", "bwt", "min_acc", "wc_acc")]
        trained = f"{(row.mean('trainable_parameters') or 0) / 1e6:.2f} M"
        cost = [
            row.text("giga_multiply_adds", 3).partition(" ")[0],
            trained,
        ]
        body.append([f"`{row.name}`", shown, share, *quality, *cost, str(len(row.runs))])
    return table(head, body)


def pictures(rows: Sequence[Row], protocol: str, folder: Path) -> list[str]:
    """Curves, cost, and our matrix."""
    over_tasks(rows, folder / f"continual-{protocol}-tasks.svg")
    against_cost(rows, folder / f"continual-{protocol}-cost.svg")
    shown = [
        f"![Accuracy on all classes seen after each task](continual-{protocol}-tasks.svg)",
        f"![Last accuracy against multiply-adds](continual-{protocol}-cost.svg)",
    ]
    if ours := [row for row in rows if row.name == "hippotune"]:
        heat_map(ours[0].runs[0]["matrix"], folder / f"continual-{protocol}-matrix.svg")
        shown.append(
            f"![Accuracy of hippotune on each task after each task](continual-{protocol}-matrix.svg)"
        )
        shown += [goals(rows), fast_path(ours[0]), calibration(ours[0])]
        if any(run["own"].get("loop") for run in ours[0].runs):
            shown.append(diagnostics(ours[0]))
    return shown


def goals(rows: Sequence[Row]) -> str:
    """How far ours is ahead of the prompt methods and of those with a closed-form or realigned head."""
    by_name = {row.name: row for row in rows}
    ours = by_name["hippotune"]
    lines = [
        [
            f"`{name}`",
            ours.ahead(by_name[name], "last"),
            ours.ahead(by_name[name], "aaa"),
            pairs(ours, by_name[name]),
        ]
        for name in ("ranpac", DEEP_RANPAC.name, "slca", *PAPERS)
        if name in by_name
    ]
    return table(["hippotune beside, on the same seeds", "last", "AAA", "seeds"], lines)


def pairs(one: Row, other: Row) -> str:
    """How many seeds both were run on."""
    return str(len(one.differences(other, "last")))


def fast_path(row: Row) -> str:
    """The streaming head alone on tasks never seen, once there are pools."""
    later = [one for run in row.runs for one in run["fast"][1:]]
    if not later:
        return ""
    fast, slow = mean(one["accuracy"] for one in later), mean(one["consolidated"] for one in later)
    return (
        f"Right after a task was taken up, the fast head alone answers {fast:.1f} % of it rightly, once the task is "
        f"consolidated {slow:.1f} % are (ratio {fast / slow:.3f}). Taking one up took "
        f"{mean(one['seconds'] for one in later):.1f} s."
    )


def calibration(row: Row) -> str:
    """How far the scores are from how often answers are right."""
    if row.mean("ece") is None:
        return ""
    return (
        f"Its scores, after the last task, are off by {row.text('ece')} % from how often answers so sure are right "
        "(expected calibration error, 15 bins; Guo et al., ICML 2017)."
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


def ablations(rows: Sequence[Row], protocol: str, folder: Path) -> list[str]:
    """One idea taken out at a time, and other budgets at inference."""
    if len(rows) < 2:
        return []
    full, *others = rows
    body = [["`hippotune`", full.text("last"), "", full.text("aaa"), "", str(len(full.runs))]]
    body += [
        [
            row.name, row.text("last"), row.ahead(full, "last"), row.text("aaa"), row.ahead(full, "aaa"),
            pairs(full, row),
        ]
        for row in others
        if row.name != "other budgets"
    ]  # fmt: skip
    head = ["", "last", "change", "AAA", "change", "seeds"]
    told = "Changes are between runs of the same seed."
    parts = [f"### {protocol}: one idea less", table(head, body), told]
    swept = [run["own"]["sweep"] for row in others for run in row.runs if run["own"].get("sweep")]
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
