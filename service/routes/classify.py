"""POST /classify."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from service.answering.answers import Classification, Classifications, Clock, Wanted, classification
from service.answering.classify_query import ClassifyQuery
from service.answering.scoring import bucket_for, decode_all, known_labels, observe, score
from service.api import examples
from service.engine.tickets import Ticket
from service.http.forms import file_parts, form_of_files, read_form
from service.http.middleware import BEGAN
from service.http.problems import documented, refused
from service.http.query import parameters
from service.http.receive import BINARY, Hold, media_type, read_body
from service.services import Services, get_services
from service.uploads.decode import MEDIA_TYPES
from service.uploads.inspection import field_of

router = APIRouter(tags=["classify"])

UNSPECIFIC = (
    "",
    "image/*",
    "image/jpg",  # there is none of this name, and many send it
    "application/octet-stream",
    "binary/octet-stream",  # what S3 calls a file that it was told nothing of
    "application/x-www-form-urlencoded",  # what curl sends unless told otherwise
)
"""Media types that say nothing of the body, so that its first bytes decide."""

BODY = {
    "requestBody": {
        "required": True,
        "description": "One image as the raw body (the fast path), or one or many as multipart `files`.",
        "content": {**dict.fromkeys(MEDIA_TYPES, BINARY), **form_of_files()},
    }
}


@router.post(
    "/classify",
    summary="Classify images",
    response_model=Classification | Classifications,
    responses={
        **examples.answered(
            "One file: its answer. Many: `results`, in their order.", examples.CLASSIFICATION
        ),
        **documented(400, 408, 409, 413, 415, 422, 429, 503, 504),
    },
    openapi_extra={**BODY, "parameters": parameters(ClassifyQuery)},
)
async def classify(request: Request) -> Response:
    clock = Clock(request.scope[BEGAN])
    services = await get_services(request)
    services.engine.require_room()  # under overload refusing must be cheap: before the query, before the body
    query = ClassifyQuery.of(request)
    snapshot = services.able_snapshot(untaught=409)
    snapshot.check(query.asked)
    wanted = Wanted(known_labels(query.labels, snapshot), query.top, query.explain)
    with services.bodies.hold() as hold:
        images = await read_images(request, services, hold)
        clock.read = perf_counter() - clock.began
        with services.engine.admit(len(images)):
            decoding = decode_all(services, images)
            bucket = bucket_for(services, [data for _, data in images], wanted.labels)
            ticket = await score(request, services, decoding, bucket, snapshot, query, clock)
    return encode(services, ticket, wanted, clock)


async def read_images(request: Request, services: Services, hold: Hold) -> list[tuple[str, bytes]]:
    """The images of a request, each with what error messages call it. Raises Problem."""
    config = services.config
    kind = media_type(request)
    if kind in MEDIA_TYPES or kind in UNSPECIFIC:
        return [("body", await read_body(request, config.max_body_bytes, config.read_timeout_s, hold))]
    if kind != "multipart/form-data":
        instead = f"be {', '.join(MEDIA_TYPES)} or multipart/form-data"
        instead += "; images in JSON go to /v2" if kind == "application/json" else ""
        raise refused("Content-Type", kind, instead, 415)
    most, limit = config.max_classify_files, config.max_body_bytes
    # All in memory, where `hold` counts it: a disk, and a thread to write to it, would have to be waited for.
    async with read_form(request, limit, config.read_timeout_s, most, hold, in_memory=limit) as form:
        files = file_parts(form)
        if not files:
            raise refused("files", 0, f"come 1 to {most} times")
        return [(field_of(index, file.filename or ""), await file.read()) for index, file in enumerate(files)]


def encode(services: Services, ticket: Ticket, wanted: Wanted, clock: Clock) -> Response:
    """The answer's bytes."""
    timings = clock.timings_ms(perf_counter())
    snapshot, memory = ticket.snapshot, services.memory.own
    results: list[dict[str, Any]] = []
    for scored in ticket.scored:
        id_ = memory.keep(scored.output.features[scored.row], snapshot.space, snapshot.version)
        results.append(classification(snapshot, scored, wanted, timings, id_))
    body = orjson.dumps(results[0] if len(results) == 1 else {"results": results})
    observe(services, ticket, clock)
    return Response(body, media_type="application/json")
