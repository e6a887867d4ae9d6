"""The client, blocking and async. Both send the same calls; only the waiting differs.

>>> from hippotune import Client
>>> with Client("http://127.0.0.1:8000") as client:            # doctest: +SKIP
...     task = client.wait(client.submit("flowers/", name="flowers"))
...     client.classify("rose.jpg", tmax=2).label
'rose'
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeVar, Unpack

import httpx

from hippotune import calls
from hippotune.calls import MOST_TASKS, Ask, Call
from hippotune.checks import header_value, patience, server_address
from hippotune.errors import TaskFailed
from hippotune.image_files import Image
from hippotune.outcomes import Outcome, Tries
from hippotune.packing import as_archive
from hippotune.records import LOST, Classification, Task, Version
from hippotune.waiting import Deadline

T = TypeVar("T")

URL = "http://127.0.0.1:8000"
CHUNK = 1 << 20

Source = str | PathLike[str] | Iterable[tuple[Image, str]]
"""What a task is made of: a folder `label/image`, a zip or tar of one, or (image, label) pairs."""


class Client:
    """A server, called from blocking code. Threads may share one client, and forked processes.

    Calls raise Unreachable when no server answers, Unanswered when it takes too long, Refused when it does not
    take the request. 429, 503 and broken connections are tried again up to `retries` times, waiting as long as
    Retry-After says. `timeout` is in seconds, to connect and to wait for the next bytes of an answer, which a
    server may send one by one; `submit` adds a second for each MiB it sends. None waits for ever. `api_key` is
    what a server with keys asks for; HIPPOTUNE_API_KEY if left out.
    Raises ValueError for an address or a key that cannot be one, and for a timeout or retries that make no sense.
    """

    def __init__(
        self, url: str = URL, *, api_key: str | None = None, timeout: float | None = 60.0, retries: int = 5
    ) -> None:
        self._timeout, self._retries = patience(timeout, retries)
        self._connect = partial(httpx.Client, base_url=server_address(url), headers=_authorization(api_key))
        self._http, self._process = self._connect(), os.getpid()

    def classify(self, image: Image, **ask: Unpack[Ask]) -> Classification:
        """Classify one encoded image within a budget."""
        return self._run(calls.classify(image, ask))

    def classify_many(self, images: Iterable[Image], **ask: Unpack[Ask]) -> list[Classification]:
        """Classify several images in one request, in order."""
        return self._run(calls.classify_many(images, ask))

    def submit(self, source: Source, name: str = "", idempotency_key: str | None = None) -> Task:
        """Hand in a task to be learned; returns once it is queued.

        Raises OSError or ValueError for a source that cannot be read.
        """
        if not isinstance(source, str | PathLike):
            return self._run(calls.submit_samples(source, name, idempotency_key))
        with as_archive(Path(source)) as (archive, media):
            return self._run(calls.submit_archive(archive, media, name, idempotency_key))

    def feedback(self, answer: Classification | str, label: str) -> Task:
        """Correct an answer, given itself or by its id: teaches the head, without sending the image again."""
        return self._run(calls.feedback(_id(answer), label))

    def task(self, task_id: str) -> Task:
        """One task as it stands."""
        return self._run(calls.task(task_id))

    def tasks(self, state: str | None = None, limit: int = MOST_TASKS) -> list[Task]:
        """The newest tasks, newest first; with `state`, those of the newest 1000 that are in it."""
        return self._run(calls.tasks(state, limit))

    def remove(self, task_id: str) -> Task:
        """Cancel a task that waits or has failed; have one that was learned forgotten: `watch` it until it is."""
        return self._run(calls.remove(task_id))

    def retry(self, task_id: str) -> Task:
        """Queue a failed task again."""
        return self._run(calls.retry(task_id))

    def watch(self, task_id: str, timeout: float | None = None) -> Iterator[Task]:
        """A task each time it changed, until it ended. Raises TaskUnfinished after `timeout` seconds.

        That is looked at between two questions to the server, each of which has the patience of the client.
        """
        seen, deadline = None, Deadline(timeout)
        while seen is None or not seen.ended:
            if (task := self.task(task_id)) != seen:
                yield (seen := task)
            else:
                time.sleep(deadline.pause(task))

    def wait(self, task: Task | str, timeout: float | None = None) -> Task:
        """Wait until a task is consolidated. Raises TaskFailed when it never will be, TaskUnfinished after `timeout`
        seconds.
        """
        task_id = task if isinstance(task, str) else task.id
        return _learned(list(self.watch(task_id, timeout))[-1])

    def versions(self, labels: bool = True) -> list[Version]:
        """All versions, newest first; without `labels` each only counts what it knows, which may be much."""
        return self._run(calls.versions(labels))

    def version(self, number: int) -> Version:
        """What one version knows."""
        return self._run(calls.version(number))

    def activate(self, number: int, canary: float | None = None) -> Version:
        """Serve another version: roll back, or forward; with `canary`, for this share of the requests only."""
        return self._run(calls.activate(number, canary))

    def ready(self) -> bool:
        """True once the server is warm; False as long as it is not, or none answers."""
        outcome = self._send(calls.ready())
        return isinstance(outcome, httpx.Response) and outcome.is_success

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, call: Call[T]) -> T:
        tries = Tries(self._retries, call.answer_s(self._timeout))
        while (pause := tries.pause(outcome := self._send(call))) is not None:
            time.sleep(pause)
        return call.finish(outcome)

    def _send(self, call: Call[T]) -> Outcome:
        # In a forked process: over shared connections each would read the other's answers.
        if self._process != os.getpid():
            self._http, self._process = self._connect(), os.getpid()
        with call.opened() as body:
            try:
                request = self._http.build_request(content=body, **call.request(self._timeout))
                return self._http.send(request)
            except httpx.RequestError as error:
                return error


class AsyncClient:
    """The same server, called from async code; every method means what it means on Client.

    Files are read, and folders packed, in threads: the event loop goes on meanwhile.
    """

    def __init__(
        self, url: str = URL, *, api_key: str | None = None, timeout: float | None = 60.0, retries: int = 5
    ) -> None:
        self._timeout, self._retries = patience(timeout, retries)
        self._http = httpx.AsyncClient(base_url=server_address(url), headers=_authorization(api_key))

    async def classify(self, image: Image, **ask: Unpack[Ask]) -> Classification:
        """Classify one encoded image within a budget."""
        if isinstance(image, bytes):
            return await self._run(calls.classify(image, ask))
        return await self._run(await asyncio.to_thread(calls.classify, image, ask))

    async def classify_many(self, images: Iterable[Image], **ask: Unpack[Ask]) -> list[Classification]:
        """Classify several images in one request, in order."""
        return await self._run(await asyncio.to_thread(calls.classify_many, list(images), ask))

    async def submit(self, source: Source, name: str = "", idempotency_key: str | None = None) -> Task:
        """Hand in a task to be learned; returns once it is queued."""
        if not isinstance(source, str | PathLike):
            pairs = list(source)
            return await self._run(
                await asyncio.to_thread(calls.submit_samples, pairs, name, idempotency_key)
            )
        async with _archive(Path(source)) as (archive, media):
            return await self._run(calls.submit_archive(archive, media, name, idempotency_key))

    async def feedback(self, answer: Classification | str, label: str) -> Task:
        """Correct an answer, given itself or by its id: teaches the head, without sending the image again."""
        return await self._run(calls.feedback(_id(answer), label))

    async def task(self, task_id: str) -> Task:
        """One task as it stands."""
        return await self._run(calls.task(task_id))

    async def tasks(self, state: str | None = None, limit: int = MOST_TASKS) -> list[Task]:
        """The newest tasks, newest first; with `state`, those of the newest 1000 that are in it."""
        return await self._run(calls.tasks(state, limit))

    async def remove(self, task_id: str) -> Task:
        """Cancel a task that waits or has failed; have one that was learned forgotten: `watch` it until it is."""
        return await self._run(calls.remove(task_id))

    async def retry(self, task_id: str) -> Task:
        """Queue a failed task again."""
        return await self._run(calls.retry(task_id))

    async def watch(self, task_id: str, timeout: float | None = None) -> AsyncIterator[Task]:
        """A task each time it changed, until it ended. Raises TaskUnfinished after `timeout` seconds."""
        seen, deadline = None, Deadline(timeout)
        while seen is None or not seen.ended:
            if (task := await self.task(task_id)) != seen:
                yield (seen := task)
            else:
                await asyncio.sleep(deadline.pause(task))

    async def wait(self, task: Task | str, timeout: float | None = None) -> Task:
        """Wait until a task is consolidated. Raises TaskFailed when it never will be, TaskUnfinished after `timeout`
        seconds.
        """
        task_id = task if isinstance(task, str) else task.id
        return _learned([seen async for seen in self.watch(task_id, timeout)][-1])

    async def versions(self, labels: bool = True) -> list[Version]:
        """All versions, newest first; without `labels` each only counts what it knows, which may be much."""
        return await self._run(calls.versions(labels))

    async def version(self, number: int) -> Version:
        """What one version knows."""
        return await self._run(calls.version(number))

    async def activate(self, number: int, canary: float | None = None) -> Version:
        """Serve another version: roll back, or forward; with `canary`, for this share of the requests only."""
        return await self._run(calls.activate(number, canary))

    async def ready(self) -> bool:
        """True once the server is warm; False as long as it is not, or none answers."""
        outcome = await self._send(calls.ready())
        return isinstance(outcome, httpx.Response) and outcome.is_success

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, call: Call[T]) -> T:
        tries = Tries(self._retries, call.answer_s(self._timeout))
        while (pause := tries.pause(outcome := await self._send(call))) is not None:
            await asyncio.sleep(pause)
        return call.finish(outcome)

    async def _send(self, call: Call[T]) -> Outcome:
        with call.opened() as body:
            content = body if body is None or isinstance(body, bytes) else _chunks(body)
            try:
                request = self._http.build_request(content=content, **call.request(self._timeout))
                return await self._http.send(request)
            except httpx.RequestError as error:
                return error


@asynccontextmanager
async def _archive(source: Path) -> AsyncIterator[tuple[Path, str]]:
    """`as_archive`, which reads and writes as much as a whole task, off the event loop.

    Cancelled while it packs, the thread drops what it made once that is done.
    """
    packing = as_archive(source)
    archive = await asyncio.to_thread(packing.__enter__)
    try:
        yield archive
    finally:
        await asyncio.to_thread(packing.__exit__, None, None, None)


async def _chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    """A file's bytes, read off the event loop."""
    while chunk := await asyncio.to_thread(file.read, CHUNK):
        yield chunk


def _authorization(api_key: str | None) -> dict[str, str]:
    key = (api_key or os.environ.get("HIPPOTUNE_API_KEY", "")).strip()  # a file's line ends with a newline
    return {"Authorization": f"Bearer {header_value('an API key', key)}"} if key else {}


def _learned(task: Task) -> Task:
    if task.state in LOST:
        raise TaskFailed(task)
    return task


def _id(answer: Classification | str) -> str:
    return answer if isinstance(answer, str) else answer.id
