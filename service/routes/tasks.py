"""/tasks: hand in labelled images, follow what becomes of them, take them back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import contextmanager_in_threadpool
from starlette.datastructures import UploadFile

from exchange.errors import (
    BlobCorrupt,
    BlobMissing,
    IdempotencyInFlight,
    TaskNotFound,
    VersionError,
)
from exchange.manifests import Manifest
from exchange.records import TaskRecord, TaskState
from service.api import examples
from service.api.records import MOST_TASKS, TaskList, TaskView, located
from service.config import MIB
from service.http.forms import file_parts, form_of_files, read_form
from service.http.headers import IdempotencyKey
from service.http.problems import RETRY_AFTER_S, Problem, documented, refused
from service.http.query import only
from service.http.receive import BINARY, declared_bytes, media_type, spool_body
from service.services import ExistingTask, Services, TaskId, TheServices, place
from service.uploads.archive import TAR_TYPES, ZIP_TYPES, unpack
from service.uploads.images import MAX_LABELS_BYTES, Upload, pair
from service.uploads.inspection import MOST_LISTED
from service.uploads.submit import submit
from service.uploads.text import MAX_LABEL, SCHEMA, check_text

router = APIRouter(prefix="/tasks", tags=["tasks"])

LOOKED_THROUGH = 16 * MIB
"""Bytes of a task's images in a second, at a guess."""
ALLOWED = "multipart/form-data, application/zip or application/x-tar"
BODY = {
    "requestBody": {
        "required": True,
        "description": "Labelled images: `files` and as many `labels` in the same order, or one archive of "
        "`label/image.jpg`, the innermost folder being the label, or a WebDataset shard: `name.jpg` with its label "
        "in `name.cls` or `name.json`. "
        f"A label has 1 to {MAX_LABEL} printable characters; those of a task, each once, take at most "
        f"{MAX_LABELS_BYTES:,} bytes. A task is taken whole or not at all; `errors` lists all of its images that "
        f"cannot be learned, or the first {MOST_LISTED}.",
        "content": {
            **form_of_files(labels={"type": "array", "minItems": 1, "items": {"type": "string", **SCHEMA}}),
            "application/zip": BINARY,
            "application/x-tar": BINARY,
        },
    }
}


@router.post(
    "",
    status_code=202,
    summary="Learn labelled images",
    responses={
        **examples.answered(
            "Accepted: the task as it is now.", examples.QUEUED, 202, headers=examples.LOCATION
        ),
        **documented(400, 408, 409, 413, 415, 422, 429, 503),
    },
    openapi_extra=BODY,
    dependencies=[Depends(only("name"))],
)
async def create_task(
    request: Request,
    response: Response,
    services: TheServices,
    name: Annotated[str, Query(description="What people call the task; its labels if left out.")] = "",
    idempotency_key: IdempotencyKey = None,
) -> TaskView:
    """Accepted means durable: the images are on disk and the task is queued."""
    services.require_open()
    clean_name = check_text("name", name) if name else ""
    return located(await receive(request, services, clean_name, idempotency_key), response)


async def receive(request: Request, services: Services, name: str, key: str | None) -> TaskRecord:
    """Read, check and queue. Raises Problem and ExchangeError, and then nothing is queued."""
    config, kind = services.config, media_type(request)
    if kind not in ("multipart/form-data", *ZIP_TYPES, *TAR_TYPES):
        raise refused("Content-Type", kind, f"be {ALLOWED}", 415)
    with place(services.submissions, f"{config.max_submissions} tasks are being received already"):
        # Before the first byte is read: a client that tries again too early is refused at once, and need not send all.
        async with nullcontext() if key is None else alone(request, services, key):
            if kind == "multipart/form-data":
                return await receive_form(request, services, name, key)
            async with spool_body(request, config.max_task_bytes, config.read_timeout_s) as body:
                return await to_thread.run_sync(submit_archive, services, body, kind, name, key)


@asynccontextmanager
async def alone(request: Request, services: Services, key: str) -> AsyncIterator[None]:
    """Inside the block nobody else handles a request with this key.

    Raises Problem 409 while somebody does. It is the one conflict that ends by itself, mostly once as many bytes as
    come here were looked through, and says so.
    """
    try:
        async with contextmanager_in_threadpool(services.queue.handling(key)):
            yield
    except IdempotencyInFlight as error:
        expected = min(declared_bytes(request), services.config.max_task_bytes)
        seconds = RETRY_AFTER_S + expected // LOOKED_THROUGH
        raise Problem(409, str(error), headers={"Retry-After": str(seconds)}) from error


