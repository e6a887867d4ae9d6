"""What operators ask: alive, ready, how much."""

from __future__ import annotations

from anyio import to_thread
from fastapi import APIRouter
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0
from pydantic import BaseModel, Field
from starlette.responses import Response

from exchange.errors import ExchangeError
from service.api import examples
from service.api.records import MOST_TASKS
from service.http.problems import documented
from service.services import Services, TheServices

router = APIRouter(tags=["operations"])


class Alive(BaseModel):
    """An answer at all says so; the other is 503."""

    alive: bool = Field(description="Always true.")


class Ready(BaseModel):
    """Warm and able to answer; otherwise the answer is 503."""

    ready: bool = Field(description="Always true.")
    version: int | None = Field(description="What answers; null before anything was learned.")


@router.get(
    "/healthz",
    summary="Is the process worth keeping?",
    responses={**examples.answered("It is.", {"alive": True}), **documented(503)},
)
async def healthz(services: TheServices) -> Alive:
    services.require_alive()
    return Alive(alive=True)


@router.get(
    "/readyz",
    summary="May requests be sent here?",
    responses={**examples.answered("They may.", {"ready": True, "version": 4}), **documented(503)},
)
async def readyz(services: TheServices) -> Ready:
    services.require_ready()
    return Ready(ready=True, version=services.serving_version)


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses=examples.answered("In Prometheus' text format.", examples.METRICS, media="text/plain"),
)
async def metrics(services: TheServices) -> Response:
    return Response(await to_thread.run_sync(scrape, services), media_type=CONTENT_TYPE_PLAIN_1_0_0)


def scrape(services: Services) -> bytes:
    """The metrics of this process and, while Redis can be reached, of the task queue."""
    try:
        queue = services.queue_view
        services.metrics.tasks(queue.newest(MOST_TASKS), queue.lag(), queue.has_trainer())
    except ExchangeError:
        services.metrics.tasks_unknown()
    return generate_latest(services.metrics.registry)
