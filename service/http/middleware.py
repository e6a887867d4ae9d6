"""What wraps every request. Pure ASGI: one wrapped `send`, no extra task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import perf_counter
from typing import Any

import orjson
from fastapi.routing import APIRoute, APIRouter
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import request_response
from starlette.types import ASGIApp, ExceptionHandler, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from service.http.access import AccessLog
from service.http.problems import OF_DISK, REFUSED, REQUEST_ID
from service.metrics import Metrics

BEGAN = "hippotune.began"
LINGER_S = 5.0
"""Seconds for which the rest of a refused body is still read."""


class RequestMetrics:
    """Observes duration and status by route template; paths that no route takes count as one. Lets the log name the
    request, and tell of it."""

    def __init__(self, app: ASGIApp, metrics: Metrics, access: AccessLog) -> None:
        self.app = app
        self.metrics, self.access = metrics, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = scope[BEGAN] = perf_counter()
        bind_contextvars(request_id=scope.get(REQUEST_ID))
        status = 500

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, observed)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            seconds = perf_counter() - began
            self.metrics.requests.labels(route, status).observe(seconds)
            self.access.ended(scope, status, seconds)


class FastPath:
    """Takes some paths past the framework's own layers of routing and dependencies, which every image would pay for.

    Their errors are answered by the same handlers, and they stay routes like any other for the API document.
    """

    def __init__(
        self, app: ASGIApp, routes: Mapping[str, APIRoute], handlers: Mapping[Any, ExceptionHandler]
    ) -> None:
        """routes: by the whole path; their endpoints take the request alone."""
        self.app = app
        # What nothing else handles goes on to the outermost layer, as from every route.
        expected = {kind: handler for kind, handler in handlers.items() if kind is not Exception}
        self._direct = {
            (method, path): (route, ExceptionMiddleware(request_response(route.endpoint), expected))
            for path, route in routes.items()
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._direct.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if found is None:
            await self.app(scope, receive, send)
            return
        scope["route"], direct = found
        await direct(scope, receive, send)


def route_of(router: APIRouter, endpoint: Callable[..., Any]) -> APIRoute:
    """An endpoint as its router has it, for `FastPath`."""
    return next(one for one in router.routes if isinstance(one, APIRoute) and one.endpoint is endpoint)


class HeadRequests:
    """Answers HEAD as GET without the body, on every route that takes GET (RFC 9110, 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def head_alone(message: Message) -> None:
            # Ended at once: an event stream must not go on for somebody who does not see it.
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body"})

        asked: Scope = {**scope, "method": "GET"}
        try:
            await self.app(asked, receive, head_alone)
        finally:
            # For metrics and log.
            scope.update({key: asked[key] for key in ("route", REFUSED, OF_DISK) if key in asked})


class Lingering:
    """Reads on for a moment, after a body was refused, on connections that are closed after the answer.

    A connection closed at once would be reset, and clients that send everything before they read, such as urllib, would
    never see the answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_closed_after(scope):
            await self.app(scope, receive, send)
            return
        came_whole = False

        async def noting() -> Message:
            nonlocal came_whole
            message = await receive()
            came_whole = not message.get("more_body", False)
            return message

        async def lingering(message: Message) -> None:
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if last and not came_whole:
                await send({**message, "more_body": True})
                with suppress(TimeoutError):
                    async with asyncio.timeout(LINGER_S):
                        while (await receive()).get("more_body", False):
                            pass
                message = {"type": "http.response.body"}
            await send(message)

        await self.app(scope, noting, lingering)


def is_closed_after(scope: Scope) -> bool:
    """Whether a connection ends with this request."""
    return scope["http_version"] == "1.0" or any(
        name == b"connection" and b"close" in value.lower() for name, value in scope["headers"]
    )


class ProtocolErrors:
    """Makes errors under /v2 `{"error": ...}`, as the Open Inference Protocol has it: its clients read nothing else."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v2"):
            await self.app(scope, receive, send)
            return
        head: Message | None = None
        problem = bytearray()

        async def translated(message: Message) -> None:
            nonlocal head
            if message["type"] == "http.response.start" and message["status"] >= 400:
                head = message
            elif head is None:
                await send(message)
            else:
                problem.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    await send_error(head, bytes(problem), send)

        await self.app(scope, receive, translated)


async def send_error(head: Message, problem: bytes, send: Send) -> None:
    """A problem document's detail as the protocol's error, with the status and the other headers it came with."""
    try:
        detail = orjson.loads(problem)["detail"]
    except (ValueError, KeyError, TypeError):
        detail = problem.decode(errors="replace")
    body = orjson.dumps({"error": detail})
    own = {b"content-type": b"application/json", b"content-length": str(len(body)).encode()}
    others = [(name, value) for name, value in head["headers"] if name.lower() not in own]
    await send({**head, "headers": [*others, *own.items()]})
    await send({"type": "http.response.body", "body": body})
