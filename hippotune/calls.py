"""The HTTP contract as values: what to send, how to read the answer. Sends nothing."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypedDict, TypeVar
from urllib.parse import quote

import httpx

from hippotune import checks
from hippotune.errors import Unreachable
from hippotune.image_files import Image, image_bytes, media_type, part_name
from hippotune.outcomes import Outcome, lost, not_ours, refused
from hippotune.records import Classification, Label, Task, Version

T = TypeVar("T")

URL = "http://127.0.0.1:8000"
"""Where a server listens that was told nothing else."""
MIB = 1 << 20
MOST_TASKS = 1000
"""The server lists no more at once."""
PAGE = 1000
"""Labels asked for at once."""
JSON = {"Content-Type": "application/json"}

FormFile = tuple[str, tuple[str, bytes, str]]
"""A field of a form; its file's name, content and media type."""
TaskSource = str | PathLike[str] | Iterable[tuple[Image, str]]
"""What a task is made of: a folder `label/image`, a zip or tar of one, or (image, label) pairs."""


class Ask(TypedDict, total=False):
    """What a classification may be asked for; what is left out, or None, the server decides.

    tmax: loop steps at most, from 1.  epsilon: stop once a step moves the memory by less.
    topk: slots recalled a step.  labels: choose among these only.  top: how many labels to answer with.
    keep: share of image tokens kept apart, 0.5 to 1; less is faster.  budget_ms: as large a keep as meets this time.
    explain: add the retrieval trace.  timeout_ms: the server gives up after so long, with 504.
    """

    tmax: int
    epsilon: float
    topk: int
    keep: float
    budget_ms: float
    labels: Iterable[str]
    top: int
    explain: bool
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request and the reading of its answer. A `Path` as body is streamed from its file.

    looked_through: bytes that the server looks through before it answers, which may take it a second for each MiB.
    """

    method: str
    path: str
    parse: Callable[[httpx.Response], T]
    params: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Path | None = None
    files: tuple[FormFile, ...] | None = None
    data: Mapping[str, list[str]] | None = None
    looked_through: int = 0

    def answer_s(self, timeout: float | None) -> float | None:
        """Seconds to wait for the answer, where one to a smaller call may take `timeout`; None for ever."""
        return None if timeout is None else timeout + self.looked_through / MIB

    def request(self, timeout: float | None) -> dict[str, Any]:
        """Arguments of httpx's `build_request`, all but the content. Raises ValueError for what no address can hold."""
        try:
            url = httpx.URL(self.path, params=self.params)
        except httpx.InvalidURL as error:
            told = "an address has no room for all that is asked for: name fewer labels, in several requests"
            raise ValueError(told) from error
        return {
            "method": self.method,
            "url": url,
            "headers": self.headers,
            "files": self.files,
            "data": self.data,
            "timeout": httpx.Timeout(timeout, read=self.answer_s(timeout)),
        }

    @contextmanager
    def opened(self) -> Iterator[bytes | BinaryIO | None]:
        """The content to send: bytes, or its file from the start. A fresh one for each try."""
        if isinstance(self.body, Path):
            with self.body.open("rb") as file:
                yield file
        else:
            yield self.body

    def finish(self, outcome: Outcome) -> T:
        """The parsed answer. Raises Refused, Unreachable or Unanswered."""
        if isinstance(outcome, httpx.RequestError):
            raise lost(outcome) from outcome
        if not outcome.is_success:
            raise refused(outcome)
        try:
            return self.parse(outcome)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise Unreachable(not_ours(outcome)) from error


def classify(image: Image, ask: Ask) -> Call[Classification]:
    """One image as a raw body: the fast path."""
    body = image_bytes(image)
    headers = {"Content-Type": media_type(body)}
    return Call("POST", "/classify", _classification, _params(ask), headers, body)


def classify_many(images: Iterable[Image], ask: Ask) -> Call[list[Classification]]:
    """Many images in one multipart request; they share one version and one budget.

    Raises ValueError where there is none, and where there is a single one that is in no list.
    """

    def parse(response: httpx.Response) -> list[Classification]:
        answer = response.json()  # one image's answer stands alone
        return [Classification.parse(result) for result in answer.get("results", [answer])]

    if isinstance(images, str | bytes | PathLike):  # the first two would be taken apart
        raise ValueError("images is a single one; it must be several, or go to `classify`")
    files = _files(images)
    if not files:
        raise ValueError("there is no image to classify")
    return Call("POST", "/classify", parse, params=_params(ask), files=files)


def submit_samples(samples: Iterable[tuple[Image, str]], name: str, key: str | None) -> Call[Task]:
    """Labelled images as multipart `files` and `labels`, in the same order. Raises ValueError when there is none."""
    pairs = list(samples)
    if not pairs:
        raise ValueError("a task of no images teaches nothing")
    files = _files(image for image, _ in pairs)
    return Call(
        "POST",
        "/tasks",
        _task,
        params={"name": name},
        headers=_idempotent(key),
        files=files,
        data={"labels": [label for _, label in pairs]},
        looked_through=sum(len(body) for _, (_, body, _) in files),
    )


