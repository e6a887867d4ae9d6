"""Which problem an error becomes that was raised while a request was answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from exchange.errors import (
    BlobCorrupt,
    BlobMissing,
    BlobUnreadable,
    ExchangeError,
    ExchangeUnavailable,
    IdempotencyMismatch,
    NotCanary,
    NotRetryable,
    OrderGiven,
    PeerSilent,
    QueueFull,
    StoreUnavailable,
    TaskNotFound,
    VersionCorrupt,
    VersionNotFound,
    VersionUnreadable,
    told_of,
)
from service.http.problems import CLIENT_GONE, REFUSED, DiskProblem, Problem, answer, invalid, refused
from service.metrics import Metrics

EXCHANGE_STATUS: dict[type[ExchangeError], int] = {
    QueueFull: 429,
    IdempotencyMismatch: 422,
    TaskNotFound: 404,
    NotRetryable: 409,
    OrderGiven: 409,
    NotCanary: 409,
    VersionNotFound: 404,
    VersionCorrupt: 409,
    VersionUnreadable: 503,
    ExchangeUnavailable: 503,
    PeerSilent: 503,
    StoreUnavailable: 503,
    BlobMissing: 503,
    BlobCorrupt: 500,
    BlobUnreadable: 503,
}

OF_STORE = (StoreUnavailable, VersionUnreadable, BlobMissing, BlobCorrupt, BlobUnreadable)
"""What the store causes; nothing else tells of it."""


def install_handlers(app: FastAPI, metrics: Metrics) -> None:
    """Answer every error of `app` with a problem document and count the rejections."""

    def install(kind: type[Exception], problem_of: Callable[[Request, Any], Problem]) -> None:
        async def handle(request: Request, error: Exception) -> Response:
            return answer(metrics, problem_of(request, error), request.scope)

        app.add_exception_handler(kind, handle)

    install(Problem, lambda _, problem: problem)
    install(HTTPException, unrouted)
    install(RequestValidationError, lambda _, error: invalid(error))
    install(ExchangeError, lambda _, error: of_exchange(error))
    install(Exception, lambda _, error: unexpected(error))
    app.add_exception_handler(ClientDisconnect, on_gone)


async def on_gone(request: Request, error: Exception) -> Response:  # noqa: ARG001 - nobody reads this answer
    request.scope[REFUSED] = "the client left"
    return Response(status_code=CLIENT_GONE)


def of_exchange(error: ExchangeError) -> Problem:
    kind = DiskProblem if isinstance(error, OF_STORE) else Problem
    return kind(EXCHANGE_STATUS.get(type(error), 500), told_of(error))


def unexpected(error: Exception) -> Problem:
    return Problem(500, f"unexpected {type(error).__name__}; the server's log has the rest")


def unrouted(request: Request, error: HTTPException) -> Problem:
    """What routing says of a path that is none of ours, or of a method that it does not take."""
    if error.status_code == 404:
        return refused("path", request.url.path, "be one that /openapi.json lists", 404)
    if error.status_code != 405:
        return Problem(error.status_code, str(error.detail), headers=error.headers)
    of_one_route = set((error.headers or {}).get("Allow", "").split(", "))
    allowed = of_one_route | request.app.methods_at(request.url.path)
    methods = ", ".join(sorted(allowed | {"HEAD"} if "GET" in allowed else allowed))
    problem = refused("method", request.method, f"be {methods}", 405)
    problem.headers = {"Allow": methods}
    return problem
