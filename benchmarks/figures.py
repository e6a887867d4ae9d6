"""Put measured figures into README.md and docs/: `python -m benchmarks.figures`.

Between `<!-- figures: NAME -->` and `<!-- end -->` stands a table made from benchmarks/results/*.json. Nobody types a
figure; `--check` says which file is stale.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results"
REGION = re.compile(r"(<!-- (\w+): ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Figure:
    """One quoted figure.

    what: what was measured, in words.
    file: its JSON in benchmarks/results.
    template: how it is written, as `str.format` fills it from that JSON.
    command: what measures it again.
    """

    what: str
    file: str
    template: str
    command: str

    def row(self) -> str:
        """Raises KeyError and ValueError when the JSON has no such figure."""
        document = json.loads((RESULTS / self.file).read_text())
        return f"| {self.what} | {self.template.format_map(document)} | `{self.command}` |"


SERVED = Figure(
    "100 images of new classes, from accepted to answered (median; DeiT-Tiny, 224 px)",
    "end_to_end.json",
    "{median_seconds_from_accepted_to_served:.1f} s",
    "python -m benchmarks.end_to_end",
)
SWAPS = Figure(
    "versions swapped under load",
    "end_to_end.json",
    "of {swaps[answered]} requests in {swaps[swaps]} swaps {swaps[failed]} failed, {swaps[mixed_versions]} mixed two "
    "versions",
    "python -m benchmarks.end_to_end",
)
LOOP = (
    Figure(
        "time with the loop over that without, DeiT-Tiny, onnxruntime, four steps",
        "loop.json",
        "{time[onnx][batch_1][ratio]:.2f}x at batch 1, {time[onnx][batch_8][ratio]:.2f}x at batch 8",
        "python -m benchmarks.loop",
    ),
    Figure(
        "that over a plain transformer as torch exports it, whose attention is not one node",
        "loop.json",
        "{time[onnx_over_plain_as_exported][batch_1][ratio]:.2f}x at batch 1, "
        "{time[onnx_over_plain_as_exported][batch_8][ratio]:.2f}x at batch 8",
        "python -m benchmarks.loop",
    ),
    Figure(
        "time with the loop over that without, ViT-B/16, onnxruntime",
        "loop-vit-b16.json",
        "{time[onnx][batch_1][ratio]:.2f}x at batch 1, {time[onnx][batch_8][ratio]:.2f}x at batch 8",
        "python -m benchmarks.loop --backbone vit_base_patch16_224 --untrained",
    ),
    Figure(
        "time with the loop over that without, DeiT-Tiny, torch",
        "loop.json",
        "{time[torch][batch_1][ratio]:.2f}x at batch 1, {time[torch][batch_8][ratio]:.2f}x at batch 8",
        "python -m benchmarks.loop",
    ),
    Figure(
        "multiply-adds of ViT-B/16",
        "loop.json",
        "{multiply_adds_vit_b16[plain_g]:.2f} G without the loop, {multiply_adds_vit_b16[looped_g]:.2f} G with it",
        "python -m benchmarks.loop",
    ),
)
BACKBONE = Figure(
    "handwritten digits on the bundled backbone's frozen features",
    "backbone.json",
    "{accuracy[digits][bundled][nearest_mean]:.1%} right by the nearest mean, "
    "{accuracy[digits][bundled][projected_ridge]:.1%} by ridge regression",
    "python -m benchmarks.backbone",
)
DEMO = Figure(
    "handwritten digits in five tasks over HTTP, bundled backbone",
    "demo.json",
    "{average_accuracy:.1%} right at the end, forgetting {forgetting:.1%}",
    "python -m hippotune demo --exit --json benchmarks/results/demo.json",
)
UNKNOWN = Figure(
    "of these, taken for unknown at a familiarity of 0.01",
    "demo.json",
    "{unknown_before:.0%} before they were taught, {unknown_after:.0%} once all were",
    DEMO.command,
)
HUNDRED = Figure(
    "CIFAR-100 in ten tasks over HTTP, 20 images a class, DeiT-Tiny at 128 px",
    "cifar100.json",
    "{average_accuracy:.1%} right at the end, forgetting {forgetting:.1%}",
    "python -m benchmarks.cifar100",
)
WHOLE = Figure(
    "all images of CIFAR-100 in ten tasks, DeiT-Tiny at 224 px, one seed",
    "continual.json",
    "{full[hippotune][last]:.1f}% right at the end, {full[hippotune][forgetting]:.1f} points forgotten",
    "python -m benchmarks.continual --method hippotune --protocol full",
)
QUICK = Figure(
    "CIFAR-100 in ten tasks, 50 images a class, DeiT-Tiny at 128 px",
    "continual.json",
    "{quick[hippotune][last]:.1f}% right at the end, {quick[hippotune][forgetting]:.1f} points forgotten, "
    "{quick[hippotune][seeds]} seeds",
    "python -m benchmarks.continual.suite --protocol quick",
)
FORGOTTEN = Figure(
    "handwritten digits in five tasks, each forgotten on purpose in turn",
    "forgetting.json",
    "{highest_accuracy_of_a_forgotten_task:.0%} of the forgotten task right at most, "
    "{most_points_lost_by_others_on_average:.1f} points lost by the others at most",
    "python -m benchmarks.forgetting",
)
FORGOTTEN_CLASS = Figure(
    "of these, each class forgotten on purpose in turn",
    "forgetting.json",
    "{highest_accuracy_of_a_forgotten_class:.0%} of the forgotten class right at most, "
    "{most_points_lost_by_other_classes:.1f} points lost by the others at most",
    FORGOTTEN.command,
)
SPEED = Figure(
    "images a second of the bundled backbone over those of DeiT-Tiny at 224 px",
    "backbone_speed.json",
    "{ratio:.1f}x",
    "python -m benchmarks.backbone_speed",
)
SERVING = tuple(
    Figure(what, "serving.json", template, "python -m benchmarks.serving")
    for what, template in (
        (
            "images a second at saturation, over the bare runtime in a loop",
            "{throughput[preprocessed_over_bare]:.2f}x preprocessed, {throughput[jpeg_over_bare]:.2f}x from JPEG",
        ),
        (
            "one caller's latency beyond computing",
            "p50 {alone[overhead_p50_ms]:.1f} ms, p99 {alone[overhead_p99_ms]:.1f} ms",
        ),
        (
            "images a second over the best of LitServe, BentoML and Ray Serve",
            (
                "{same[saturated_over_best]:.2f}x with the same model, {nothing[saturated_over_best]:.2f}x with one "
                "that costs nothing"
            ),
        ),
    )
    if (RESULTS / "serving.json").exists()
)
CHAOS = tuple(
    Figure(what, "chaos.json", template, "python -m benchmarks.chaos")
    for what, template in (
        (
            "killed while tasks and requests come",
            "trainers {trainer_kills_survived} times, Redis {redis_kills}, servers {server_kills}",
        ),
        ("requests lost meanwhile", "{requests_lost} of {requests_answered:,}"),
        (
            "tasks accepted meanwhile",
            (
                "{tasks_accepted}: {tasks_consolidated_exactly_once} learned exactly once, {tasks_forgotten} forgotten "
                "and {tasks_cancelled_before_a_trainer_took_them} cancelled as asked"
            ),
        ),
        ("worst p99 of any ten seconds meanwhile", "{worst_p99_s_of_any_ten_seconds:.1f} s"),
    )
    if (RESULTS / "chaos.json").exists()
)
OVERLOAD = Figure(
    "ten times the load that can be answered, over saturation",
    "overload.json",
    "{overload[goodput]:.2f}x the answers a second, {overload[p99_ratio]:.2f}x their p99",
    "python -m benchmarks.overload",
)
ROBUST = (
    *CHAOS,
    OVERLOAD,
    Figure(
        "longest wait for an answer while many connections ask on without pause",
        "overload.json",
        "{crowd[longest_ms]:.0f} ms, {crowd[connections]} of them, {crowd[answers_per_second]:.0f} answers a second",
        "python -m benchmarks.overload",
    ),
    Figure(
        "requests under way at SIGTERM",
        "overload.json",
        "{stopping[lost]} of {stopping[under_way]} lost",
        "python -m benchmarks.overload",
    ),
    Figure(
        "memory grown over twenty minutes' work",
        "soak.json",
        "{server_grown:+.1%} of the server's, {trainer_grown:+.1%} of the trainer's",
        "python -m benchmarks.soak --minutes 20",
    ),
    Figure(
        "requests made up from the API document, every check",
        "fuzz_contract.json",
        "{contract[cases]:,} cases, {findings} findings",
        "python -m benchmarks.fuzz --only contract",
    ),
    Figure(
        "bytes made up for each parser: a crash, a hang, a leak",
        "fuzz_parsers.json",
        "{inputs:,} inputs, {findings} findings",
        "python -m benchmarks.fuzz --only parsers",
    ),
)
TABLES: Mapping[str, Iterable[Figure]] = {
    "loop": LOOP,
    "forgetting": (FORGOTTEN, FORGOTTEN_CLASS),
    "all": (
        DEMO,
        UNKNOWN,
        FORGOTTEN,
        FORGOTTEN_CLASS,
        SERVED,
        SWAPS,
        QUICK,
        WHOLE,
        HUNDRED,
        *LOOP,
        BACKBONE,
        SPEED,
        *SERVING,
        *ROBUST,
    ),
    "robust": ROBUST,
}


README = (DEMO, UNKNOWN, SERVED, SWAPS, LOOP[0], LOOP[2], *SERVING, OVERLOAD, *CHAOS)
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


def table(figures: Iterable[Figure]) -> str:
    return "\n".join(
        ["| measured | result | command |", "|---|---|---|", *(figure.row() for figure in figures)]
    )


def short_table(figures: Iterable[Figure]) -> str:
    """For README, where there is less room: commands without what they all begin with."""
    return table(figures).replace("| command |", "| `python -m` |", 1).replace("`python -m ", "`")


def methods() -> str:
    """Methods side by side, a row each: with fifty images a class, and with five."""
    kept = json.loads((RESULTS / "continual.json").read_text())
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


def strangers() -> str:
    """How many images are taken for unknown, a row a kind and a column a scene."""
    scenes = json.loads((RESULTS / "familiarity.json").read_text())["scenes"]
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


def newcomers() -> str:
    """How many images of new and of old classes are answered rightly, a row for each number of images learned."""
    scenes = json.loads((RESULTS / "newcomers.json").read_text())["scenes"]
    rows = [["none: old classes", *(f"{100 * found['old_before']:.1f}" for found in scenes.values())]]
    for images in next(iter(scenes.values()))["images"]:
        shares = (found["images"][images] for found in scenes.values())
        figured = ([100 * each[kind] for kind in ("new", "new_among_new", "old")] for each in shares)
        rows.append([images, *("{:.1f} / {:.1f} / {:.1f}".format(*each) for each in figured)])
    return by_scene("images a new class: new right / among new / old right, %", list(scenes), rows)


def kinds() -> str:
    """How many images that are no photographs are answered rightly, a row a kind."""
    found = json.loads((RESULTS / "kinds.json").read_text())["kinds"]
    ways = next(iter(found.values()))["right"]
    rows = [[kind, *(f"{100 * share:.1f}" for share in one["right"].values())] for kind, one in found.items()]
    return by_scene("right, %", list(ways), rows)


def by_scene(what: str, scenes: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of a column a scene, each row led by what it is of."""
    whole = [[what, *scenes], ["---", *("---:" for _ in scenes)], *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in whole)


def filled(text: str, kind: str, bodies: Mapping[str, str]) -> str:
    """Text with each region `<!-- kind: name -->` holding the body of that name. Raises KeyError for unknown ones."""

    def fill(found: re.Match[str]) -> str:
        opening, its_kind, name, _, closing = found.groups()
        return found[0] if its_kind != kind else f"{opening}\n{bodies[name]}\n\n{closing}"

    return REGION.sub(fill, text)


def main(check: bool) -> int:
    """Fill the tables; with `check` only say which files are stale. Answers the exit code."""
    bodies = {name: table(figures) for name, figures in TABLES.items()}
    bodies |= {"methods": methods(), "readme": short_table(README), "familiarity": strangers()}
    bodies |= {"newcomers": newcomers(), "kinds": kinds()}
    stale = 0
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = path.read_text()
        new = filled(text, "figures", bodies)
        if new != text:
            stale += 1
            print(
                f"{path.relative_to(ROOT)} {'is stale: run python -m benchmarks.figures' if check else 'written'}"
            )
            if not check:
                path.write_text(new)
    return int(check and stale > 0)


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
