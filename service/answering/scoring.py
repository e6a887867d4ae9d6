"""From the images of a request to their scores, whichever route they came by."""

from __future__ import annotations

import asyncio
import unicodedata
from collections import deque
from collections.abc import Awaitable, Iterable, Sequence
from time import perf_counter

import numpy as np
from fastapi import Request
from numpy.typing import NDArray
from starlette.requests import ClientDisconnect

from service.answering.answers import Clock
from service.answering.classify_query import ClassifyQuery
from service.engine.snapshot import NEVER_CANARY, Snapshot, bucket_of
from service.engine.tickets import Ticket
from service.http.problems import Problem, refused
from service.services import Services
from service.uploads.decode import decode, most_scans

INLINE_BYTES, INLINE_PIXELS = 32 * 1024, 1_000_000
"""An image of so many of both is decoded in milliseconds, its pixels counted once for each scan of a JPEG; of bytes
alone it may be a bomb."""

AHEAD = 2
"""Images of one request that wait to be decoded or are, for each thread: none idles, and other requests get theirs in
between."""


def allowed_s(services: Services, timeout_ms: int | None) -> float:
    """Seconds a request may take: the server's limit, or its own where that is shorter."""
    most = services.config.request_timeout_s
    # Compared before it is divided: a whole number may be larger than any float.
    return most if timeout_ms is None else min(1000 * most, timeout_ms) / 1000


def known_labels(labels: Sequence[str], snapshot: Snapshot) -> tuple[str, ...] | None:
    """The labels a request restricts its answer to, None when it does not. Raises Problem for unknown ones, and for
    a restriction to none: a program whose list of candidates came out empty does not mean all.

    A value is split at its commas unless it is, commas and all, a known label. Accents may be written in either way
    that Unicode has, as in teaching: macOS, for one, takes names of files apart.
    """
    names: list[str] = []
    for value in (unicodedata.normalize("NFC", label) for label in labels):
        names += [value] if value in snapshot.columns else [part.strip() for part in value.split(",")]
    names = list(dict.fromkeys(name for name in names if name))
    if labels and not names:
        raise refused("labels", "", "name at least one, or be left out")
    for name in names:
        if name not in snapshot.columns:
            allowed = f"be among the {len(snapshot.labels)} labels of version {snapshot.version}"
            raise refused("labels", name, allowed)
    return tuple(names) or None


def bucket_for(
    services: Services, images: Iterable[bytes | NDArray[np.uint8]], labels: Iterable[str] | None
) -> float:
    """The bucket of a request's images, where a canary that knows the labels asked for wants one; see `bucket_of`."""
    canary = services.served.canary
    able = canary is not None and canary.snapshot.columns.keys() >= set(labels or ())
    return bucket_of(map(bytes, images)) if able else NEVER_CANARY


async def score(
    request: Request,
    services: Services,
    decoding: Awaitable[Sequence[NDArray[np.uint8]]],
    bucket: float,
    snapshot: Snapshot,
    query: ClassifyQuery,
    clock: Clock,
) -> Ticket:
    """Score pixels, [3, px, px] each, once they are decoded; give up when the client leaves or the deadline passes.

    Raises Problem and ClientDisconnect.
    """
    limit_s, decoding_began = allowed_s(services, query.timeout_ms), perf_counter()
    deadline = clock.began + limit_s
    try:
        async with asyncio.timeout(deadline - decoding_began):
            pixels = await decoding
            clock.decode = perf_counter() - decoding_began
            target = None if query.budget_ms is None else clock.began + query.budget_ms / 1000
            ticket = Ticket(pixels, query.asked, query.explain, snapshot, bucket, deadline, target)
            services.engine.enqueue(ticket)
            try:
                await wait_for_scores(ticket, request)
            finally:
                if not ticket.done.done():
                    services.engine.withdraw(ticket)
    except TimeoutError:
        raise Problem(504, f"no answer within {limit_s * 1000:.0f} ms") from None
    clock.compute = sum({image.ended: image.compute_s for image in ticket.scored}.values())
    clock.queue = ticket.scored[-1].ended - ticket.entered - clock.compute
    return ticket


async def decode_all(services: Services, images: Sequence[tuple[str, bytes]]) -> list[NDArray[np.uint8]]:
    """Pixels [3, px, px] of each image. Raises Problem."""
    loop, pool = asyncio.get_running_loop(), services.decoders
    px, most = services.px, services.config.max_pixels
    if services.engine.admitted == 1 and len(images[0][1]) <= INLINE_BYTES:
        name, data = images[0]
        few = min(most, INLINE_PIXELS // max(1, most_scans(data)))
        try:  # nobody else waits, and a thread costs more than it brings
            return [decode(data, px, few, name)]
        except Problem as error:
            if error.status != 413 or most == few:
                raise
    pixels: list[NDArray[np.uint8]] = []
    decoding: deque[asyncio.Future[NDArray[np.uint8]]] = deque()
    try:
        async with services.lifecycle.hurried():
            for name, data in images:
                if len(decoding) == AHEAD * services.threads:
                    pixels.append(await decoding.popleft())
                decoding.append(loop.run_in_executor(pool, decode, data, px, most, name))
            while decoding:
                pixels.append(await decoding.popleft())
        return pixels
    finally:
        for pending in decoding:
            pending.cancel()


async def wait_for_scores(ticket: Ticket, request: Request) -> None:
    """Wait for a ticket's scores. Raises its Problem, and ClientDisconnect."""
    gone = asyncio.ensure_future(until_gone(request))
    try:
        await asyncio.wait((ticket.done, gone), return_when=asyncio.FIRST_COMPLETED)
        if not ticket.done.done():
            raise ClientDisconnect
        ticket.done.result()
    finally:
        gone.cancel()


async def until_gone(request: Request) -> None:
    """Returns when the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def observe(services: Services, ticket: Ticket, clock: Clock) -> None:
    """Report where the time went, once the answer is written."""
    stages = services.metrics.stages
    stages["read"].observe(clock.read)
    stages["decode"].observe(clock.decode)
    stages["queue"].observe(clock.queue)
    stages["compute"].observe(clock.compute)
    stages["encode"].observe(perf_counter() - ticket.scored[-1].ended)
