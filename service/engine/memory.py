"""What a server remembers of its answers, so that people can correct them: feature vectors, never pixels.

The newest answers, for a while, in the memory of this process. Where several servers share a Redis, one that is asked
about another's answer asks that one; so nothing is written anywhere while images are classified.
"""

from __future__ import annotations

import secrets
import struct
import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Self

import numpy as np
import structlog
from numpy.typing import NDArray

from exchange.errors import ExchangeUnavailable
from exchange.relay import Relay

log = structlog.get_logger(__name__)

RETRY_S = 1.0
HEAD = struct.Struct("<64sq")
"""Of an answer that another server is told: its space and its version; features follow."""
ID_BYTES = 12
DRAWN_BYTES = 341 * ID_BYTES
"""Random bytes asked of the system at once. Each time the interpreter goes to other threads meanwhile, and an answer
that is being written waits for it to come back."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """features: [F], a row of `Output.features`.  space: see `Checkpoint.space`.  version: that answered."""

    features: NDArray[np.float32]
    space: str
    version: int

    @property
    def teaches(self) -> bool:
        """Whether a head may be taught from the features."""
        return not np.isnan(self.features).any()

    def to_bytes(self) -> bytes:
        return HEAD.pack(self.space.encode(), self.version) + self.features.astype("<f4").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        space, version = HEAD.unpack_from(data)
        return cls(np.frombuffer(data, dtype="<f4", offset=HEAD.size), space.decode(), version)


class AnswerMemory:
    """At most `capacity` answers, none for longer than `ttl_s` seconds. Safe for many threads."""

    def __init__(self, capacity: int, ttl_s: float) -> None:
        self.owner = secrets.token_hex(4)
        """First part of every id given out here, by which other servers know whom to ask."""
        self._capacity = capacity
        self._ttl_s = ttl_s
        self._kept: OrderedDict[str, tuple[float, Remembered]] = OrderedDict()
        self._drawn = b""
        self._lock = threading.Lock()

    def keep(self, features: NDArray[np.float32], space: str, version: int) -> str:
        """Remember an answer; returns an id that nobody can guess."""
        now = monotonic()
        # A copy: a row of a batch would keep the whole batch.
        entry = now + self._ttl_s, Remembered(features.copy(), space, version)
        with self._lock:
            id_ = f"{self.owner}-{self._draw().hex()}"
            self._kept[id_] = entry
            self._drop(now)
        return id_

    def forget(self) -> None:
        """Drop what is too old to be found, and would else stay until another answer is kept."""
        with self._lock:
            self._drop(monotonic())

    def _drop(self, now: float) -> None:
        while self._kept and (len(self._kept) > self._capacity or next(iter(self._kept.values()))[0] < now):
            self._kept.popitem(last=False)

    def _draw(self) -> bytes:
        """Random bytes that were never drawn before."""
        if not self._drawn:
            self._drawn = secrets.token_bytes(DRAWN_BYTES)
        drawn, self._drawn = self._drawn[:ID_BYTES], self._drawn[ID_BYTES:]
        return drawn

    def find(self, id_: str) -> Remembered | None:
        """What was kept under an id, None where it never was or is no longer."""
        with self._lock:
            ends, remembered = self._kept.get(id_, (0.0, None))
        return remembered if ends >= monotonic() else None


class SharedMemory:
    """This server's memory, and those of the servers beside it. `start` and `stop` once each."""

    def __init__(self, own: AnswerMemory, relay: Relay) -> None:
        self.own = own
        self._relay = relay
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="memory", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def find(self, id_: str) -> Remembered | None:
        """The answer of this id, from whichever server gave it. Raises ExchangeUnavailable and PeerSilent."""
        owner = id_.partition("-")[0]
        if owner == self.own.owner:
            return self.own.find(id_)
        told = self._relay.ask(owner, id_)
        return Remembered.from_bytes(told) if told else None

    def _serve(self) -> None:
        """Answer the other servers, and forget in time, for as long as this one runs."""
        while not self._stop.is_set():
            self.own.forget()
            try:
                self._relay.answer(self.own.owner, self._tell)
            except ExchangeUnavailable as error:
                log.debug("cannot be asked by other servers", reason=str(error))
                self._stop.wait(RETRY_S)
            except Exception:  # nothing may end this thread, least of all a question
                log.exception("a question of another server failed")
                self._stop.wait(RETRY_S)
        with suppress(ExchangeUnavailable):  # Redis forgets by itself who does not come back
            self._relay.leave(self.own.owner)

    def _tell(self, id_: str) -> bytes:
        found = self.own.find(id_)
        return b"" if found is None else found.to_bytes()
