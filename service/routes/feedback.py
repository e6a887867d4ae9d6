"""POST /feedback: say what an answered image really was."""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from exchange.errors import IdempotencyMismatch, VersionError
from exchange.records import Sample, TaskRecord
from service.api import examples
from service.api.records import TaskView, located
from service.http.problems import Problem, documented, refused
from service.http.query import only
from service.http.receive import json_body, read_json
from service.services import Services, TheServices
from service.uploads.text import MAX_LABEL, SCHEMA, check_text

router = APIRouter(tags=["tasks"])

FULL = (
    "name an answer with the default budget, computed in float32, since the head learns from no other: classify again "
    "without tmax, epsilon, topk, keep and budget_ms (with explain=true if the server runs onnx-int8 or torch-bf16), "
    "and correct that answer"
)
ID = "^[0-9a-f]{8}-[0-9a-f]{24}$"


class Feedback(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, Field(description="Of the answer.", json_schema_extra={"pattern": ID})]
    label: Annotated[
        str,
        Field(
            description=f"What the image shows, a known label or a new one, of 1 to {MAX_LABEL} characters.",
            json_schema_extra=SCHEMA,
        ),
    ]


@router.post(
    "/feedback",
    status_code=202,
    summary="Correct an answer",
    responses={
        **examples.answered(
            "Safe, and learned within moments.", examples.CORRECTION, 202, headers=examples.LOCATION
        ),
        **documented(404, 408, 409, 413, 415, 422, 429, 503),
    },
    openapi_extra=json_body(Feedback),
    dependencies=[Depends(only())],
)
async def feedback(request: Request, response: Response, services: TheServices) -> TaskView:
    """Teaches the head the label of an image that was answered lately, without the image.

    It counts as much as that image would in a task. So the answer must have been computed in float32 (by the runtimes
    onnx-int8 and torch-bf16, only with `explain=true`) and with `tmax`, `epsilon`, `topk` and `keep` at their defaults;
    others are refused. The same feedback again gives the same task. A label whose class was renamed or forgotten since
    the answer is refused with 409.
    """
    services.require_open()
    given = await read_json(request, Feedback, services.config.read_timeout_s)
    if not re.fullmatch(ID, given.id):
        raise refused("id", given.id, f"be the `id` of an answer, such as {examples.CLASSIFICATION.id}")
    task = await to_thread.run_sync(
        teach, services, given.id, check_text("label", given.label), limiter=services.patient
    )
    return located(task, response)


def teach(services: Services, id_: str, label: str) -> TaskRecord:
    """Queue a correction; durable when this returns. Raises Problem and ExchangeError."""
    remembered = services.memory.find(id_)
    if remembered is None:
        config = services.config
        raise Problem(
            404,
            f"no answer {id_!r} is remembered: each server keeps its newest {config.feedback_answers} answers for "
            f"{config.feedback_ttl_s:.0f} s and until it stops; hand the image in with POST /tasks instead",
        )
    if not remembered.teaches:
        raise refused("id", id_, FULL)
    key, digest = f"feedback {id_}", hashlib.sha256(label.encode()).hexdigest()
    require_label_of_today(services, remembered.version, label, key)
    services.queue.require_room(key)  # before anything is stored
    blob = services.blobs.put(remembered.features.astype("<f4").tobytes())
    sample = Sample(blob, label, remembered.space)
    try:
        return services.queue.submit(f"feedback: {label}", [sample], key, digest).task
    except IdempotencyMismatch:
        raise Problem(409, f"answer {id_!r} was given another label before") from None


def require_label_of_today(services: Services, version: int, label: str, key: str) -> None:
    """Raise Problem 409 for a label that the version which answered knew, and the one served does not.

    Its class was renamed or forgotten meanwhile, and a correction would bring it back. Where that cannot be told, and
    for a correction that was made before, nothing is raised.
    """
    with suppress(VersionError):
        today = services.current_manifest()
        if today is None or label in today.labels or version >= today.version:
            return
        if services.queue.made_with(key):
            return
        if label in services.manifest(version).labels:
            raise Problem(
                409,
                f"{label!r} is no label of version {today.version}, which is served now: since version {version} "
                "answered, its class was renamed or forgotten; name a label of today, or teach it anew by POST /tasks",
            )
