"""Our server with a model of the benchmark's choice, as a process: see `scene.child`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from benchmarks.serving.models import runtime_for, spec_of
from benchmarks.serving.scene import Scene, free_port
from exchange.queue import QueueConfig
from hippotune import logs
from hippotune.supervision import end_with_stdin
from service.app import create_app
from service.config import ServiceConfig
from service.runtimes.load import load_runtime
from service.server import OwnProcessServer

REMEMBERED = 100
"""Answers that can be corrected: so few that their memory is full at once, and what grows later is something else."""


def main() -> None:
    logs.configure("info")  # to stderr: nobody reads on from stdout, and a full pipe would stop the server
    scene = Scene(**json.loads(sys.stdin.readline()))
    config = ServiceConfig(
        scene.redis_url,
        Path(scene.store),
        spec_of(scene),
        QueueConfig(),
        runtime=scene.runtime,
        device="cpu",
        threads=scene.threads,
        max_batch=scene.max_batch,
        queue_images=4096,
        feedback_answers=REMEMBERED,
    )
    load = load_runtime if scene.model == "product" else lambda _config, _threads: runtime_for(scene)
    port = free_port()
    server = OwnProcessServer(create_app(config, load), host="127.0.0.1", port=port, idle_s=config.idle_s)

    def stop() -> None:
        server.should_exit = True

    end_with_stdin(stop)
    print(json.dumps({"port": port, "pid": os.getpid()}), flush=True)
    server.run()


if __name__ == "__main__":
    main()
