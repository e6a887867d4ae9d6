"""The async client: the calls of `hippotune.client`, awaited.

>>> from hippotune import AsyncClient
>>> async with AsyncClient("http://127.0.0.1:8000") as client:  # doctest: +SKIP
...     (await client.classify("rose.jpg", tmax=2)).label
'rose'
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeVar, Unpack

import httpx

from hippotune import calls
from hippotune.calls import MOST_TASKS, URL, Ask, Call, TaskSource
from hippotune.checks import authorization, patience
from hippotune.connecting import opened
from hippotune.image_files import Image
from hippotune.outcomes import Outcome, Tries
from hippotune.packing import as_archive
from hippotune.records import Classification, Label, Task, Version
from hippotune.waiting import Deadline, learned

T = TypeVar("T")

CHUNK = 1 << 20


class AsyncClient:
    """The same server, called from async code; every method means what it means on Client.

    Files are read, and folders packed, in threads: the event loop goes on meanwhile. It belongs to the loop that it was
    first used in: `asyncio.run` makes another each time.
    """

    def __init__(
        self, url: str = URL, *, api_key: str | None = None, timeout: float | None = 60.0, retries: int = 5
    ) -> None:
        self._timeout, self._retries = patience(timeout, retries)
        self._http = opened(httpx.AsyncClient, url, authorization(api_key))

    async def classify(self, image: Image, **ask: Unpack[Ask]) -> Classification:
        """Classify one encoded image within a budget."""
        if isinstance(image, bytes):
            return await self._run(calls.classify(image, ask))
        return await self._run(await asyncio.to_thread(calls.classify, image, ask))

    async def classify_many(self, images: Iterable[Image], **ask: Unpack[Ask]) -> list[Classification]:
        """Classify several images in one request, in order."""
        return await self._run(await asyncio.to_thread(calls.classify_many, list(images), ask))

    async def submit(self, source: TaskSource, name: str = "", idempotency_key: str | None = None) -> Task:
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
        return await self._run(calls.feedback(answer, label))

    async def task(self, task: Task | str) -> Task:
        """One task as it stands."""
        return await self._run(calls.task(task))

    async def tasks(self, state: str | None = None, limit: int = MOST_TASKS) -> list[Task]:
        """The newest tasks, newest first; with `state`, those of the newest 1000 that are in it."""
        return await self._run(calls.tasks(state, limit))

    async def remove(self, task: Task | str) -> Task:
        """Cancel a task that waits or has failed; have one that was learned forgotten: `watch` it until it is."""
        return await self._run(calls.remove(task))

    async def retry(self, task: Task | str) -> Task:
        """Queue a failed task again."""
        return await self._run(calls.retry(task))

    async def watch(self, task: Task | str, timeout: float | None = None) -> AsyncIterator[Task]:
        """A task each time it changed, until it ended. Raises TaskUnfinished after `timeout` seconds."""
        seen, deadline = None, Deadline(timeout)
        while seen is None or not seen.ended:
            if (found := await self.task(task)) != seen:
                yield (seen := found)
            else:
                await asyncio.sleep(deadline.pause(found))

    async def wait(self, task: Task | str, timeout: float | None = None) -> Task:
        """Wait until a task is consolidated. Raises TaskFailed when it never will be, TaskUnfinished after `timeout`
        seconds.
        """
        return learned([seen async for seen in self.watch(task, timeout)][-1])

    async def labels(self, contains: str = "", version: int | None = None) -> AsyncIterator[Label]:
        """The labels that contain a text, sorted, of the version that is served or of another."""
        after, full = "", True
        while full:
            version, page = await self._run(calls.labels(contains, version, after))
            for label in page:
                yield label
            full = len(page) == calls.PAGE
            after = page[-1].label if page else ""

    async def rename_label(self, old: str, new: str, idempotency_key: str | None = None) -> Task:
        """Order that a class be called otherwise, or be merged with the one that is called so: `wait` until it is."""
        return await self._run(calls.rename_label(old, new, idempotency_key))

    async def forget_label(self, label: str, idempotency_key: str | None = None) -> Task:
        """Order that a class be forgotten, while all others stay as they are: `wait` until it is."""
        return await self._run(calls.forget_label(label, idempotency_key))

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
