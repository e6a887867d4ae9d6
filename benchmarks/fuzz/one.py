"""One parser under atheris, then its corpus again and again: `python -m benchmarks.fuzz.one NAME RUNS FOLDER`.

libFuzzer ends the process on a crash, on an input that takes ten seconds, and past its memory limit. The second part
looks for leaks, which a growing corpus would hide: the same inputs over and over must not take more memory.
"""

from __future__ import annotations

import gc
import json
import random
import sys
import time
from pathlib import Path

import atheris
import psutil

with atheris.instrument_imports(include=["service", "zipfile", "tarfile", "python_multipart"]):
    from benchmarks.fuzz.parsers import Target, attempt, targets

MIB = 1 << 20


def main() -> None:
    """Prints one line of JSON when it was not stopped by a finding."""
    name, runs, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    target = targets()[name]
    corpus = folder / name
    corpus.mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate(target.seeds):
        (corpus / f"seed{index}").write_bytes(seed)
    if len(sys.argv) > 4:  # the second part, in a process of its own, since libFuzzer ends this one
        replay(name, target, corpus, runs)
        return
    tried = [0]
    worst = [0.0]

    def one(data: bytes) -> None:
        tried[0] += 1
        began = time.perf_counter()
        attempt(target, data)
        worst[0] = max(worst[0], time.perf_counter() - began)
        if tried[0] % 1000 == 0 or tried[0] >= runs:
            (folder / f"{name}.json").write_text(
                json.dumps({"inputs": tried[0], "worst_ms": 1000 * worst[0]})
            )

    atheris.Setup(
        [
            sys.argv[0], f"-runs={runs}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=16384", "-print_final_stats=1",
            f"-artifact_prefix={folder}/{name}-", str(corpus),
        ],
        one,
    )  # fmt: skip
    atheris.Fuzz()


def replay(name: str, target: Target, corpus: Path, runs: int) -> None:
    inputs = [file.read_bytes() for file in sorted(corpus.iterdir())]
    random.Random(0).shuffle(inputs)
    resident = []
    for _ in range(5):  # the first warms caches and allocators up
        for index in range(runs // 5):
            attempt(target, inputs[index % len(inputs)])
        gc.collect()
        resident.append(psutil.Process().memory_info().rss / MIB)
    print(json.dumps({"name": name, "inputs": runs, "corpus": len(inputs), "resident_mib": resident}))


if __name__ == "__main__":
    main()