def submit_archive(archive: Path, media: str, name: str, key: str | None) -> Call[Task]:
    """A zip or tar in ImageFolder layout, streamed from its file."""
    size = archive.stat().st_size
    headers = _idempotent(key) | {"Content-Type": media, "Content-Length": str(size)}
    return Call("POST", "/tasks", _task, {"name": name}, headers, body=archive, looked_through=size)


def feedback(answer: Classification | str, label: str) -> Call[Task]:
    """What an answered image, or the id of its answer, really showed. Naturally idempotent: the id is the key."""
    body = {"id": answer if isinstance(answer, str) else answer.id, "label": label}
    return Call("POST", "/feedback", _task, headers=JSON, body=json.dumps(body).encode())


def task(task: Task | str) -> Call[Task]:
    """One task."""
    return Call("GET", _task_path(task), _task)


def tasks(state: str | None = None, limit: int = MOST_TASKS) -> Call[list[Task]]:
    """The newest tasks, newest first; of one state, those of the newest `MOST_TASKS`."""
    return Call(
        "GET",
        "/tasks",
        lambda answer: [Task.parse(item) for item in answer.json()["tasks"]],
        params={"limit": str(limit)} | ({} if state is None else {"state": state}),
    )


def remove(task: Task | str) -> Call[Task]:
    """Cancel a task that waits or has failed, or have a learned one forgotten."""
    return Call("DELETE", _task_path(task), _task)


def retry(task: Task | str) -> Call[Task]:
    """Queue a failed task again."""
    return Call("POST", f"{_task_path(task)}/retry", _task)


def labels(contains: str, version: int | None, after: str) -> Call[tuple[int | None, list[Label]]]:
    """The first `PAGE` labels that come after one, and the version that knows them, None before there is one."""

    def parse(response: httpx.Response) -> tuple[int | None, list[Label]]:
        answer = response.json()
        return answer["version"], [Label.parse(each) for each in answer["labels"]]

    params = {"contains": contains, "after": after, "limit": str(PAGE)}
    return Call("GET", "/labels", parse, params if version is None else params | {"version": str(version)})


def rename_label(old: str, new: str, key: str | None) -> Call[Task]:
    """An order to call a class otherwise, or to merge it with the one that is called so."""
    headers = _idempotent(key) | JSON
    return Call("PATCH", _label_path(old), _task, headers=headers, body=json.dumps({"label": new}).encode())


def forget_label(label: str, key: str | None) -> Call[Task]:
    """An order to forget a class."""
    return Call("DELETE", _label_path(label), _task, headers=_idempotent(key))


def version(number: int) -> Call[Version]:
    """One version."""
    return Call("GET", f"/versions/{number}", _version)


def versions(labels: bool) -> Call[list[Version]]:
    """Versions, newest first: the one that answers is `current`, the canary has its share as `canary`.

    labels: with all that each knows.
    """

    def parse(response: httpx.Response) -> list[Version]:
        answer = response.json()
        canary = answer.get("canary")
        shares = {canary["version"]: canary["share"]} if canary else {}
        return [Version.parse(each | {"canary": shares.get(each["version"])}) for each in answer["versions"]]

    return Call("GET", "/versions", parse, params={} if labels else {"labels": "false"})


def activate(number: int, canary: float | None) -> Call[Version]:
    """Roll back or forward to a version, or let it answer a share of the requests."""
    params = {} if canary is None else {"canary": str(canary)}
    return Call("POST", f"/versions/{number}/activate", _version, params=params)


def ready() -> Call[bool]:
    """Whether the server is warm and able to answer."""
    return Call("GET", "/readyz", lambda answer: answer.is_success)


def _task_path(task: Task | str) -> str:
    """An id may be anything that somebody typed. Raises ValueError for nothing."""
    return f"/tasks/{quote(checks.task_id(task), safe='')}"


def _label_path(label: str) -> str:
    """A blank, which servers trim, behind what would be no step of a path but a way to another.

    Raises ValueError for nothing.
    """
    return f"/labels/{quote(checks.label(label), safe='')}{'%20' if label in ('.', '..') else ''}"


def _classification(response: httpx.Response) -> Classification:
    return Classification.parse(response.json())


def _task(response: httpx.Response) -> Task:
    return Task.parse(response.json())


def _version(response: httpx.Response) -> Version:
    return Version.parse(response.json())


def _params(ask: Ask) -> dict[str, str | Sequence[str]]:
    """As query text; `labels` is repeated, since a label may hold a comma."""
    texts: dict[str, str | Sequence[str]] = {}
    for name, value in ask.items():
        if isinstance(value, Iterable):
            several = [value] if isinstance(value, str) else list(value)
            if not any(several):
                raise ValueError(f"{name} is empty; it must name at least one, or be left out")
            texts[name] = several
        elif value is not None:
            texts[name] = str(value).lower()
    return texts


def _files(images: Iterable[Image]) -> tuple[FormFile, ...]:
    return tuple(
        ("files", (part_name(image, place), body := image_bytes(image), media_type(body)))
        for place, image in enumerate(images)
    )


def _idempotent(key: str | None) -> dict[str, str]:
    """A key made here already makes retries of this one call safe; a caller's own key spans processes."""
    return {"Idempotency-Key": checks.header_value("an idempotency key", key or uuid.uuid4().hex)}
