"""Whatever parses what a client sent, as functions of bytes that may raise a refusal and nothing else."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import Request
from PIL import Image
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.types import Message

from service.answering.classify_query import ClassifyQuery
from service.answering.inference_parameters import query_of
from service.answering.inference_tensors import parse as parse_tensors
from service.config import ServiceConfig
from service.http.api_keys import parse
from service.http.forms import file_parts, read_form
from service.http.guard import presented
from service.http.lifecycle import Lifecycle
from service.http.problems import Problem, invalid, written
from service.http.receive import spool_body
from service.routes.feedback import Feedback
from service.uploads.archive import unpack
from service.uploads.decode import decode
from service.uploads.inspection import inspected
from service.uploads.text import check_text

PX = 32
CONFIG = ServiceConfig(
    "redis://127.0.0.1:1",
    Path("unused"),
    max_pixels=1_000_000,
    max_image_bytes=1 << 20,
    max_task_images=50,
    max_unpacked_bytes=4 << 20,
)
FORM = "multipart/form-data; boundary=b"


@dataclass(frozen=True, slots=True)
class Target:
    """run: raises a refusal or nothing.  seeds: inputs it takes.  share: of all inputs of a run."""

    run: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    share: float


def attempt(target: Target, data: bytes) -> None:
    """Raises what should never be raised, also by writing a refusal out."""
    try:
        target.run(data)
    except Problem as problem:
        written(problem)
    except ValidationError as error:
        written(invalid(error))
    except ClientDisconnect:
        pass


def targets() -> dict[str, Target]:
    """By name; the shares add up to a little more than one."""
    images = tuple(image(kind, size) for kind in ("JPEG", "PNG", "WEBP") for size in (1, 24))
    loop = asyncio.new_event_loop()

    def form(data: bytes) -> None:
        loop.run_until_complete(read_files(data))

    def spooled(data: bytes) -> None:
        loop.run_until_complete(read_spooled(data))

    return {
        "image": Target(lambda data: decode(data, PX, CONFIG.max_pixels), images, 0.3),
        "zip": Target(lambda data: archive(data, "application/zip"), (zipped(images, 0), zipped(images, 8)), 0.15),
        "tar": Target(lambda data: archive(data, "application/x-tar"), (tarred(images),), 0.15),
        "form": Target(form, (multipart(images),), 0.1),
        "body": Target(spooled, images[:1], 0.05),
        "query": Target(query, (b"tmax=2&epsilon=0.5&topk=3&labels=a,b&labels=c&top=5&explain=true",), 0.1),
        "infer": Target(infer, infer_seeds(images), 0.05),
        "feedback": Target(
            lambda data: Feedback.model_validate_json(data),
            (b'{"id": "00000000-000000000000000000000000", "label": "cat"}',),
            0.05,
        ),
        "label": Target(lambda data: check_text("label", data.decode("utf-8", "surrogateescape")), (b"cat",), 0.05),
        "keys": Target(keys, (b"submit:ci:" + b"0" * 64,), 0.05),
    }  # fmt: skip


def image(kind: str, side: int) -> bytes:
    pixels = np.random.default_rng(side).integers(0, 255, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def zipped(images: tuple[bytes, ...], method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for index, data in enumerate(images):
            file.writestr(f"cat/{index}.png", data)
    return buffer.getvalue()


def tarred(images: tuple[bytes, ...]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for index, data in enumerate(images):
            info = tarfile.TarInfo(f"cat/{index}.png")
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def multipart(images: tuple[bytes, ...]) -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n%b\r\n'
    label = b'--b\r\nContent-Disposition: form-data; name="labels"\r\n\r\ncat\r\n'
    return b"".join(head % data + label for data in images) + b"--b--\r\n"


def infer_seeds(images: tuple[bytes, ...]) -> tuple[bytes, bytes, bytes]:
    """Requests of the Open Inference Protocol: files in JSON, pixels in JSON, and files behind the header."""
    tensor: dict[str, Any] = {"name": "image", "shape": [len(images)], "datatype": "BYTES"}
    binary = b"".join(len(data).to_bytes(4, "little") + data for data in images)
    plain = tensor | {"data": [base64.b64encode(data).decode() for data in images]}
    behind = tensor | {"parameters": {"binary_data_size": len(binary)}}
    header = json.dumps(
        {"inputs": [behind], "outputs": [{"name": "labels"}], "parameters": {"tmax": 2}}
    ).encode()
    pixels = {"name": "image", "shape": [1, 3, 2, 2], "datatype": "UINT8", "data": list(range(12))}
    return (
        b"\xff\xff" + json.dumps({"inputs": [plain]}).encode(),
        b"\xff\xff" + json.dumps({"inputs": [pixels]}).encode(),
        len(header).to_bytes(2, "big") + header + binary,
    )


def infer(data: bytes) -> None:
    """The first two bytes are the announced length of the header; none is announced where both are 255."""
    length = int.from_bytes(data[:2])
    header, _ = parse_tensors(data[2:], None if length == 0xFFFF else length, 16, 2)
    header.wanted()
    query_of(header.parameters)


def archive(data: bytes, media_type: str) -> None:
    """As POST /tasks does: every member is read and decoded."""
    with ThreadPoolExecutor(1) as decoders:
        inspected(unpack(io.BytesIO(data), len(data), media_type, CONFIG), PX, CONFIG, Lifecycle(), decoders)


def request(data: bytes, headers: list[tuple[bytes, bytes]], query_string: bytes = b"") -> Request:
    """A request with a body that comes in two pieces."""
    messages: list[Message] = [
        {"type": "http.request", "body": data[: len(data) // 2], "more_body": True},
        {"type": "http.request", "body": data[len(data) // 2 :], "more_body": False},
    ]

    async def receive() -> Message:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    app = Starlette()
    app.state.lifecycle = Lifecycle()
    scope = {"type": "http", "app": app, "method": "POST", "path": "/", "query_string": query_string}
    return Request({**scope, "headers": headers}, receive)


async def read_files(data: bytes) -> None:
    sent = request(data, [(b"content-type", FORM.encode())])
    async with read_form(sent, CONFIG.max_body_bytes, 5.0, 64) as form:
        for file in file_parts(form, ("labels",)):
            await file.read()


async def read_spooled(data: bytes) -> None:
    """The announced length is part of the input, right or wrong."""
    sent = request(data, [(b"content-length", data[:20])])
    async with spool_body(sent, 1024, 5.0) as file:
        await file.read()


def query(data: bytes) -> None:
    """As a query string, and as headers that bring a key."""
    presented({"headers": [(b"authorization", data), (b"x-api-key", data)]})
    ClassifyQuery.of(request(b"", [], data))


def keys(data: bytes) -> None:
    try:
        parse(data.decode("utf-8", "replace"), "file")
    except ValueError as error:
        raise Problem(422, str(error)) from None
