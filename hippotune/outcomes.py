"""What comes back from a server: when to send the call again, and the error it ends with otherwise. Sends nothing."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from hippotune.connecting import proxy_for
from hippotune.errors import Refused, Unanswered, Unreachable, unnumbered

Outcome = httpx.Response | httpx.RequestError

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 60.0


class Tries:
    """How often one call is sent: once, and up to `retries` times more while the server is busy or away.

    A 409 that says when to come back is no try: the same task is being received already, mostly since its answer took
    longer than this client waited. It is waited for as long as an answer is, `answer_s` seconds; None waits for ever.
    """

    def __init__(self, retries: int, answer_s: float | None) -> None:
        self._retries, self._answer_s = retries, answer_s
        self._tried = 0
        self._in_flight_since: float | None = None

    def pause(self, outcome: Outcome) -> float | None:
        """Seconds until the call should be sent again; None when this outcome is final.

        The server's own Retry-After counts; without one the pause doubles, jittered so that callers spread
        out. Every call may be repeated: those that change something carry an idempotency key or name the state
        they end in.
        """
        told = _retry_after(outcome) if isinstance(outcome, httpx.Response) else None
        if not _passing(outcome) or not self._retries or (told or 0) > LONGEST_PAUSE_S:
            return None
        if told is not None and _in_flight(outcome) and self._may_wait(told):
            return max(told, FIRST_PAUSE_S)
        if self._tried >= self._retries:
            return None
        self._tried += 1
        if told is not None:
            return told
        return min(FIRST_PAUSE_S * 2.0 ** (self._tried - 1), LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)  # noqa: S311

    def _may_wait(self, seconds: float) -> bool:
        now = time.monotonic()
        self._in_flight_since = self._in_flight_since or now
        return self._answer_s is None or now + seconds - self._in_flight_since <= self._answer_s


def lost(error: httpx.RequestError) -> Unreachable:
    """What a call ends with that got no answer, or none that can be read."""
    if isinstance(error, httpx.ReadTimeout):
        return _unanswered(error)
    if isinstance(error, httpx.TransportError):
        proxy = proxy_for(error.request.url)
        by = f", asked by the proxy {proxy} that the environment names" if proxy else ""
        return Unreachable(f"no server answers at {_where(error)}{by}: {unnumbered(error)}")
    return Unreachable(f"{not_ours(error)}: {unnumbered(error)}")


def refused(response: httpx.Response) -> Refused:
    """What a call ends with that a server answered with anything but success."""
    return Refused(response.status_code, _problem(response), busy=_passing(response))


def not_ours(outcome: Outcome) -> str:
    """What is told of an answer that none of our servers gives."""
    return f"what answers at {_where(outcome)} is no HippoTune server"


def _unanswered(error: httpx.ReadTimeout) -> Unanswered:
    request = error.request
    key = request.headers.get("Idempotency-Key")
    told = (
        f"the server at {_where(error)} did not answer within {request.extensions['timeout']['read']:.4g} s"
    )
    if key is not None:
        told += f"; it may have accepted the task: the same again with the idempotency key {key} makes no second one"
    elif request.method != "GET":
        told += "; it may have done what it was asked for"
    return Unanswered(told, key)


def _passing(outcome: Outcome) -> bool:
    """Whether the same call may succeed later; of conflicts only those that say when."""
    if isinstance(outcome, httpx.Response):
        return outcome.status_code in (429, 503) or _in_flight(outcome)
    return isinstance(outcome, httpx.TransportError)


def _in_flight(outcome: Outcome) -> bool:
    """Whether the same call is being answered already."""
    return (
        isinstance(outcome, httpx.Response)
        and outcome.status_code == 409
        and "Retry-After" in outcome.headers
    )


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds told by Retry-After, as a number or as a date (RFC 9110); None when absent or unreadable."""
    told = response.headers.get("Retry-After", "")
    try:
        return max(0.0, float(told))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def _problem(response: httpx.Response) -> dict[str, Any]:
    """The problem document; what answered instead, when something else did: all of ours are documents."""
    try:
        document = response.json()
    except ValueError:
        document = None
    if isinstance(document, dict) and document.keys() & {"title", "detail"}:
        return document
    told = f"{response.reason_phrase}; {not_ours(response)}, or stands before one"
    return {"title": response.reason_phrase, "detail": told}


def _where(outcome: Outcome) -> str:
    return f"{outcome.request.url.scheme}://{outcome.request.url.netloc.decode()}"
