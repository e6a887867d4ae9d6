"""Who may send which request. Pure ASGI, before routing: a route that no rule here names is for admins alone.

Without keys the server listens on loopback, where the danger is a web page from elsewhere, open in a browser on
this machine: it may send requests here, also under a name of its own that it points to 127.0.0.1.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Any

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.http.api_keys import ApiKey, Keyring, Role
from service.http.problems import FieldError, Problem, answer, documented, refused, shorten
from service.metrics import Metrics

log = structlog.get_logger(__name__)

READING = frozenset({"GET", "HEAD"})
EVERYBODY = frozenset(Role)
CLASSIFY, SUBMIT, ADMIN = (frozenset({role}) for role in Role)
OPEN = frozenset(
    {"/", "/docs", "/openapi.json", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"}
)
HERE = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.ASCII | re.IGNORECASE)
SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key from `hippotune keys new`."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def allowed_roles(method: str, path: str) -> frozenset[Role] | None:
    """The roles that may send a request, besides admin, which may always; None when no key is needed.

    The page, the API document and health are open: they tell nothing about anybody's data. The rest can be read with
    any key.
    """
    if method in READING:
        return None if path in OPEN or path.startswith("/web/") else EVERYBODY
    if method == "POST":
        if path == "/classify" or path.startswith("/v2/models/"):
            return CLASSIFY
        if path == "/tasks" or path.startswith(("/tasks/", "/feedback")):
            return SUBMIT
    return ADMIN


class Guard(ABC):
    """Lets requests through that pass its check."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self.check(scope)
            except Problem as problem:
                await answer(self.metrics, problem, scope)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    @abstractmethod
    def check(self, scope: Scope) -> None:
        """Raise Problem for a request that is not to go on."""

    @staticmethod
    @abstractmethod
    def describe(document: dict[str, Any]) -> None:
        """Write into an API document whom this refuses."""


class KeyGuard(Guard):
    """Lets requests through that bring a key of the right role."""

    def __init__(self, app: ASGIApp, keys: Keyring, open_metrics: bool, metrics: Metrics) -> None:
        """open_metrics: /metrics needs no key."""
        super().__init__(app, metrics)
        self.keys, self.open_metrics = keys, open_metrics

    def check(self, scope: Scope) -> None:
        """Raise Problem 401 or 403."""
        method, path = scope["method"], scope["path"]
        allowed = allowed_roles(method, path)
        if allowed is None or (self.open_metrics and path == "/metrics" and method in READING):
            return
        secret = presented(scope)
        key = None if secret is None else self.keys.find(secret)
        if key is None:
            raise unauthenticated(secret is not None)
        if not key.may(allowed):
            raise forbidden(key, allowed)
        if allowed in (SUBMIT, ADMIN):
            log.info("request allowed", key=key.name, method=method, path=shorten(path))

    @staticmethod
    def describe(document: dict[str, Any]) -> None:
        document.setdefault("components", {})["securitySchemes"] = SCHEMES
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                allowed = allowed_roles(method.upper(), path)
                operation["security"] = [] if allowed is None else [{scheme: []} for scheme in SCHEMES]
                if allowed is not None:
                    roles = "any" if allowed is EVERYBODY else " or ".join(sorted(allowed | ADMIN))
                    operation["x-role"] = roles
                    add_refusals(operation, 401, 403)


class OriginGuard(Guard):
    """Lets requests through that no web page from elsewhere has sent."""

    def __init__(self, app: ASGIApp, insecure: bool, metrics: Metrics) -> None:
        """insecure: any name may lead here."""
        super().__init__(app, metrics)
        self.insecure = insecure

    def check(self, scope: Scope) -> None:
        """Raise Problem 403."""
        headers, method = Headers(scope=scope), scope["method"]
        host = headers.get("host", "")
        if not self.insecure and host and not HERE.fullmatch(host):
            allowed = "be a loopback address or localhost, unless the server has API keys or is --insecure"
            raise refused("Host", host, allowed, 403)
        origin = headers.get("origin")
        if origin is not None and method not in READING and origin.partition("://")[2] != host:
            raise refused("Origin", origin, "be this server's own, unless it has API keys", 403)

    @staticmethod
    def describe(document: dict[str, Any]) -> None:
        for methods in document["paths"].values():
            for operation in methods.values():
                add_refusals(operation, 403)


def add_refusals(operation: dict[str, Any], *statuses: int) -> None:
    """Say of an operation that it may be refused so."""
    operation["responses"] |= {str(status): told for status, told in documented(*statuses).items()}


def presented(scope: Scope) -> bytes | None:
    """The key a request brings, None when it brings none."""
    for name, value in scope["headers"]:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return bytes(value[7:].strip())
        if name == b"x-api-key":
            return bytes(value.strip())
    return None


def unauthenticated(tried: bool) -> Problem:
    """tried: a key was sent, which is none of ours."""
    allowed = "be one of this server's API keys, as `Authorization: Bearer KEY` or `X-API-Key: KEY`"
    finding = "not known here" if tried else "missing"
    error = FieldError("Authorization", finding, allowed)
    challenge = 'Bearer realm="hippotune"' + (', error="invalid_token"' if tried else "")
    headers = {"WWW-Authenticate": challenge}
    return Problem(401, f"the API key is {finding}; it must {allowed}", error, headers=headers)


def forbidden(key: ApiKey, allowed: frozenset[Role]) -> Problem:
    roles = " or ".join(sorted(allowed | ADMIN))
    return refused("role", ", ".join(sorted(key.roles)), f"be {roles}", 403)
