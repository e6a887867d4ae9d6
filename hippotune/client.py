"""The blocking client. It sends the calls of `hippotune.calls`, as `hippotune.async_client` does.

>>> from hippotune import Client
>>> with Client("http://127.0.0.1:8000") as client:            # doctest: +SKIP
...     task = client.wait(client.submit("flowers/", name="flowers"))
...     client.classify("rose.jpg", tmax=2).label
'rose'
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from functools import partial
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, Unpack

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


class Client:
    """A server, called from blocking code. Threads may share one client, and forked processes.

    Calls raise Unreachable when no server answers, Unanswered when it takes too long, Refused when it does not
    take the request. 429, 503 and broken connections are tried again up to `retries` times, waiting as long as
    Retry-After says. `timeout` is in seconds, to connect and to wait for the next bytes of an answer, which a
    server may send one by one; `submit` adds a second for each MiB it sends. None waits for ever. `api_key` is
    what a server with keys asks for; HIPPOTUNE_API_KEY if left out.
    Proxies that the environment names are asked for other machines alone.
    Raises ValueError for an address or a key that cannot be one, for a timeout or retries that make no sense, and for
    proxies and certificates of the environment that cannot be used.
    """

    def __init__(
        self, url: str = URL, *, api_key: str | None = None, timeout: float | None = 60.0, retries: int = 5
    ) -> None:
        self._timeout, self._retries = patience(timeout, retries)
        self._connect = partial(opened, httpx.Client, url, authorization(api_key))
        self._http, self._process = self._connect(), os.getpid()

    def classify(self, image: Image, **ask: Unpack[Ask]) -> Classification:
        """Classify one encoded image within a budget."""
        return self._run(calls.classify(image, ask))

    def classify_many(self, images: Iterable[Image], **ask: Unpack[Ask]) -> list[Classification]:
        """Classify several images in one request, in order."""
        return self._run(calls.classify_many(images, ask))

    def submit(self, source: TaskSource, name: str = "", idempotency_key: str | None = None) -> Task:
        """Hand in a task to be learned; returns once it is queued.

        Raises OSError or ValueError for a source that cannot be read.
        """
        if not isinstance(source, str | PathLike):
            return self._run(calls.submit_samples(source, name, idempotency_key))
        with as_archive(Path(source)) as (archive, media):
            return self._run(calls.submit_archive(archive, media, name, idempotency_key))

    def feedback(self, answer: Classification | str, label: str) -> Task:
        """Correct an answer, given itself or by its id: teaches the head, without sending the image again."""
        return self._run(calls.feedback(answer, label))

    def task(self, task: Task | str) -> Task:
        """One task as it stands."""
        return self._run(calls.task(task))

    def tasks(self, state: str | None = None, limit: int = MOST_TASKS) -> list[Task]:
        """The newest tasks, newest first; with `state`, those of the newest 1000 that are in it."""
        return self._run(calls.tasks(state, limit))

    def remove(self, task: Task | str) -> Task:
        """Cancel a task that waits or has failed; have one that was learned forgotten: `watch` it until it is."""
        return self._run(calls.remove(task))

    def retry(self, task: Task | str) -> Task:
        """Queue a failed task again."""
        return self._run(calls.retry(task))

    def watch(self, task: Task | str, timeout: float | None = None) -> Iterator[Task]:
        """A task each time it changed, until it ended. Raises TaskUnfinished after `timeout` seconds.

        That is looked at between two questions to the server, each of which has the patience of the client.
        """
        seen, deadline = None, Deadline(timeout)
        while seen is None or not seen.ended:
            if (found := self.task(task)) != seen:
                yield (seen := found)
            else:
                time.sleep(deadline.pause(found))

    def wait(self, task: Task | str, timeout: float | None = None) -> Task:
        """Wait until a task is consolidated. Raises TaskFailed when it never will be, TaskUnfinished after `timeout`
        seconds.
        """
        return learned(list(self.watch(task, timeout))[-1])

    def labels(self, contains: str = "", version: int | None = None) -> Iterator[Label]:
        """The labels that contain a text, sorted, of the version that is served or of another.

        Upper and lower case are one. They are asked for as they are needed, all of the same version.
        """
        after, full = "", True
        while full:
            version, page = self._run(calls.labels(contains, version, after))
            yield from page
            full = len(page) == calls.PAGE
            after = page[-1].label if page else ""

    def rename_label(self, old: str, new: str, idempotency_key: str | None = None) -> Task:
        """Order that a class be called otherwise, or be merged with the one that is called so: `wait` until it is."""
        return self._run(calls.rename_label(old, new, idempotency_key))

    def forget_label(self, label: str, idempotency_key: str | None = None) -> Task:
        """Order that a class be forgotten, while all others stay as they are: `wait` until it is."""
        return self._run(calls.forget_label(label, idempotency_key))

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
