"""/labels: the classes that are known, and orders to rename or forget one."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Iterable
from typing import Annotated

import orjson
from anyio import to_thread
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from exchange.errors import VersionError
from exchange.manifests import Manifest
from exchange.records import LabelChange, TaskRecord
from exchange.repeats import order_digest, require_same
from service.api import examples
from service.api.records import LabelList, TaskView, located
from service.http.etags import answer_named, etag_of
from service.http.headers import IdempotencyKey, KnownAnswer
from service.http.problems import Problem, documented, refused
from service.http.query import only
from service.http.receive import json_body, read_json
from service.services import Services, TheServices
from service.uploads.text import MAX_LABEL, SCHEMA, check_text

router = APIRouter(prefix="/labels", tags=["labels"])

MOST_LABELS = 10_000
"""Listed at once."""


class Rename(BaseModel):
    model_config = ConfigDict(extra="forbid")

    label: Annotated[
        str,
        Field(
            description=f"What the class is to be called, 1 to {MAX_LABEL} characters; a known label merges the two.",
            json_schema_extra=SCHEMA,
        ),
    ]


Label = Annotated[
    str, Path(description="As `GET /labels` lists it, percent-encoded; it may contain slashes.")
]
Limit = Annotated[int, Query(ge=1, le=MOST_LABELS, description="Most labels in the answer.")]
Version = Annotated[
    int | None, Query(ge=1, le=2**53, description="Those of this version; of the one served unless given.")
]


@router.get(
    "",
    summary="Labels, sorted",
    response_model=LabelList,
    responses={
        **examples.answered("What the version served knows.", examples.LABELS, headers=examples.ETAG),
        304: {"description": "It is what `If-None-Match` names."},
        **documented(404, 409, 422, 503),
    },
    dependencies=[Depends(only("contains", "limit", "after", "version"))],
)
async def list_labels(
    request: Request,
    services: TheServices,
    contains: Annotated[
        str, Query(description="Only labels with this in them, in upper or lower case.")
    ] = "",
    limit: Limit = 100,
    after: Annotated[str, Query(description="Only labels that come after this one.")] = "",
    version: Version = None,
    if_none_match: KnownAnswer = None,
) -> Response:
    """How many images taught each, and which tasks.

    To read on, name the last label that was listed as `after`. They are sorted by the code points of their characters.
    """

    def answer() -> Response:
        manifest = listed(services, version)
        known = None if manifest is None else (manifest.version, manifest.created_at)
        etag = etag_of(request.app.version, known, contains, limit, after)
        return answer_named(etag, if_none_match, lambda: orjson.dumps(page(manifest, contains, limit, after)))

    return await to_thread.run_sync(answer)


@router.patch(
    "/{label:path}",
    status_code=202,
    summary="Rename a class, or merge it with another",
    responses={
        **examples.answered(
            "The order is safe, and carried out in its turn.",
            examples.RENAMING,
            202,
            headers=examples.LOCATION,
        ),
        **documented(404, 408, 409, 413, 415, 422, 429, 503),
    },
    openapi_extra=json_body(Rename),
    dependencies=[Depends(only())],
)
async def rename_label(
    label: Label,
    request: Request,
    response: Response,
    services: TheServices,
    idempotency_key: IdempotencyKey = None,
) -> TaskView:
    """Orders that a class be called otherwise; where a class is called that already, the two become one.

    Nothing is trained, and a new name changes no score. The order is a task, to be followed and, while it is queued,
    cancelled like one. Tasks that were sent before it are learned first. One that is sent after it and names the old
    label teaches a new class of that name.
    """
    services.require_open()
    given = await read_json(request, Rename, services.config.read_timeout_s)
    old, new = check_text("label", label), check_text("label", given.label)
    if new == old:
        raise refused("label", given.label, "be another than the class has")
    return await ordered(services, LabelChange(old, new), idempotency_key, response)


@router.delete(
    "/{label:path}",
    status_code=202,
    summary="Forget a class",
    responses={
        **examples.answered(
            "The order is safe, and carried out in its turn.",
            examples.DROPPING,
            202,
            headers=examples.LOCATION,
        ),
        **documented(404, 409, 422, 429, 503),
    },
    dependencies=[Depends(only())],
)
async def forget_label(
    label: Label, response: Response, services: TheServices, idempotency_key: IdempotencyKey = None
) -> TaskView:
    """Orders that a class be forgotten: what is known of its images goes, and other classes stay as they are.

    The order is a task, to be followed and, while it is queued, cancelled like one. Tasks that were sent before it are
    learned first. One that is sent after it may teach the class anew, from the same images, too.
    """
    services.require_open()
    return await ordered(services, LabelChange(check_text("label", label), None), idempotency_key, response)


async def ordered(services: Services, change: LabelChange, key: str | None, response: Response) -> TaskView:
    task = await to_thread.run_sync(order, services, change, key, limiter=services.patient)
    return located(task, response)


def order(services: Services, change: LabelChange, key: str | None) -> TaskRecord:
    """Queue an order; durable when this returns. Raises Problem 404 and ExchangeError, and has queued nothing then.

    One that was given before with the same key is found, whatever became of the class since.
    """
    if key is not None and (made := services.queue.made_with(key)) is not None:
        require_same(made, order_digest(change))
        return made.task
    try:
        manifest = services.current_manifest()
    except VersionError as error:
        raise Problem(503, f"what the version served knows cannot be told: {error}") from error
    if manifest is None or change.label not in manifest.labels:
        raise refused("label", change.label, "be one that GET /labels lists", 404)
    return services.queue.order(change, key).task


def listed(services: Services, version: int | None) -> Manifest | None:
    """The version whose labels are asked for; None before the first. Raises VersionError."""
    number = services.registry_view.current() if version is None else version
    return None if number is None else services.manifest(number)


def page(manifest: Manifest | None, contains: str, limit: int, after: str) -> dict[str, object]:
    """A `LabelList`. Of so many labels pydantic would make a copy each."""
    if manifest is None:
        return {"version": None, "count": 0, "labels": []}
    part = folded(contains)
    known = {label: place for place, label in enumerate(manifest.labels) if part in folded(label)}
    every = sorted(known)
    start = bisect_right(every, after) if after else 0
    shown = every[start : start + limit]
    taught = tasks_of(manifest, [known[label] for label in shown])
    images = manifest.images
    return {
        "version": manifest.version,
        "count": len(every),
        "labels": [
            {
                "label": label,
                "images": None if images is None else images[known[label]],
                "tasks": None if taught is None else taught[known[label]],
            }
            for label in shown
        ],
    }


def tasks_of(manifest: Manifest, places: Iterable[int]) -> dict[int, list[str]] | None:
    """Ids of the tasks that taught some of the labels, by the places of these; None where that was not noted."""
    if manifest.taught is None:
        return None
    tasks: dict[int, list[str]] = {place: [] for place in places}
    for task, own in manifest.taught.items():
        for place in own:
            if place in tasks:
                tasks[place].append(task)
    return tasks


def folded(text: str) -> str:
    """Text as it is compared where neither case nor the way to write a letter matters."""
    return unicodedata.normalize("NFC", text).casefold()
