"""A real server on a real socket, beside a real Redis, and versions to serve made of random numbers."""

from __future__ import annotations

import io
import struct
import tarfile
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from exchange.connection import connect
from exchange.manifests import BackboneRecord, Draft, Manifest
from exchange.records import TaskState
from exchange.registry import Registry
from exchange.work import WorkQueue
from model.backbone import Backbone, load_backbone
from model.checkpoint import Checkpoint
from model.deliberation import LoopConfig
from model.sample import sample_version
from service.app import create_app
from service.config import ServiceConfig
from service.server import DrainingServer
from service.services import Services

WAIT_S = 20
PX = 32
"""Side of what the backbone of these tests sees."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server under test, and the same Redis and store that a trainer would use."""

    url: str
    config: ServiceConfig
    client: httpx.Client
    services: Services
    queue: WorkQueue
    registry: Registry
    backbone: Backbone

    def publish(self, checkpoint: Checkpoint, labels: Sequence[str] | None = None, **told: Any) -> Manifest:
        """As a trainer does. told: what else the manifest says."""
        identity = checkpoint.identity
        draft = Draft(
            kind="consolidated",
            parent=self.registry.current(),
            backbone=BackboneRecord.of(identity),
            labels=checkpoint.labels if labels is None else tuple(labels),
            consolidated=tuple(dict.fromkeys(checkpoint.pools.slot_tasks)),
            fast=(),
            slots=checkpoint.pools.slots,
            metrics={"accuracy": 0.5},
            **told,
        )
        return self.registry.publish(draft, {"serving": checkpoint.save})

    def serve(self, checkpoint: Checkpoint, **told: Any) -> Manifest:
        """Publish, and wait until answers come from it."""
        manifest = self.publish(checkpoint, **told)
        wait_for(lambda: self.client.get("/readyz").json().get("version") == manifest.version)
        return manifest


def random_version(
    backbone: Backbone,
    labels: Sequence[str],
    slots: int = 12,
    seed: int = 0,
    loop: LoopConfig | None = None,
) -> Checkpoint:
    """A checkpoint of random pools and a random head: answers mean nothing, and differ from seed to seed."""
    version = sample_version(backbone, loop or LoopConfig(topk=5), slots, len(labels), seed)
    owners = tuple(f"task{slot % 2}" for slot in range(slots))
    return replace(version, labels=tuple(labels), pools=replace(version.pools, slot_tasks=owners))


@contextmanager
def running(config: ServiceConfig, unready_s: float = 0.0, ready: str = "/readyz") -> Iterator[Running]:
    """The app under uvicorn in a thread, on a free port.

    unready_s: how long it answers on when it is to stop.  ready: what to ask whether it has started.
    """
    app = create_app(config)
    server = DrainingServer(app, host="127.0.0.1", port=0, idle_s=config.idle_s, unready_s=unready_s)
    thread = threading.Thread(target=server.run, name="uvicorn")
    thread.start()
    try:
        wait_for(lambda: server.started or not thread.is_alive())
        assert server.started, "the server did not start"
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        services: Services = app.state.services
        redis = connect(config.redis_url)
        registry = Registry(redis, config.store / "versions", config.queue.prefix)
        queue = WorkQueue(redis, services.blobs, config.queue)
        with httpx.Client(base_url=url, timeout=WAIT_S) as client:
            wait_for(lambda: client.get(ready).is_success)
            yield Running(url, config, client, services, queue, registry, load_backbone(config.backbone))
        redis.close()
    finally:
        server.should_exit = True
        thread.join(WAIT_S)
        assert not thread.is_alive(), "the server did not stop"


