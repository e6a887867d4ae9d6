"""/v2: the Open Inference Protocol, for clients written for KServe, Triton or MLServer.

One model; its versions are those of /versions, of which one answers at a time. A request's budget goes into its
parameters under the names of POST /classify.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import re
from collections.abc import Sequence
from time import perf_counter
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Path, Request, Response
from numpy.typing import NDArray

from service.answering.answers import Clock, Wanted, predictions
from service.answering.inference_parameters import query_of
from service.answering.inference_tensors import DATATYPES, IMAGE, Images, InferRequest, Rows, parse, serialise
from service.answering.scoring import INLINE_BYTES, bucket_for, decode_all, known_labels, observe, score
from service.api.examples import CLASSIFICATION, answered
from service.engine.snapshot import NEVER_CANARY
from service.engine.tickets import Ticket
from service.http.middleware import BEGAN
from service.http.problems import Problem, documented, refused, shorten
from service.http.receive import BINARY, read_body
from service.services import Services, TheServices, get_services

router = APIRouter(prefix="/v2", tags=["open inference protocol"], responses=documented(404, 422, 503))

HEADER_LENGTH = "Inference-Header-Content-Length"
SERVER = {
    "name": "hippotune",
    "version": importlib.metadata.version("hippotune"),
    "extensions": ["binary_tensor_data"],
}
INPUTS = [{"name": IMAGE, "datatype": "BYTES", "shape": [-1]}]
OUTPUTS = [{"name": name, "datatype": datatype, "shape": [-1, -1]} for name, datatype in DATATYPES.items()]
TENSORS = {
    "model_name": "hippotune",
    "model_version": "4",
    "outputs": [
        {"name": "labels", "datatype": "BYTES", "shape": [1, 2], "data": ["rose", "tulip"]},
        {"name": "scores", "datatype": "FP32", "shape": [1, 2], "data": [0.97, 0.03]},
        {"name": "familiarity", "datatype": "FP32", "shape": [1, 1], "data": [0.42]},
        {"name": "steps", "datatype": "INT64", "shape": [1, 7], "data": [2] * 7},
        {"name": "ids", "datatype": "BYTES", "shape": [1, 1], "data": [CLASSIFICATION.id]},
    ],
}
BLACK_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
"""A PNG file in base64."""


@router.get(
    "/health/live", summary="Is the process worth keeping?", responses=answered("It is.", {"live": True})
)
async def server_live(services: TheServices) -> dict[str, bool]:
    services.require_alive()
    return {"live": True}


@router.get(
    "/health/ready", summary="May requests be sent here?", responses=answered("They may.", {"ready": True})
)
async def server_ready(services: TheServices) -> dict[str, bool]:
    services.require_ready()
    return {"ready": True}


@router.get("", summary="This server", responses=answered("Name, version, extensions.", SERVER))
async def server_metadata() -> dict[str, Any]:
    return SERVER


async def named(
    model: Annotated[str, Path(description="`hippotune`, or what `--model-name` calls it.")],
    services: TheServices,
) -> None:
    """Raises Problem for a model of another name."""
    if model != services.config.model_name:
        raise Problem(404, f"no model {shorten(model)!r}; this server serves {services.config.model_name!r}")


async def served(
    version: Annotated[str, Path(description="Number of the version that is served.")],
    services: TheServices,
) -> int:
    """The version a path asks for. Raises Problem for one that is not served."""
    snapshot = services.served.snapshot
    if snapshot is None or version != str(snapshot.version):
        serving = "none yet" if snapshot is None else f"version {snapshot.version}"
        raise Problem(
            404, f"version {shorten(version)!r} is not served here, but {serving}; activate it first"
        )
    return snapshot.version


MODEL = [Depends(named)]
VERSION = [Depends(named), Depends(served)]
READY = answered("It does.", {"name": "hippotune", "ready": True})
METADATA = answered(
    "The tensors.",
    {
        "name": "hippotune",
        "versions": ["4"],
        "platform": "hippotune onnx cpu float32",
        "inputs": INPUTS,
        "outputs": OUTPUTS,
    },
)


@router.get(
    "/models/{model}/versions/{version}/ready",
    name="version_ready",
    dependencies=VERSION,
    summary="Does this version answer?",
    responses=READY,
)
@router.get("/models/{model}/ready", dependencies=MODEL, summary="Does the model answer?", responses=READY)
async def model_ready(services: TheServices) -> dict[str, Any]:
    """503 while nothing was learned: there is no label to answer with."""
    services.require_ready()
    services.able_snapshot(untaught=503)
    return {"name": services.config.model_name, "ready": True}


@router.get(
    "/models/{model}/versions/{version}",
    name="version_metadata",
    dependencies=VERSION,
    summary="What goes in and out of this version",
    responses=METADATA,
)
@router.get("/models/{model}", dependencies=MODEL, summary="What goes in and out", responses=METADATA)
async def model_metadata(services: TheServices) -> dict[str, Any]:
    snapshot = services.served.snapshot
    return {
        "name": services.config.model_name,
        "versions": [] if snapshot is None else [str(snapshot.version)],
        "platform": f"hippotune {services.runtime_name}",
        "inputs": INPUTS,
        "outputs": OUTPUTS,
    }


INFER: dict[str, Any] = {
    "responses": {
        **documented(400, 408, 409, 413, 415, 429, 504),
        200: {
            "description": "Tensors, as JSON or, where the request asks for it, with their bytes behind it.",
            "content": {
                "application/json": {"schema": {"type": "object"}, "example": TENSORS},
                "application/octet-stream": BINARY,
            },
        },
    },
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": f"#/components/schemas/{InferRequest.__name__}"},
                    "example": {
                        "inputs": [{"name": IMAGE, "shape": [1], "datatype": "BYTES", "data": [BLACK_PIXEL]}],
                        "parameters": {"tmax": 2},
                    },
                },
                "application/octet-stream": BINARY,
            },
        }
    },
}


@router.post("/models/{model}/infer", dependencies=MODEL, summary="Classify", **INFER)
async def infer(request: Request) -> Response:
    """Images as one BYTES tensor `image`: binary data, or base64 in JSON; or one image as the whole body.

    Who has pixels already sends UINT8 [n, 3, px, px] instead, RGB, px being the backbone's: nothing is decoded then.

    Out come `labels` [B, n] and `scores` [B, n], best first, `familiarity` [B, 1], `steps` [B, layers] and `ids`
    [B, 1] for POST /feedback.
    """
    return await infer_by(None, request, await get_services(request))


@router.post(
    "/models/{model}/versions/{version}/infer",
    dependencies=MODEL,
    summary="Classify by this version",
    **INFER,
)
async def infer_by_version(
    asked: Annotated[int, Depends(served)], request: Request, services: TheServices
) -> Response:
    """The same, by the version that is served or not at all; never by a canary."""
    return await infer_by(asked, request, services)


async def infer_by(asked: int | None, request: Request, services: Services) -> Response:
    """asked: the version a path names. Raises Problem, 409 where another one answered."""
    clock = Clock(request.scope[BEGAN])
    services.engine.require_room()
    if request.query_params:  # a budget there would silently be ignored
        name, value = next(iter(request.query_params.items()))
        raise refused(name, value, "stand among the `parameters` of the body")
    config = services.config
    with services.bodies.hold() as hold:
        body = await read_body(request, config.max_body_bytes, config.read_timeout_s, hold)
        header, images = await parsed(services, body, header_length(request))
        query, wanted = query_of(header.parameters), header.wanted()
        snapshot = services.able_snapshot(untaught=409)
        snapshot.check(query.asked)
        shown = Wanted(known_labels(query.labels, snapshot), query.top, explain=False)
        clock.read = perf_counter() - clock.began
        bucket = bucket_for(services, images, shown.labels) if asked is None else NEVER_CANARY
        with services.engine.admit(len(images)):
            decoding = pixels_of(services, images)
            ticket = await score(request, services, decoding, bucket, snapshot, query, clock)
    if asked not in (None, ticket.snapshot.version):
        raise Problem(409, f"version {asked} was replaced by {ticket.snapshot.version} meanwhile")
    answer = {"model_name": config.model_name, "model_version": str(ticket.snapshot.version)}
    if header.id is not None:
        answer["id"] = header.id
    content, json_bytes = serialise(answer, tensors(services, ticket, shown), wanted)
    observe(services, ticket, clock)
    if json_bytes is None:
        return Response(content, media_type="application/json")
    return Response(content, headers={HEADER_LENGTH: str(json_bytes)}, media_type="application/octet-stream")


async def parsed(services: Services, body: bytes, header_bytes: int | None) -> tuple[InferRequest, Images]:
    """What `parse` makes of a request. Raises Problem."""
    arguments = body, header_bytes, services.config.max_classify_files, services.px
    if (len(body) if header_bytes is None else header_bytes) <= INLINE_BYTES:
        return parse(*arguments)
    # Where images are decoded: no more at once than there are threads, for each number takes many times its digits.
    async with services.lifecycle.hurried():
        return await asyncio.get_running_loop().run_in_executor(services.decoders, parse, *arguments)


async def pixels_of(services: Services, images: Images) -> Sequence[NDArray[np.uint8]]:
    """[3, px, px] of each image, decoded where that is needed. Raises Problem."""
    if isinstance(images, np.ndarray):
        return list(images)
    return await decode_all(services, [(f"{IMAGE}[{number}]", image) for number, image in enumerate(images)])


def header_length(request: Request) -> int | None:
    """Raises Problem 400 for what is no length."""
    told = request.headers.get(HEADER_LENGTH)
    if told is not None and not re.fullmatch("[0-9]{1,18}", told):
        raise Problem(400, f"{HEADER_LENGTH} is {told[:20]!r}; it must be the length of the JSON in bytes")
    return None if told is None else int(told)


def tensors(services: Services, ticket: Ticket, shown: Wanted) -> dict[str, Rows]:
    """The outputs, a row an image."""
    snapshot, memory = ticket.snapshot, services.memory.own
    best = [predictions(snapshot, scored.output.scores[scored.row], shown) for scored in ticket.scored]
    return {
        "labels": [[prediction["label"] for prediction in row] for row in best],
        "scores": np.array([[prediction["score"] for prediction in row] for row in best], dtype=np.float32),
        "familiarity": np.array([[scored.output.familiarity[scored.row]] for scored in ticket.scored]),
        "steps": np.stack([scored.output.steps[scored.row] for scored in ticket.scored]),
        "ids": [
            [memory.keep(scored.output.features[scored.row], snapshot.space, snapshot.version)]
            for scored in ticket.scored
        ],
    }
