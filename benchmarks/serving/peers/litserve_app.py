"""LitServe: a worker process, dynamic batches, no wait for more than what is there; a batch is decoded by threads.

Images go as base64 in JSON, since an uploaded file does not travel to its worker.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import litserve

from benchmarks.serving.peers.common import Model
from benchmarks.serving.scene import Scene, free_port
from hippotune.supervision import end_with_stdin


class Classify(litserve.LitAPI):
    def __init__(self, scene: Scene) -> None:
        super().__init__(max_batch_size=scene.max_batch, batch_timeout=0.001)
        self.scene = scene

    def setup(self, device: str) -> None:  # noqa: ARG002
        self.model, self.pool = Model(self.scene), ThreadPoolExecutor(self.scene.threads)

    def decode_request(self, request):  # type: ignore[no-untyped-def]
        return base64.b64decode(request["image"])

    def batch(self, inputs):  # type: ignore[no-untyped-def]
        return list(self.pool.map(self.model.decode, inputs))

    def predict(self, images):  # type: ignore[no-untyped-def]
        return self.model.answer(images)

    def unbatch(self, answers):  # type: ignore[no-untyped-def]
        return answers

    def encode_response(self, answer):  # type: ignore[no-untyped-def]
        return {"predictions": answer}


def main() -> None:
    scene = Scene(**json.loads(sys.stdin.readline()))
    end_with_stdin(lambda: os._exit(0))
    port = free_port()
    print(json.dumps({"port": port, "path": "/predict", "field": "image", "json": True}), flush=True)
    server = litserve.LitServer(Classify(scene), accelerator="cpu", fast_queue=True, track_requests=False)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="error")


if __name__ == "__main__":
    main()
