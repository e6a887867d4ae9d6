"""Every run behind the published figures: `python -m benchmarks.continual.suite --protocol quick --seeds 3`.

Runs what is missing, cheapest first, one seed after another; interrupted runs continue where they stopped. Whatever
follows `--` goes to each run, such as `-- --device cuda`.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.continual.protocols import PROTOCOLS

RESULTS = Path("benchmarks/results/continual")


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a table.

    name: what the report calls it.  settings: fields of the method's configuration that differ from its defaults.
    scenario: other than class-incremental.  once: only the first seed.
    """

    name: str
    method: str
    settings: tuple[str, ...] = ()
    scenario: str = "class"
    once: bool = False

    def path(self, protocol: str, seed: int) -> Path:
        """Where its figures are kept."""
        words = [
            protocol,
            *([] if self.scenario == "class" else [self.scenario]),
            re.sub(r"[^\w-]+", "_", self.name),
        ]
        return RESULTS / f"{'-'.join(words)}-s{seed}.json"


CHEAPEST_FIRST = (
    "frozen-ncm", "hippotune-fast", "finetune", "lora", "slca", "ranpac",
    "hippotune", "joint", "dualprompt", "coda", "l2p", "der",
)  # fmt: skip

# How much of our lead is the depths that the head reads? Any closed-form head can read them.
DEEP_RANPAC = Entry("ranpac, four depths", "ranpac", ("first.body.depths=True",))
METHODS = (*(Entry(name, name) for name in CHEAPEST_FIRST), DEEP_RANPAC)

DRIFTING = ("learner.settled=1000", "learner.sketch=0")


def ablation(name: str, *settings: str, once: bool = False) -> Entry:
    """HippoTune with these fields set."""
    return Entry(name, "hippotune", settings, once=once)


AS_THEY_ARE = ablation("images as they are", "learner.vary=False")
ABLATIONS = (
    ablation("one step", "loop.tmax=1"),
    ablation("four vectors of one step", "variant=ranks"),
    # P is d x d in each layer, as much as d/2 slots of a key and a value: 96 more where d = 192.
    ablation("one step, P as slots", "loop.tmax=1", "learner.slots=106"),
    ablation("one question for all images", "variant=blind"),
    ablation("four constants", "variant=constant", "learner.slots=4"),
    ablation("last step only", "variant=last"),
    ablation("without L_orth", "learner.lambda_orth=0"),
    ablation("with L_ent", "learner.lambda_ent=0.01"),
    ablation("gradient through the last step", "learner.bptt=1"),
    # Beside "one spread for all classes", which they share.
    ablation("slots for every task", *DRIFTING),
    # What keeps old classes where new slots move features: a penalty while training, then a map for their means.
    ablation("slots for every task, no map", *DRIFTING, "learner.drift_ridge=1e9"),
    ablation("slots for every task, no penalty", *DRIFTING, "learner.drift_weight=0"),
    # What is the head's: all classes spread alike, and the discriminant is linear.
    ablation("one spread for all classes", "learner.sketch=0"),
    ablation("without mirroring", "learner.mirror=0.0"),
    AS_THEY_ARE,
    ablation("other budgets", "sweep=True", once=True),
)

SCENARIOS = tuple(
    Entry(name, name, scenario=scenario, once=True)
    for scenario in ("domain", "blurry", "online", "trial")
    for name in ("frozen-ncm", "lora", "ranpac", "hippotune", "coda")
)
SETTLED = Entry(
    "hippotune, settled at once",
    "hippotune",
    ("learner.least_images=0", "learner.outweigh=1e9"),
    scenario="trial",
    once=True,
)

TOLD_APART = Entry(
    "hippotune, images told apart", "hippotune", ("learner.few_classes=8",), scenario="single", once=True
)
ONE_BY_ONE = (
    *(Entry(name, name, scenario="single", once=True) for name in ("frozen-ncm", "ranpac", "hippotune")),
    TOLD_APART,
)

PARTS = {"methods": METHODS, "ablations": ABLATIONS, "scenarios": (*SCENARIOS, SETTLED, *ONE_BY_ONE)}


def missing(parts: Sequence[str], protocol: str, seeds: int) -> Iterator[tuple[Entry, int]]:
    """Runs without figures, in the order they should be made."""
    for seed in range(seeds):
        for part in parts:
            for entry in PARTS[part]:
                if not (entry.once and seed) and not entry.path(protocol, seed).exists():
                    yield entry, seed


def command(entry: Entry, protocol: str, seed: int, rest: Sequence[str]) -> list[str]:
    """What a run is started with."""
    words = [sys.executable, "-m", "benchmarks.continual", "--method", entry.method, "--protocol", protocol]
    words += ["--seed", str(seed), "--name", entry.name, "--out", str(entry.path(protocol, seed)), *rest]
    if entry.scenario != "class":
        words += ["--scenario", entry.scenario]
    for setting in entry.settings:
        words += ["--set", setting]
    return words


def main() -> None:
    """Run what is missing; a run that fails is reported and passed over."""
    parse = argparse.ArgumentParser("python -m benchmarks.continual.suite", description=__doc__)
    parse.add_argument("--protocol", choices=tuple(PROTOCOLS), default="quick")
    parse.add_argument("--seeds", type=int, default=3)
    parse.add_argument("--parts", nargs="+", choices=sorted(PARTS), default=["methods"])
    parse.add_argument("--only", nargs="+", metavar="NAME", help="these rows alone")
    parse.add_argument("--list", action="store_true", help="print the commands instead")
    own = sys.argv[1 : sys.argv.index("--")] if "--" in sys.argv else sys.argv[1:]
    rest = sys.argv[len(own) + 2 :]
    options = parse.parse_args(own)
    RESULTS.mkdir(parents=True, exist_ok=True)
    failed = 0
    for entry, seed in missing(options.parts, options.protocol, options.seeds):
        if options.only and entry.name not in options.only:
            continue
        words = command(entry, options.protocol, seed, rest)
        if options.list:
            print(shlex.join(words))
            continue
        print(f"== {entry.name}, {entry.scenario}, seed {seed}", file=sys.stderr, flush=True)
        failed += subprocess.run(words, stdout=subprocess.DEVNULL, check=False).returncode != 0
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
