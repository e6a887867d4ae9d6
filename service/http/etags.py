"""Answers that many ask for again and again: named by an ETag, written once, and not sent to who has them already."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Hashable

import orjson
from starlette.responses import Response


class KeptBodies:
    """The newest body of each answer. Safe for many threads, of which one writes while the others wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest: dict[Hashable, tuple[str, bytes]] = {}

    def body(self, answer: Hashable, etag: str, write: Callable[[], bytes]) -> bytes:
        """The body of this name; written now unless it is the newest one of its answer."""
        with self._lock:
            known, body = self._newest.get(answer, ("", b""))
            if known != etag:
                body = write()
                self._newest[answer] = etag, body
            return body


def etag_of(*facts: object) -> str:
    """A strong ETag (RFC 9110, 8.8.3) for an answer that these facts decide, to its last byte."""
    return f'"{hashlib.blake2b(orjson.dumps(facts), digest_size=16).hexdigest()}"'


def answer_named(etag: str, if_none_match: str | None, write: Callable[[], bytes]) -> Response:
    """The JSON that `write` gives; 304 where the client has it. Browsers ask again each time, naming what they have."""
    headers = {"Cache-Control": "no-cache", "ETag": etag}
    if is_known(etag, if_none_match):
        return Response(status_code=304, headers=headers)
    return Response(write(), headers=headers, media_type="application/json")


def is_known(etag: str, if_none_match: str | None) -> bool:
    """Whether a client has the answer of this name. Proxies that compress answers make its name a weak one."""
    return any(known.strip().removeprefix("W/") in (etag, "*") for known in (if_none_match or "").split(","))