def wait_for(condition: object, timeout_s: float = WAIT_S) -> None:
    """Until condition() holds."""
    assert callable(condition)
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def picture(seed: int = 0, kind: str = "PNG", size: tuple[int, int] = (40, 32)) -> bytes:
    """A small random image."""
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def flat_png(side: int) -> bytes:
    """A black square of any size in a few hundred kilobytes at most, without holding it in memory."""
    row = b"\0" * (1 + side // 8)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">LLBBBBB", side, side, 1, 0, 0, 0, 0)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bare_jpeg(size: tuple[int, int]) -> bytes:
    """A JPEG whose header announces pixels, and which ends where they should begin."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "JPEG")
    whole = buffer.getvalue()
    frame, scan = whole.index(b"\xff\xc0"), whole.index(b"\xff\xda")
    head = scan + 2 + int.from_bytes(whole[scan + 2 : scan + 4], "big")
    width, height = size
    return whole[: frame + 5] + struct.pack(">HH", height, width) + whole[frame + 9 : head] + b"\xff\xd9"


def many_scans(side: int, scans: int) -> bytes:
    """A grey progressive JPEG that says `scans` times in a few bytes that no coefficient of any block changes."""
    blocks, table = ((side + 7) // 8) ** 2, bytes([1] + [0] * 15)  # one code, of one bit

    def segment(marker: int, body: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, 2 + len(body)) + body

    def packed(bits: str) -> bytes:
        padded = bits + "1" * (-len(bits) % 8)
        return int(padded, 2).to_bytes(len(padded) // 8).replace(b"\xff", b"\xff\0")

    head = segment(0xDB, b"\0" + b"\1" * 64)
    head += segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0")
    head += segment(0xC4, b"\0" + table + b"\0") + segment(0xC4, b"\x10" + table + b"\xe0")
    first = segment(0xDA, b"\1\1\0\0\0\0") + packed("0" * blocks)
    run = "0" + format(0x3FFF, "014b")  # 32,767 blocks, or all that are left
    idle = segment(0xDA, b"\1\1\0\1\x3f\x10") + packed(run * -(-blocks // 32_767))
    return b"\xff\xd8" + head + first + idle * (scans - 1) + b"\xff\xd9"


def zeros_zip(members: int, each: int) -> bytes:
    """A zip of `members` images of `each` bytes of zeros, written without deflating them all."""
    piece = zlib.compressobj(9, zlib.DEFLATED, -15)
    mib = piece.compress(bytes(1 << 20)) + piece.flush(zlib.Z_FULL_FLUSH)
    packed = mib * (each >> 20) + piece.flush()
    local, directory = bytearray(), bytearray()
    for index in range(members):
        name = f"zero/{index}.png".encode()
        facts = struct.pack("<HHHHHLLLHH", 20, 0, 8, 0, 0x21, 0, len(packed), each, len(name), 0)
        directory += (
            b"PK\x01\x02" + struct.pack("<H", 20) + facts + struct.pack("<HHHLL", 0, 0, 0, 0, len(local))
        )
        directory += name
        local += b"PK\x03\x04" + facts + name + packed
    end = struct.pack("<HHHHLLH", 0, 0, members, members, len(directory), len(local), 0)
    return bytes(local + directory) + b"PK\x05\x06" + end


def weights_file(path: Path, name: str = "test_vit2", px: int = PX) -> Path:
    """A transformer with random weights, as a file that `--weights` takes."""
    torch.manual_seed(0)
    vit = timm.create_model(name, img_size=px, num_classes=0)
    save_file(vit.state_dict(), path)
    return path


def serving(server: Running) -> int | None:
    """The version that a server answers with."""
    answer: int | None = server.client.get("/versions").json()["serving"]
    return answer


def zipped(*names: str, method: int = zipfile.ZIP_STORED, data: bytes | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name in names:
            archive.writestr(name, picture() if data is None else data)
    return buffer.getvalue()


def commented(body: bytes, comment: bytes) -> bytes:
    """The same zip with a comment at its end."""
    buffer = io.BytesIO(body)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = comment
    return buffer.getvalue()


def zip64(entries: int) -> bytes:
    """A directory that says how large it is in 64 bits, whatever is in it."""
    body = zipped(*(f"cat/{index}.png" for index in range(entries)))
    at = body.rindex(b"PK\x05\x06")
    size, start = struct.unpack_from("<LL", body, at + 12)
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, entries, entries, size, start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, at, 1)
    return (
        body[:at]
        + record
        + locator
        + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, *2 * [0xFFFFFFFF], 0)
    )


def archived(members: dict[str, bytes], kind: str = "tar") -> bytes:
    """A tar or zip of these files, by their names."""
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def problem(response: httpx.Response, status: int, field: str, allowed: str) -> None:
    """Check that an answer is a problem document that names a field and what is allowed of it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["status"] == status
    assert {"type", "title", "detail"} <= document.keys()
    assert field in document["detail"]
    assert allowed in document["detail"]
    assert any(field in error["field"] and allowed in error["allowed"] for error in document["errors"])


def cancel_queued(queue: WorkQueue) -> None:
    """Leave no task that waits."""
    for task in queue.newest():
        if task.state == TaskState.QUEUED:
            queue.remove(task.id)
