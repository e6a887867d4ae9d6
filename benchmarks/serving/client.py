"""The caller: a process of its own, so that what it costs is not the server's.

Reads a `Load` as JSON from stdin, writes a `Measured` to stdout. Speaks HTTP/1.1 over kept connections with as little
work a request as Python allows; a client library's half millisecond would hide what is measured.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from time import perf_counter

import httptools
import uvloop

PATIENCE_S = 10
"""How long the last answers of an open loop are waited for."""


@dataclass(frozen=True)
class Load:
    """What to send, how, and for how long.

    paths: one a request in turn, with their queries.  bodies: likewise, in base64.  headers: besides the usual ones.
    connections: kept open at once; an open loop waits for a free one when all are busy, and that wait counts.
    rate: requests a second at random (Poisson) times, whether answers come or not; None is a closed loop, every
        connection asking again as soon as it was answered.
    seed: of those times.
    warm_up_s, seconds: the first are not measured.
    compute: read `timings_ms` of each answer, to tell what was not compute.
    """

    host: str
    port: int
    paths: Sequence[str]
    bodies: Sequence[str]
    media_type: str
    headers: Sequence[tuple[str, str]] = ()
    connections: int = 1
    rate: float | None = None
    seed: int = 0
    warm_up_s: float = 1.0
    seconds: float = 5.0
    compute: bool = False


@dataclass
class Measured:
    """per_second: answers.  latencies_ms: from when a request was due.  overheads_ms: what of it was not compute."""

    seconds: float
    answered: int = 0
    failed: int = 0
    per_second: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)
    overheads_ms: list[float] = field(default_factory=list)
    by_path: dict[str, list[float]] = field(default_factory=dict)

    def summary(self) -> dict[str, float]:
        figures = {"per_second": self.per_second, "answered": self.answered, "failed": self.failed}
        for name, values in (("latency", self.latencies_ms), ("overhead", self.overheads_ms)):
            if len(values) > 1:
                figures |= {
                    f"{name}_p50_ms": statistics.median(values),
                    f"{name}_p99_ms": percentile(values, 99),
                }
        return figures


def percentile(values: Sequence[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(percent / 100 * len(ordered)))]


def rate(times: Sequence[float], seconds: float) -> float:
    """Events a second: the least-squares line through (time, count).

    Answers come a batch at a time, and how many batches end within the window is a matter of luck; the slope is not.
    Where they lie within less than half of the window, their number by the seconds.
    """
    if not times or max(times) - min(times) < seconds / 2:
        return len(times) / seconds
    mean = statistics.fmean(times)
    spread = sum((time - mean) ** 2 for time in times)
    return sum((time - mean) * turn for turn, time in enumerate(times)) / spread


class Connection(asyncio.Protocol):
    """One kept connection, one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((self._parser.get_status_code(), self._body))

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("closed by the server"))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    async def ask(self, load: Load, request: bytes) -> tuple[int, bytes]:
        """Status and body."""
        loop = asyncio.get_running_loop()
        if self._transport is None:
            await loop.create_connection(lambda: self, load.host, load.port)
        self._parser, self._body = httptools.HttpResponseParser(self), b""
        self._answer = loop.create_future()
        assert self._transport is not None
        self._transport.write(request)
        return await self._answer


def request(load: Load, turn: int) -> bytes:
    """The bytes of one request."""
    body = base64.b64decode(load.bodies[turn % len(load.bodies)])
    more = "".join(f"{name}: {value}\r\n" for name, value in load.headers)
    head = (
        f"POST {load.paths[turn % len(load.paths)]} HTTP/1.1\r\nHost: {load.host}:{load.port}\r\n"
        f"Content-Type: {load.media_type}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    )
    return head.encode() + body


class Caller:
    """Sends a load and notes what came of it."""

    def __init__(self, load: Load) -> None:
        self.load = load
        turns = len(load.paths) * len(load.bodies)
        self._requests = [request(load, turn) for turn in range(turns)]
        self._turn = 0
        self._starts = perf_counter() + load.warm_up_s
        self._ends = self._starts + load.seconds
        self._times: list[float] = []
        self.measured = Measured(load.seconds)

    async def ask(self, connection: Connection, due: float) -> None:
        turn, self._turn = self._turn, self._turn + 1
        try:
            status, body = await connection.ask(self.load, self._requests[turn % len(self._requests)])
        except OSError:
            status, body = 0, b""
        now = perf_counter()
        # An open loop asks whether requests come back or not: those of its time count, however late they are.
        if not self._starts <= (now if self.load.rate is None else due) < self._ends:
            return
        if status != 200:
            self.measured.failed += 1
            return
        self.measured.answered += 1
        self._times.append(now)
        latency = 1000 * (now - due)
        self.measured.latencies_ms.append(latency)
        if len(self.load.paths) > 1:
            self.measured.by_path.setdefault(self.load.paths[turn % len(self.load.paths)], []).append(latency)
        if self.load.compute:
            self.measured.overheads_ms.append(latency - json.loads(body)["timings_ms"]["compute"])

    async def closed(self, connection: Connection) -> None:
        while (now := perf_counter()) < self._ends:
            await self.ask(connection, now)
        connection.close()

    async def open(self) -> None:
        connections = [Connection() for _ in range(self.load.connections)]
        # The one used last first: one that rests for long may be closed by the server just as it is used.
        free: asyncio.Queue[Connection] = asyncio.LifoQueue()
        for connection in connections:
            free.put_nowait(connection)
        times, due, asked = random.Random(self.load.seed), perf_counter(), set[asyncio.Task[None]]()

        async def one(due: float) -> None:
            connection = await free.get()
            await self.ask(connection, due)
            free.put_nowait(connection)

        assert self.load.rate is not None
        while (due := due + times.expovariate(self.load.rate)) < self._ends:
            await asyncio.sleep(max(0.0, due - perf_counter()))
            asked.add(task := asyncio.ensure_future(one(due)))
            task.add_done_callback(asked.discard)
        if asked:
            await asyncio.wait(asked, timeout=PATIENCE_S)
        for task in asked:
            task.cancel()
        self.measured.failed += len(asked)
        for connection in connections:
            connection.close()

    async def run(self) -> Measured:
        if self.load.rate is not None:
            await self.open()
        else:
            await asyncio.gather(*(self.closed(Connection()) for _ in range(self.load.connections)))
        self.measured.per_second = rate(self._times, self.load.seconds)
        return self.measured


def main() -> None:
    load = Load(**json.load(sys.stdin))
    print(json.dumps(asdict(uvloop.run(Caller(load).run()))))


if __name__ == "__main__":
    main()
