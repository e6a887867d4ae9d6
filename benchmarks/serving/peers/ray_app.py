"""Ray Serve: one replica, `serve.batch`, no wait for more than what is there."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# As its documentation has it for low latency on one machine: user code on the replica's own loop, few log writes.
os.environ.setdefault("RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD", "0")
os.environ.setdefault("RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP", "0")
os.environ.setdefault("RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE", "1000")

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.serving.peers.common import Model
from benchmarks.serving.scene import Scene, free_port

OBJECTS_BYTES = 100_000_000


def deployment(scene: Scene):  # type: ignore[no-untyped-def]
    """The application, its batch size set where the decorator wants it."""

    @serve.deployment(num_replicas=1, max_ongoing_requests=4096, logging_config={"enable_access_log": False})
    class Classify:
        def __init__(self) -> None:
            self.model, self.pool = Model(scene), ThreadPoolExecutor(scene.threads)

        @serve.batch(max_batch_size=scene.max_batch, batch_wait_timeout_s=0.001)
        async def answer(self, images):  # type: ignore[no-untyped-def]
            return await asyncio.get_running_loop().run_in_executor(self.pool, self.model.answer, images)

        async def __call__(self, request: Request):  # type: ignore[no-untyped-def]
            data = await request.body()
            loop = asyncio.get_running_loop()
            pixels = await loop.run_in_executor(self.pool, self.model.decode, data)
            return {"predictions": await self.answer(pixels)}

    return Classify.bind()


def main() -> None:
    scene = Scene(**json.loads(sys.stdin.readline()))
    port = free_port()
    ray.init(
        num_cpus=scene.threads + 1,
        object_store_memory=OBJECTS_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(deployment(scene), route_prefix="/classify")
    print(json.dumps({"port": port, "path": "/classify", "field": None}), flush=True)
    sys.stdin.read()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
