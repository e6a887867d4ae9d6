"""`python -m benchmarks.continual --method hippotune --protocol quick --seed 0 --out FILE.json`."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.continual.methods import RECIPES
from benchmarks.continual.protocols import PROTOCOLS, SCENARIO_CONDITIONS, Protocol
from benchmarks.continual.runner import Run, configure, run
from benchmarks.continual.streams import SCENARIOS
from benchmarks.machine import keep

BAR = "{desc}{percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} images [{elapsed}<{remaining}]"


def parser() -> argparse.ArgumentParser:
    """The command line. Whatever is not given comes from the protocol."""
    parse = argparse.ArgumentParser("python -m benchmarks.continual", description=__doc__)
    parse.add_argument("--method", choices=sorted(RECIPES), required=True)
    parse.add_argument("--protocol", choices=sorted(PROTOCOLS), default="quick")
    parse.add_argument("--seed", type=int, default=0, help="of class order, first parameters and projections")
    parse.add_argument("--data", help="cifar100, cub100 or imagefolder:DIR with train/ and test/")
    parse.add_argument("--folder", type=Path, help="where the archives of cifar100 and cub100 are")
    parse.add_argument("--scenario", choices=sorted(SCENARIOS))
    parse.add_argument("--tasks", type=int)
    parse.add_argument("--px", type=int)
    parse.add_argument("--train-per-class", type=int)
    parse.add_argument("--test-per-class", type=int)
    parse.add_argument("--split", choices=("test", "validation"))
    parse.add_argument("--epochs", type=int)
    parse.add_argument(
        "--least-steps",
        type=int,
        help="updates a task at least, in more epochs if need be; for prompts, --set least_steps",
    )
    parse.add_argument("--batch", type=int)
    parse.add_argument("--probe-per-class", type=int, help="0 skips the stability gap")
    parse.add_argument("--backbone")
    parse.add_argument("--weights", type=Path)
    parse.add_argument("--device", help="a torch device")
    parse.add_argument("--precision", choices=("fp32", "bf16"))
    parse.add_argument("--threads", type=int, help="of torch on the CPU")
    parse.add_argument("--limit-tasks", type=int, help="stop after so many tasks")
    parse.add_argument("--set", dest="settings", action="append", default=[], metavar="FIELD=VALUE",
                       help="any field of the method's configuration, such as learner.slots=20")  # fmt: skip
    parse.add_argument("--name", help="what the figures are called in a report; else the method's name")
    parse.add_argument("--out", type=Path, help="file for the figures; an unfinished run lies beside it")
    return parse


def protocol_of(options: argparse.Namespace) -> Protocol:
    """The named protocol with what was given in its place."""
    named = PROTOCOLS[options.protocol]
    given = {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(Protocol)
        if getattr(options, field.name, None) is not None
    }
    if given.get("backbone") == "bundled" and options.weights is None:
        given["weights"] = None
    return dataclasses.replace(named, **(SCENARIO_CONDITIONS.get(given.get("scenario", ""), {}) | given))


def main(arguments: list[str] | None = None) -> None:
    """Run, print, keep."""
    options = parser().parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    recipe, protocol = RECIPES[options.method], protocol_of(options)
    config = configure(recipe, protocol, options.seed, options.settings)
    what = Run(options.method, protocol, config, options.seed, options.limit_tasks)
    unfinished = (options.out or Path(f".cache/continual/{options.method}-{options.seed}")).with_suffix(
        ".unfinished"
    )
    with tqdm(total=0, bar_format=BAR, dynamic_ncols=True) as bar:

        def progress(task: int, total: int, images: float) -> None:
            if bar.desc != f"task {task + 1}: ":
                bar.reset(total)
                bar.set_description(f"task {task + 1}")
            bar.update(min(images, bar.total - bar.n))  # a small task is passed over more often than foreseen

        figures = run(what, recipe, unfinished, progress)
    command = f"python -m benchmarks.continual {shlex.join(sys.argv[1:] if arguments is None else arguments)}"
    called = {"command": command, "name": options.name or options.method, "protocol": options.protocol}
    keep({**called, **figures}, options.out)


if __name__ == "__main__":
    main()
