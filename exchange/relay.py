"""Questions between the processes of one installation, through Redis: one asks another by its name and waits."""

import secrets
import time
from collections.abc import Callable
from typing import Any

from redis import Redis

from exchange.connection import BLOCK_MS, reaching_redis
from exchange.errors import PeerSilent
from exchange.redis_keys import DEFAULT_PREFIX, Keys

_KEPT_MS = 10_000
"""How long a question waits for a process that may be gone, and an answer for one that gave up."""
_PRESENT_MS = 30_000
_ANNOUNCE_S = 10.0
"""Seldom, as Redis writes each to its disk; often enough that two may be missed."""


class Relay:
    """Every method raises `ExchangeUnavailable` when Redis cannot be reached. Safe for many threads."""

    def __init__(self, redis: Redis, prefix: str = DEFAULT_PREFIX) -> None:
        self.redis, self.keys = redis, Keys(prefix)
        self._announce_at = 0.0

    def ask(self, peer: str, question: str, patience_s: float = 1.0) -> bytes | None:
        """What the process named `peer` answers; None at once if there is no such process.

        Raises `PeerSilent` if it does not answer within `patience_s` seconds.
        """
        token = secrets.token_hex(8)
        waiting, reply = self.keys.relay(peer), self.keys.relay(f"{peer}:{token}")
        with reaching_redis():
            # Names come from clients, who may make them up: those must cost neither time nor a key.
            if not self.redis.exists(self.keys.presence(peer)):
                return None
            self._push(waiting, f"{token} {question}")
            answer = self._pop(reply, patience_s)
        if answer is None:
            raise PeerSilent(f"the process {peer!r}, which would know, does not answer now")
        return answer

    def answer(self, me: str, tell: Callable[[str], bytes]) -> None:
        """Answers the next question to `me`, or returns after a moment without one. For one name and one thread."""
        with reaching_redis():
            if time.monotonic() >= self._announce_at:
                self.redis.set(self.keys.presence(me), 1, px=_PRESENT_MS)
                self._announce_at = time.monotonic() + _ANNOUNCE_S
            asked = self._pop(self.keys.relay(me), BLOCK_MS / 1000)
            if asked is None:
                return
            token, _, question = asked.decode().partition(" ")
            self._push(self.keys.relay(f"{me}:{token}"), tell(question))

    def leave(self, me: str) -> None:
        """Nobody waits for the answers of `me` any more. In the thread that answered, when it will no more."""
        with reaching_redis():
            self.redis.delete(self.keys.presence(me))

    def _push(self, key: str, message: str | bytes) -> None:
        with self.redis.pipeline(transaction=True) as pipe:
            pipe.rpush(key, message)
            pipe.pexpire(key, _KEPT_MS)
            pipe.execute()

    def _pop(self, key: str, patience_s: float) -> bytes | None:
        deadline = time.monotonic() + patience_s
        while (left_s := deadline - time.monotonic()) > 0:
            found: Any = self.redis.blpop([key], timeout=max(0.01, min(left_s, BLOCK_MS / 1000)))
            if found:
                return bytes(found[1])
        return None
