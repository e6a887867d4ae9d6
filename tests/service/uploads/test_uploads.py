"""The images of a task while they are looked through."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import pytest

from service.answering.scoring import INLINE_BYTES
from service.config import ServiceConfig
from service.http.lifecycle import Lifecycle
from service.http.problems import Problem
from service.uploads.decode import decode
from service.uploads.images import Upload
from service.uploads.inspection import inspected
from tests.service.support import (
    PX,
    WAIT_S,
    Running,
    archived,
    flat_png,
    picture,
    running,
    wait_for,
    zipped,
)


@pytest.fixture
def decoders() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as threads:
        yield threads


def compute(seconds: float) -> None:
    ends = time.thread_time() + seconds
    while time.thread_time() < ends:
        pass


def uploads(images: Sequence[bytes]) -> list[Upload]:
    return [Upload("a", "cat", image.__bytes__) for image in images]


def test_all_that_cannot_be_learned_are_told_at_once(server: Running) -> None:
    bodies = [picture(0), picture(1)[:-200], picture(2), b"", b"GIF89a", picture(3)]
    files = [("files", (f"{index}.png", body)) for index, body in enumerate(bodies)]
    answer = server.client.post("/tasks", files=files, data={"labels": ["cat"] * 6})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["detail"] == (
        "3 of 6 images cannot be learned: "
        "files[1] '1.png' is a damaged or truncated PNG file; it must be a JPEG, PNG or WebP image; "
        "files[3] '3.png' is empty; it must be a JPEG, PNG or WebP image; "
        "files[4] '4.png' is a GIF image, which is not among the formats known here; "
        "it must be a JPEG, PNG or WebP image"
    )
    assert answer.json()["errors"][1] == {
        "field": "files[3] '3.png'",
        "value": "is empty",
        "allowed": "be a JPEG, PNG or WebP image",
    }
    assert [error["field"][:8] for error in answer.json()["errors"]] == ["files[1]", "files[3]", "files[4]"]
    assert server.queue.depth() == 0


def test_what_is_wrong_in_the_same_way_has_its_status_and_one_alone_its_own_words(server: Running) -> None:
    def post(*bodies: bytes) -> dict[str, Any]:
        files = [("files", ("a", body)) for body in bodies]
        return server.client.post("/tasks", files=files, data={"labels": ["cat"] * len(bodies)}).json()

    assert post(b"text", picture(), b"text")["status"] == 415
    large = bytes(server.config.max_image_bytes + 1)
    assert post(large, flat_png(8_000))["status"] == 413
    assert post(large, b"text")["status"] == 422
    alone, format_ = post(picture(), b"text"), "it must be a JPEG, PNG or WebP image"
    assert alone["detail"] == f"files[1] 'a' is in none of the formats known here; {format_}"
    assert [error["field"] for error in alone["errors"]] == ["files[1] 'a'"]
    parts = [("files", ("a", body)) for body in (picture(), b"text")]
    asked = server.client.post("/classify", files=parts).json()
    assert (asked["detail"], asked["errors"]) == (alone["detail"], alone["errors"])


def test_what_an_archive_does_not_give_whole_is_listed_with_the_rest(server: Running) -> None:
    members = {
        "cat/1.png": picture(1),
        "cat/2.png": picture(2),
        "cat/3.gif": b"text",
        "cat/4.png": picture(4),
    }
    body = bytearray(archived(members, "zip"))
    for name in (b"cat/1.png", b"cat/2.png"):
        body[body.index(name) + 200] ^= 0xFF
    told = server.client.post(
        "/tasks", content=bytes(body), headers={"Content-Type": "application/zip"}
    ).json()
    assert told["status"] == 422
    assert [error["field"] for error in told["errors"]] == [
        f"files[{index}] 'cat/{name}'" for index, name in enumerate(("1.png", "2.png", "3.gif"))
    ]
    assert all("damaged inside the zip" in error["value"] for error in told["errors"][:2])


def test_a_file_is_known_by_its_name_however_long_its_folders(server: Running) -> None:
    for data in (b"text", bytes(server.config.max_image_bytes + 1)):
        files = [("files", (f"{'l' * 190}/1.png", data))]
        (error,) = server.client.post("/tasks", files=files, data={"labels": "a"}).json()["errors"]
        assert error["field"] == f"files[0] '…{'l' * 73}/1.png'"


@pytest.mark.parametrize(("images", "least"), [(100, ""), (101, "at least "), (5_000, "at least ")])
def test_a_list_of_what_cannot_be_learned_ends(server: Running, images: int, least: str) -> None:
    body = zipped(*(f"cat/{'n' * 300}{index}.png" for index in range(images)), data=b"text")
    answer = server.client.post("/tasks", content=body, headers={"Content-Type": "application/zip"})
    told = answer.json()
    assert told["detail"].startswith(f"{least}100 of {images} images cannot be learned: files[0] ")
    assert told["detail"].endswith("; and 95 more, see errors")
    assert len(told["errors"]) == 100
    assert len(answer.content) < 50_000


def test_images_that_cannot_be_learned_are_not_kept_to_be_told(
    config: ServiceConfig, decoders: Executor
) -> None:
    """A hundred of them, in the frames of as many tracebacks, would hold gigabytes."""
    gone: list[int] = []

    class Watched(bytes):
        def __del__(self) -> None:
            gone.append(1)

    damaged = [Upload("a", "cat", lambda: Watched(picture()[:-200])) for _ in range(10)]
    with pytest.raises(Problem, match="10 of 10 images") as refused:
        inspected(damaged, PX, config, Lifecycle(), decoders)
    assert len(refused.value.errors) == len(gone) == 10


def costly_decoding(monkeypatch: pytest.MonkeyPatch, ends_with: Problem | None = None) -> list[str]:
    """Let decoding take 20 ms of a processor; what fields it was called with so far."""
    looked_at: list[str] = []

    def costly(*args: Any) -> None:
        looked_at.append(args[-1])
        compute(0.02)
        if ends_with is not None:
            raise ends_with

    monkeypatch.setattr("service.uploads.inspection.decode", costly)
    return looked_at


def test_images_that_cannot_be_decoded_count_towards_the_time_and_memory_that_is_short_ends_the_search(
    config: ServiceConfig, monkeypatch: pytest.MonkeyPatch, decoders: Executor
) -> None:
    looked_at = costly_decoding(monkeypatch, Problem(422, "damaged"))
    with pytest.raises(Problem, match="images that took") as refused:
        inspected(uploads([b""] * 50), PX, replace(config, max_task_check_s=0.1), Lifecycle(), decoders)
    assert refused.value.status == 413
    assert len(looked_at) <= 6

    def short(*_: Any) -> None:
        raise Problem(422, "damaged") if looked_at.pop() else MemoryError

    monkeypatch.setattr("service.uploads.inspection.decode", short)
    looked_at[:] = ["", "damaged"]
    with pytest.raises(MemoryError):
        inspected(uploads([b""] * 50), PX, config, Lifecycle(), decoders)


def test_flat_images_of_few_bytes_cannot_keep_a_place_busy(
    config: ServiceConfig, monkeypatch: pytest.MonkeyPatch, decoders: Executor
) -> None:
    looked_at = costly_decoding(monkeypatch)
    config = replace(config, max_task_check_s=0.1)
    with pytest.raises(Problem, match="take at most 0") as refused:
        inspected(uploads([flat_png(100)] * 50), PX, config, Lifecycle(), decoders)
    assert refused.value.status == 413
    assert "it must take at most 0.1 s and one for each MiB" in refused.value.detail
    assert len(looked_at) <= 6
    large = bytes(100 * 1024)  # 0.1 s each
    assert len(inspected(uploads([large] * 20), PX, config, Lifecycle(), decoders)) == 20


def test_a_processor_that_others_keep_busy_is_not_the_tasks_fault(
    config: ServiceConfig, monkeypatch: pytest.MonkeyPatch, decoders: Executor
) -> None:
    monkeypatch.setattr("service.uploads.inspection.decode", lambda *_: time.sleep(0.02))
    config = replace(config, max_task_check_s=0.1)
    assert len(inspected(uploads([picture()] * 10), PX, config, Lifecycle(), decoders)) == 10


def test_images_of_many_tasks_are_decoded_where_all_others_are(
    taught: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each may take hundreds of megabytes, and more than a dozen tasks may come at once."""
    decoders: list[str] = []

    def noting(*args: Any) -> Any:
        decoders.append(threading.current_thread().name)
        return decode(*args)

    def submit(seed: int) -> int:
        files = [("files", (str(index), picture(10 * seed + index))) for index in range(3)]
        return taught.client.post("/tasks", files=files, data={"labels": ["cat"] * 3}).status_code

    monkeypatch.setattr("service.uploads.inspection.decode", noting)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(submit, range(4))) == {202}
    assert decoders == ["decode_0"] * 12  # the server has one thread