async def receive_form(request: Request, services: Services, name: str, key: str | None) -> TaskRecord:
    config = services.config
    most, patience = config.max_task_bytes, config.read_timeout_s
    with services.uploads.hold() as hold:
        async with read_form(request, most, patience, config.max_task_images, hold) as form:
            files = file_parts(form, ("labels",))
            labels = [str(label) for label in form.getlist("labels")]
            uploads = pair([(file.filename or "", partial(read_again, file)) for file in files], labels)
            return await to_thread.run_sync(submit, services, uploads, name, key)


def read_again(file: UploadFile) -> bytes:
    file.file.seek(0)
    return file.file.read()


def submit_archive(services: Services, body: UploadFile, kind: str, name: str, key: str | None) -> TaskRecord:
    uploads: Sequence[Upload] = unpack(body.file, body.size or 0, kind, services.config)
    return submit(services, uploads, name, key)


@router.get(
    "",
    summary="Tasks, newest first",
    responses={**examples.answered("The newest tasks.", examples.TASKS), **documented(422, 503)},
    dependencies=[Depends(only("limit", "state"))],
)
async def list_tasks(
    services: TheServices,
    limit: Annotated[int, Query(ge=1, le=MOST_TASKS, description="Most tasks in the answer.")] = 100,
    state: Annotated[
        TaskState | None, Query(description=f"Only tasks in this state, of the newest {MOST_TASKS}.")
    ] = None,
) -> TaskList:
    tasks = await to_thread.run_sync(services.queue_view.newest, limit if state is None else MOST_TASKS)
    chosen = [task for task in tasks if state in (None, task.state)]
    return TaskList(tasks=[TaskView.of(task) for task in chosen[:limit]])


@router.get(
    "/{id}",
    summary="One task",
    responses={
        **examples.answered("The task as it is now.", examples.CONSOLIDATED),
        **documented(404, 422, 503),
    },
)
async def get_task(task: ExistingTask) -> TaskView:
    return TaskView.of(task)


@router.delete(
    "/{id}",
    summary="Cancel or forget a task",
    responses={
        **examples.answered("Cancelled, or forgotten before.", examples.CANCELLED),
        **examples.answered("A trainer will forget it.", examples.FORGETTING, 202, model=TaskView),
        **documented(404, 409, 422, 503),
    },
)
async def remove_task(id: TaskId, services: TheServices, response: Response) -> TaskView:  # noqa: A002
    """Cancels a task that is queued or has failed; one that was learned is `forgetting` until a trainer has `forgotten`
    it.

    The same goes for a task that was forgotten earlier and is known again because an older version was activated, and
    for one that is known although its record is gone, because Redis was lost or it is too old. An order to rename or
    forget a class can be cancelled while it is queued; afterwards the answer is 409.
    """
    task = await to_thread.run_sync(withdraw, services, id, limiter=services.patient)
    return on_its_way(task, response)


def withdraw(services: Services, id_: str) -> TaskRecord:
    """Cancel or forget a task. Raises TaskNotFound, and Problem where it is not told what the version served knows.

    A task whose record is gone, since Redis was lost or the record was old, can be forgotten as long as it is known.
    """
    try:
        task = services.queue.remove(id_)
    except TaskNotFound:
        manifest = known_by(services, id_, "the task has no record")
        if manifest is None:
            raise
        services.queue.adopt(id_, manifest.created_at, manifest.version)
        return services.queue.remove(id_, again=True)
    if not task.state.ended or known_by(services, id_, f"the task is {task.state.value}") is None:
        return task
    return services.queue.remove(id_, again=True)


def known_by(services: Services, id_: str, told: str) -> Manifest | None:
    """The version served, if it knows a task. Raises Problem where that cannot be told; `told` is what can be."""
    try:
        manifest = services.current_manifest()
    except VersionError as error:
        raise Problem(
            503, f"{told}, but whether the version served knows it cannot be told: {error}"
        ) from error
    return manifest if manifest is not None and id_ in manifest.applied else None


@router.post(
    "/{id}/retry",
    status_code=202,
    summary="Queue a failed task again",
    responses={
        **examples.answered("In the queue again.", examples.QUEUED, 202, headers=examples.LOCATION),
        **documented(404, 409, 422, 429, 503),
    },
)
async def retry_task(id: TaskId, services: TheServices, response: Response) -> TaskView:  # noqa: A002
    """As if it were new. Its images are kept for as long as it is among the dead letters.

    An order to rename or forget a class is not tried again (409) but given anew.
    """
    try:
        task = await to_thread.run_sync(services.queue.retry, id, limiter=services.patient)
    except (BlobMissing, BlobCorrupt) as error:
        raise Problem(409, f"its images are not all there any more, submit it again: {error}") from error
    return on_its_way(task, response)


def on_its_way(task: TaskRecord, response: Response) -> TaskView:
    """202 and where to look for a task that will change, 200 for one that has ended."""
    response.status_code = 200 if task.state.ended else 202
    return located(task, response)
