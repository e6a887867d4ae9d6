"""GET /tasks/{id}/events: a task followed to its end, as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from time import monotonic
from typing import Annotated

import anyio
import orjson
from anyio import to_thread
from fastapi import APIRouter, Depends, Header
from fastapi.responses import Response, StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from exchange.errors import ExchangeError
from exchange.records import TaskRecord
from service.api import examples
from service.http.problems import documented
from service.services import ExistingTask, Services, TheServices, place

router = APIRouter(prefix="/tasks", tags=["tasks"])

POLL_S = 0.25
SILENCE_S = 15.0
"""Proxies close what is silent for longer than a minute or so."""


async def stream_place(services: TheServices) -> AsyncIterator[None]:
    """Hold one of the places for event streams while the response lasts. Raises Problem 429."""
    with place(services.streams, f"{services.config.max_event_streams} event streams are open already"):
        yield


@router.get(
    "/{id}/events",
    summary="Follow a task",
    response_class=StreamingResponse,
    responses={
        **examples.answered("The task after each change.", examples.EVENT, media="text/event-stream"),
        204: {"description": "It has ended, and nothing came after `Last-Event-ID`: do not connect again."},
        **documented(404, 422, 429, 503),
    },
    dependencies=[Depends(stream_place)],
)
async def follow_task(
    task: ExistingTask,
    services: TheServices,
    last_event_id: Annotated[
        str | None, Header(pattern="^[0-9]{1,19}(-[0-9]{1,19})?$", description="Go on after this event.")
    ] = None,
) -> Response:
    """The task after each change, as server-sent events named `task`. Ends when the task has.

    Events are kept for a day after the last one. Then one with the task as it is takes their place.
    """
    after = last_event_id or "0"
    # A buffering proxy, nginx among them, would hold events back.
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    if task.state.ended and not await to_thread.run_sync(services.queue_view.events, task.id, after):
        # An EventSource would connect again after any other end.
        return Response(status_code=204, headers=headers)
    return StreamingResponse(changes(task, services, after), media_type="text/event-stream", headers=headers)


async def changes(task: TaskRecord, services: Services, after: str) -> AsyncIterator[bytes]:
    """A task's events after one of them, and a comment in between where it stays silent for long.

    Encoded here, as the framework's own way to do so fails loudly when a reader leaves in the midst of an event.
    """
    told = monotonic()
    while not services.lifecycle.draining:
        silent = monotonic() - told > SILENCE_S
        try:
            if silent:  # `after` may be past all that comes
                task = await to_thread.run_sync(services.queue_view.get, task.id)
            found = await to_thread.run_sync(services.queue_view.events, task.id, after)
        except ExchangeError:
            return  # whoever still listens connects again, with Last-Event-ID
        for event in found:
            task, after, told = event.task, event.id, monotonic()
            yield format_sse_event(id=event.id, event="task", data_str=orjson.dumps(event.task).decode())
        if task.state.ended:
            return
        if not found:
            if silent:
                told = monotonic()
                yield KEEPALIVE_COMMENT
            await anyio.sleep(POLL_S)
