"""The page on learning quality, from the figures of `benchmarks.continual`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

from benchmarks.continual.metrics import minimum_at_task_ends
from benchmarks.continual.suite import ABLATIONS, AS_THEY_ARE, DEEP_RANPAC, METHODS, SETTLED, TOLD_APART
from benchmarks.report.plots import KNOBS, against_cost, heat_map, over_tasks, sweeps
from benchmarks.report.rows import Row, bound, pick, table

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

INTRODUCTION = """# Learning quality

Every method learns the same tasks in the same order from the same pixels, on the same DeiT-Tiny (supervised on
ImageNet-1k), with the same batches and share of images mirrored, and sees images in ever new crops and light. It makes
five passes, and more of a small task, until it made 100 updates. The prompt methods alone make five passes of any task
and see images as they are, since neither more passes nor other views gained them anything on validation images
(`passes-dualprompt-*.json` and `views-coda-*.json` among the results). Class order is
`numpy.random.default_rng(1993 + seed).permutation(100)`, which is not the order that papers use; a seed also sets
first parameters and projections.

All figures are percent, mean ± standard deviation over seeds, which share their training and test images: ± covers the
order of classes and the start of training, and which 2,000 images judge adds about a point. A row without ± is one seed
and says little: seeds differ by a point or two.

Nothing was chosen on test images, but not everything was chosen with equal care. Learning rates of the prompt methods,
of `ranpac` and of `slca` come from small grids on images cut from CIFAR-100's training data
(`python -m benchmarks.continual.tune`), those of `lora`, `der` and `finetune` from nowhere but experience.
`hippotune`'s head and settings were developed on such images over a long time. CUB-100 had no part in that, for any of
them. Older rows saw images as they are, and small tasks for 50 updates: all in `full` and `single`. In `full` `ranpac`
also takes the lambda of the last task.

Made by `python -m benchmarks.continual.suite` (`--protocol quick`, `few`, `cub` or `full`; `--parts ablations`), drawn
by `python -m benchmarks.report`.

| method | what it is |
| --- | --- |
| `hippotune` | as the trainer learns: pools trained on the first task, later ones in closed form |
| `hippotune-fast` | its head alone, without pools |
| `joint` | `hippotune` on all classes at once, with as many slots. It bounds what `hippotune` may reach, not the \
others. Its own head, or logistic regression where that is better on the test images, which it never was |
| `frozen-ncm` | nearest class mean on frozen features |
| `ranpac` | adapts on the first task, then ridge regression on 5,000 random features, where the paper takes 10,000 \
(McDonnell et al., NeurIPS 2023). Its lambda is chosen by held-out images of all tasks; the authors' code asks those \
of the last alone, which are too few here |
| `ranpac, four depths` | the same, with the four depths that `hippotune`'s head reads |
| `slca` | trains the backbone slowly, realigns the head with a Gaussian a class (Zhang et al., ICCV 2023) |
| `l2p`, `dualprompt`, `coda` | prompts chosen by a frozen second pass (Wang et al., CVPR 2022; Wang et al., ECCV \
2022; Smith et al., CVPR 2023). Chosen image by image, never by a vote of the batch |
| `lora`, `finetune` | low-rank additions, or all weights, trained task after task |
| `der` | keeps 500 old images, which no other method here does (Buzzega et al., NeurIPS 2020) |

| figure | meaning | source |
| --- | --- | --- |
| last | mean accuracy over tasks after the last, every class a possible answer | Lopez-Paz & Ranzato, NeurIPS 2017 |
| of joint | last, as a share of that of `joint` | |
| AAA | mean of that accuracy after each task | Rebuffi et al., CVPR 2017 |
| forgetting | mean fall from a task's best accuracy before the last task | Chaudhry et al., ECCV 2018 |
| BWT | mean change since a task was learned | Lopez-Paz & Ranzato, NeurIPS 2017 |
| min at ends | mean over all tasks but the last of the worst accuracy after any later task | |
| min-ACC | mean over all tasks but the newest of the worst moment since each was learned | De Lange et al., ICLR 2023 |
| WC-ACC | newest task's accuracy and min-ACC, weighed 1 : T - 1 | De Lange et al., ICLR 2023 |
| GMAC | billions of multiply-adds of one answer, counted by torch | |
| trained | parameters trained by gradient, over all tasks; the backbone has 5.5 M | |

Worst moments are looked for at steps 1, 2, 4, ..., 32 and then every 32 of each task. They are asked of two test images
a class, the other figures of all: min-ACC may lie above last. `hippotune` and `ranpac` answer from what they serve,
methods trained in place from the parameters being trained. Those could serve their last finished state as well: *min at
ends* asks nothing but finished states. How fast methods learn is measured side by side by
`python -m benchmarks.continual.speed`.

A task is some 160 updates in `quick`, 95 in `cub` and 100 in `few`, or 20 for prompts. That is little for prompts,
which start at random, and far from the whole data sets and larger backbones of the papers: compare rows here with each
other, not with figures printed there.
"""

LOOP = """The loop inside, layer by layer: entropy of the weights of the first and of the last step in nats, share of
the slots that any image asks for first, spread of recalls across images, spectral radius of a step."""

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


def write(rows: Sequence[Row], folder: Path) -> None:
    """`continual.md` and its pictures in a folder. Sections without figures are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [INTRODUCTION]
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
            pairs(ours, by_name[name]),
        ]
        for name in ("ranpac", DEEP_RANPAC.name, "slca", *PAPERS)
        if name in by_name
    ]
    return table(["hippotune beside, on the same seeds", "last", "AAA", "seeds"], lines) if lines else ""


def pairs(one: Row, other: Row) -> str:
    """How many seeds both were run on."""
    return str(len(one.differences(other, "last")))


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
                pairs(base, row),
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