def test_a_request_waits_for_no_image_of_a_task_that_is_not_being_decoded(
    taught: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many tasks come, each of which has an image to look at as soon as its last one was."""
    decoded: list[str] = []
    waiting: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def slow(*args: Any) -> Any:
        begun.set()
        go_on.wait(WAIT_S)
        decoded.append(args[-1])
        return decode(*args)

    def noting(labels: Sequence[str]) -> None:
        waiting.extend(labels)

    def submit(seed: int) -> int:
        files = [("files", (str(index), picture(10 * seed + index))) for index in range(3)]
        return taught.client.post("/tasks", files=files, data={"labels": [str(seed)] * 3}).status_code

    monkeypatch.setattr("service.uploads.inspection.decode", slow)
    monkeypatch.setattr("service.answering.scoring.decode", slow)
    monkeypatch.setattr("service.uploads.images.check_together", noting)
    large, engine = picture(size=(120, 120)), taught.services.engine
    assert len(large) > INLINE_BYTES
    with ThreadPoolExecutor() as pool:
        tasks = [pool.submit(submit, seed) for seed in range(4)]
        wait_for(lambda: len(waiting) == 12 and begun.is_set())
        asked = pool.submit(taught.client.post, "/classify", content=large)
        wait_for(lambda: engine.admitted == 1)
        assert taught.client.get("/healthz").is_success  # the event loop has handed it on
        go_on.set()
        assert asked.result().status_code == 200
        assert {task.result() for task in tasks} == {202}
    assert decoded.index("body") == 1  # the server has one thread, which had begun with an image of a task
    assert len(decoded) == 13


def test_a_stop_waits_for_no_task_that_takes_long_to_look_through(
    config: ServiceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[str] = []

    def slow(*args: Any) -> None:
        looked_at.append(args[-1])
        time.sleep(0.05)

    monkeypatch.setattr("service.uploads.inspection.decode", slow)
    files = [("files", (str(index), picture())) for index in range(400)]  # 20 s
    with ThreadPoolExecutor() as pool:
        with running(config) as server:
            handed_in = pool.submit(
                httpx.post, f"{server.url}/tasks", files=files, data={"labels": ["cat"] * 400}, timeout=30
            )
            wait_for(lambda: looked_at)
            began = time.monotonic()
        assert time.monotonic() - began < 10
        refused = handed_in.result()
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert "shutting down" in refused.json()["detail"]
    assert server.queue.depth() == 0
