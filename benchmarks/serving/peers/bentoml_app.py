"""BentoML: one worker, adaptive batching, a batch decoded by threads.

It may queue for as long as an answer takes under full load: with less it refuses, and the caller counts failures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "1")

import bentoml
from bentoml.validators import ContentType

from benchmarks.serving.peers.common import Model
from benchmarks.serving.scene import Scene, free_port

SCENE = "BENCHMARK_SCENE"
"""BentoML imports this module again in its worker, which finds the scene here."""

if SCENE in os.environ:
    scene = Scene(**json.loads(os.environ[SCENE]))

    @bentoml.service(workers=1, traffic={"timeout": 60, "max_concurrency": 4096}, resources={"cpu": "1"})
    class Classify:
        def __init__(self) -> None:
            self.model, self.pool = Model(scene), ThreadPoolExecutor(scene.threads)

        @bentoml.api(batchable=True, max_batch_size=scene.max_batch, max_latency_ms=10_000, route="/classify")
        def classify(self, file: list[Annotated[Path, ContentType("image/jpeg")]]) -> list[dict]:  # type: ignore[type-arg]
            pixels = self.pool.map(lambda path: self.model.decode(path.read_bytes()), file)
            return [{"predictions": answer} for answer in self.model.answer(list(pixels))]


def main() -> None:
    environment = {**os.environ, SCENE: sys.stdin.readline()}
    port = free_port()
    target = "benchmarks.serving.peers.bentoml_app:Classify"
    command = [sys.executable, "-m", "bentoml", "serve", target, "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    print(json.dumps({"port": port, "path": "/classify", "field": "file"}), flush=True)
    sys.stdin.read()
    server.terminate()
    server.wait()


if __name__ == "__main__":
    main()
