"""The bare runtime in a loop, in a process of its own. Each line on stdin, `BATCH SECONDS`, is answered with images a
second."""

from __future__ import annotations

import json
import sys

from benchmarks.serving.models import load_model, load_torch, per_second, version_of
from benchmarks.serving.scene import Scene


def main() -> None:
    scene = Scene(**json.loads(sys.stdin.readline()))
    beside = load_torch(scene)
    model = load_model(scene, beside, version_of(scene, beside))
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        batch, seconds = line.split()
        print(per_second(model, beside.identity.px, int(batch), float(seconds)), flush=True)


if __name__ == "__main__":
    main()
