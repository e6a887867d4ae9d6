"""What is served and asked: a backbone, a version with slots, photographs; and who computes it."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.serving.client import Load, Measured

SIDE = 256
"""Of the photographs sent: about what a thumbnail or a cropped detection has."""


@dataclass(frozen=True)
class Scene:
    """Everything a server under test must know; goes to its process as JSON.

    model: "product" (whatever --runtime says), "looped" and "plain" (onnx with and without the loop), "torch" (plain,
        float32) or "nothing" (scores of zero at once).
    """

    backbone: str
    weights: str | None
    px: int | None
    model: str
    runtime: str
    threads: int
    max_batch: int
    slots: int
    classes: int
    graphs: str
    store: str
    redis_url: str = ""

    def text(self) -> str:
        return json.dumps(asdict(self))


def photographs(count: int, side: int = SIDE) -> list[bytes]:
    """JPEGs with the statistics of a photograph rather than of noise: smooth shapes, some grain, about 15 kB."""
    random = np.random.default_rng(0)
    encoded = []
    for _ in range(count):
        coarse = Image.fromarray(random.integers(0, 255, (12, 12, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32)
        pixels = (smooth + random.normal(0, 6, smooth.shape)).clip(0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=85)
        encoded.append(file.getvalue())
    return encoded


def tensors(px: int, count: int) -> tuple[list[bytes], int]:
    """Images that need no more preparing, as /v2 takes them: bodies, and how long the JSON at their head is."""
    random, size = np.random.default_rng(1), 3 * px * px
    image = {"name": "image", "shape": [1, 3, px, px], "datatype": "UINT8"}
    told = {"inputs": [image | {"parameters": {"binary_data_size": size}}]}
    header = json.dumps(told).encode()
    return [header + random.bytes(size) for _ in range(count)], len(header)


def multipart(image: bytes, field: str) -> tuple[bytes, str]:
    """A body with one file, and its media type."""
    edge = "----benchmark"
    head = f'--{edge}\r\nContent-Disposition: form-data; name="{field}"; filename="a.jpg"\r\n'
    body = f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + image + f"\r\n--{edge}--\r\n".encode()
    return body, f"multipart/form-data; boundary={edge}"


def packed(images: Sequence[bytes], told: dict[str, Any]) -> tuple[list[bytes], str]:
    """Bodies as a server wants them, and their media type: raw, multipart in `field`, or base64 in JSON."""
    field = told["field"]
    if field is None:
        return list(images), "image/jpeg"
    if told.get("json"):
        return [
            json.dumps({field: base64.b64encode(one).decode()}).encode() for one in images
        ], "application/json"
    pairs = [multipart(image, field) for image in images]
    return [body for body, _ in pairs], pairs[0][1]


@dataclass(frozen=True)
class Child:
    """A process under test. told: what it said when it was ready."""

    process: subprocess.Popen[str]
    told: dict[str, Any]

    def ask(self, line: str) -> str:
        """A line for a line."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()


@contextmanager
def child(scene: Scene, module: str, python: Path | str = sys.executable) -> Iterator[Child]:
    """A module that takes a scene on stdin, prints one line of JSON once it is ready, and ends with its stdin.

    Raises RuntimeError when it ends before.
    """
    command = [str(python), "-m", module]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    errors: list[str] = []
    listener = threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True)
    listener.start()
    try:
        started = Child(process, {})
        line = started.ask(scene.text())
        while line and not line.startswith("{"):  # other servers print what they like
            line = process.stdout.readline() if process.stdout else ""
        if not line:
            listener.join(5)  # stdout ended; what went to stderr may still be on its way
            raise RuntimeError(f"{module} did not start: {''.join(errors[-5:])}")
        yield Child(process, json.loads(line))
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with suppress(ProcessLookupError):  # workers of other servers may outlive whom they work for
            os.killpg(process.pid, signal.SIGKILL)
        listener.join(5)  # a process in a session of its own may hold the other end for longer
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def ask(
    port: int,
    images: Sequence[bytes],
    paths: Sequence[str] = ("/classify",),
    media_type: str = "image/jpeg",
    **how: Any,
) -> Measured:
    """Send images from a process of its own. Raises RuntimeError when no answer came."""
    bodies = [base64.b64encode(image).decode() for image in images]
    load = Load("127.0.0.1", port, list(paths), bodies, media_type, **how)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serving.client"],
        input=json.dumps(asdict(load)),
        capture_output=True,
        text=True,
        check=True,
    )
    found = Measured(**json.loads(done.stdout))
    if not found.answered:
        raise RuntimeError(
            f"no answer within {found.seconds} s, {found.failed} failures: the machine is too busy"
        )
    return found


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


def weights_path(weights: str | None) -> Path | None:
    return None if weights is None else Path(weights)
