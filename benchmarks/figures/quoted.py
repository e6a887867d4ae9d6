"""Every figure that README and docs quote: what it is, which file holds it, which command measures it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


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

    def row(self, results: Path) -> str:
        """As a line of a table. Raises KeyError and ValueError when the JSON has no such figure."""
        document = json.loads((results / self.file).read_text())
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
TABLES: Mapping[str, Sequence[Figure]] = {
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
"""Tables of README and docs, by the names that their regions have."""
README = (DEMO, UNKNOWN, SERVED, SWAPS, LOOP[0], LOOP[2], *SERVING, OVERLOAD, *CHAOS)
"""README's own table, shorter than the others."""
