"""Errors as RFC 9457 problem documents: what was wrong, in which field, and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from starlette.responses import Response
from starlette.types import Scope

from service.metrics import Metrics

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1
SHOULD = re.compile(r"^\w+ should ")
"""How pydantic begins its messages."""
CLIENT_GONE = 499
"""Status in logs and metrics of requests whose client left; never sent."""
REQUEST_ID, REFUSED, OF_DISK = "hippotune.request_id", "hippotune.refused", "hippotune.of_disk"
"""What stands in a request's scope: its `X-Request-ID`; for the log why it was refused, and whether by a disk."""

REASONS = {
    400: "malformed",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "wrong_method",
    408: "client_too_slow",
    409: "conflict",
    413: "too_large",
    415: "unsupported_type",
    422: "invalid",
    429: "queue_full",
    431: "head_too_large",
    500: "failure",
    503: "unavailable",
    504: "deadline",
}

DESCRIPTIONS = {
    400: "The body is not what its Content-Type says, or the request no sound HTTP.",
    401: "No API key, or one that is not known here.",
    403: "The API key's role does not cover this; without keys: a request from a web page from elsewhere.",
    404: "There is no such thing.",
    405: "This path does not take this method.",
    408: "The body came too slowly.",
    409: "Not possible in the present state.",
    413: "Too many bytes, pixels or images.",
    415: "A media type or image format that is not accepted.",
    422: "A field is out of range or does not fit the others.",
    429: "The queue is full; `Retry-After` says when to come back.",
    431: "The head of the request is too large.",
    500: "The server is at fault; its log says how.",
    503: "Not ready, draining, or Redis or the store is away; `Retry-After` says when to come back.",
    504: "The deadline passed.",
}


@dataclass(frozen=True, slots=True)
class FieldError:
    """A field that was not accepted, its value or what that is, shortened, and what would have been accepted."""

    field: str
    value: str | float | bool | None
    allowed: str

    def __str__(self) -> str:
        found = "missing" if self.value is None else repr(self.value)
        return f"{self.field} is {found}; it must {self.allowed}"


class Problem(Exception):
    """An answer other than success. The detail is read by people, `errors` by programs."""

    def __init__(
        self, status: int, detail: str, *errors: FieldError, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers: Mapping[str, str] = headers or {}

    @property
    def reason(self) -> str:
        """For the log: not what was sent, which may be a key in a wrong place."""
        return "; ".join(f"{error.field} must {error.allowed}" for error in self.errors) or self.detail


class DiskProblem(Problem):
    """One that a disk causes: who operates the server must know of it."""


class FieldErrorDocument(BaseModel):
    """A field that was not accepted."""

    field: str = Field(description="Its name, or that of the header, file or part of the body.")
    value: str | bool | float | None = Field(
        None,
        description='The value as received, or what was found instead: "2 labels" or, of an image, "is empty". '
        "Cut where it is long, and with ? for what cannot be printed.",
    )
    allowed: str = Field(description='What would have been: "lie in 1..4".')


class ProblemDocument(BaseModel):
    """Every error, as RFC 9457 has it."""

    type: str = Field("about:blank", description="Always this: the status says what kind it is.")
    title: str = Field(description="The HTTP status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What was wrong and what is allowed.")
    errors: list[FieldErrorDocument] = Field(default=[], description="The fields that were not accepted.")
    request_id: str | None = Field(
        None,
        description="With 5xx only: the answer's `X-Request-ID`, by which the server's log names the request.",
    )


def refused(field: str, value: Any, allowed: str, status: int = 422) -> Problem:
    """A problem about one field: "tmax is 99; it must lie in 1..4"."""
    error = FieldError(shorten(field), showable(value), allowed)  # some are named by who sent them
    return Problem(status, str(error), error)


def unfit(status: int, field: str, finding: str, allowed: str) -> Problem:
    """The same words in the detail for people and in the field error for programs.

    `refused` repeats the value that was sent; of an image a finding stands there instead.
    """
    return Problem(status, f"{field} {finding}; it must {allowed}", FieldError(field, finding, allowed))


def showable(value: Any) -> Any:
    """What was sent, as an error may repeat it: a number as it is, unless JSON has none so large, the rest as text."""
    if isinstance(value, float | None) or (isinstance(value, int) and -(2**63) <= value < 2**63):
        return value
    return shorten(str(value))


def shorten(text: str, length: int = 100) -> str:
    """Text from a client, short and printable enough to be sent back."""
    text = "".join(char if char.isprintable() else "?" for char in text[: length + 1])
    return text if len(text) <= length else text[:length] + "..."


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can fail in these ways."""
    schema = {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}
    return {
        status: {"description": DESCRIPTIONS[status], "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


def answer(metrics: Metrics, problem: Problem, scope: Scope) -> Response:
    """The problem document of a request; counts the rejection, and notes the reason in the scope."""
    if problem.status in REASONS:
        metrics.rejected.labels(REASONS[problem.status]).inc()
    scope[REFUSED], scope[OF_DISK] = problem.reason, isinstance(problem, DiskProblem)
    return written(problem, scope.get(REQUEST_ID))


def written(problem: Problem, request_id: str | None = None) -> Response:
    """The problem document itself."""
    status = problem.status
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": problem.detail,
        "errors": problem.errors,
    }
    if status >= 500 and request_id is not None:
        document["request_id"] = request_id
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status in (429, 503) else {}
    return Response(orjson.dumps(document), status, {**headers, **problem.headers}, MEDIA_TYPE)


def invalid(error: RequestValidationError | ValidationError) -> Problem:
    """All that pydantic found."""
    errors = tuple(field_error(item) for item in error.errors())
    return Problem(422, "; ".join(map(str, errors)), *errors)


def field_error(item: Mapping[str, Any]) -> FieldError:
    """A finding of pydantic ("Input should be a valid integer") in this module's words."""
    value = item.get("input")
    # The innermost name: of a list's elements it is the list's.
    field = next((part for part in reversed(item["loc"]) if isinstance(part, str)), "body")
    match item["type"]:
        case "missing":
            return FieldError(field, None, "be given")
        case "extra_forbidden":
            return FieldError(shorten(field), showable(value), "be left out")  # named by who sent it
        case "json_invalid":
            text = value.decode(errors="replace") if isinstance(value, bytes) else value
            return FieldError(field, showable(text), f"be JSON: {item['ctx']['error']}")
    allowed = SHOULD.sub("", item["msg"]).partition(", unable to ")[0]
    return FieldError(field, showable(value), allowed)
