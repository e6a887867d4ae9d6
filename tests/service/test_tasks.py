"""/tasks against a real queue, with the trainer's side played by the queue's own calls."""

from __future__ import annotations

import io
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest

from exchange.records import TaskChange, TaskState
from service.config import MIB, ServiceConfig
from service.routes import events
from tests.exchange.stored import path_of
from tests.exchange.working import take
from tests.service.support import WAIT_S, Running, archived, picture, random_version, running, wait_for

FILES = [("files", ("a", picture(1))), ("files", ("b", picture(2, "JPEG"))), ("files", ("c", picture(3)))]
LABELS = {"labels": ["dog", "cat", "dog"]}


def submit(server: Running, **arguments: Any) -> httpx.Response:
    return server.client.post("/tasks", files=FILES, data=LABELS, **arguments)


def test_files_and_labels_become_a_durable_task(taught: Running) -> None:
    response = submit(taught, params={"name": "  pets "})
    assert response.status_code == 202
    task = response.json()
    assert response.headers["location"] == f"/tasks/{task['id']}"
    assert (task["name"], task["state"], task["images"]) == ("pets", "queued", 3)
    assert task["labels"] == ["cat", "dog"]
    assert taught.client.get(response.headers["location"]).json() == task
    assert task in taught.client.get("/tasks").json()["tasks"]
    claim = take(taught.queue)
    assert claim is not None
    assert [sample.label for sample in claim.samples] == ["dog", "cat", "dog"]
    stored = [taught.services.blobs.get(sample.blob) for sample in claim.samples]
    assert stored == [picture(1), picture(2, "JPEG"), picture(3)]
    taught.queue.finish(claim)


def test_files_may_be_called_file(taught: Running) -> None:
    files = [("file", part) for _, part in FILES]
    response = taught.client.post("/tasks", files=files, data=LABELS)
    assert response.status_code == 202
    assert response.json()["images"] == 3


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_in_imagefolder_layout(taught: Running, kind: str) -> None:
    buffer = io.BytesIO()
    members = {
        "cat/1.png": picture(1),
        "dog/2.png": picture(2),
        "cat/.DS_Store": b"x",
        "__MACOSX/cat/1.png": b"x",
    }
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.mkdir("cat")
            for name, data in members.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, data in members.items():
                info = tarfile.TarInfo(f"./{name}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    media = "application/zip" if kind == "zip" else "application/x-tar"
    response = taught.client.post("/tasks", content=buffer.getvalue(), headers={"Content-Type": media})
    assert response.status_code == 202, response.text
    task = response.json()
    assert (task["name"], task["images"], task["labels"]) == ("cat, dog", 2, ["cat", "dog"])


def test_the_same_key_gives_the_same_task(taught: Running) -> None:
    key = {"Idempotency-Key": "one"}
    first, again = submit(taught, headers=key), submit(taught, headers=key)
    assert first.json() == again.json()
    other = taught.client.post("/tasks", files=FILES[:1], data={"labels": ["dog"]}, headers=key)
    assert other.status_code == 422


def test_what_a_key_has_made_is_found_without_decoding_or_storing_anything(config: ServiceConfig) -> None:
    key = {"Idempotency-Key": "one"}
    with running(config) as server:
        task = submit(server, headers=key).json()
        blobs = server.services.blobs.root
        blobs.rename(blobs.with_name("elsewhere"))
        held = threading.Event()
        for _ in range(server.services.threads):
            server.services.decoders.submit(held.wait)
        try:
            assert submit(server, headers=key).json() == task
            named = submit(server, headers=key, params={"name": "cat, dog"})
            assert named.json() == task, "as it is named where no name is given"
            for other in ({"params": {"name": "pets"}}, {"data": {"labels": ["dog", "cat", "cat"]}}):
                arguments = {"files": FILES, "data": LABELS, "headers": key, **other}
                assert server.client.post("/tasks", **arguments).status_code == 422
        finally:
            held.set()
        assert not blobs.exists()


def test_images_of_a_failed_task_are_stored_again_so_that_it_can_be_retried(taught: Running) -> None:
    key = {"Idempotency-Key": "failed"}
    task = submit(taught, headers=key).json()["id"]
    claim = take(taught.queue)
    assert claim is not None
    taught.queue.fail(claim, "image 3 is blank")
    path_of(taught.services.blobs, claim.samples[0].blob).unlink()
    assert submit(taught, headers=key).json()["state"] == "failed"
    assert taught.client.post(f"/tasks/{task}/retry").status_code == 202


def test_a_request_that_comes_again_after_its_task_was_deleted_makes_a_new_one(taught: Running) -> None:
    key = {"Idempotency-Key": "deleted"}
    first = submit(taught, headers=key).json()["id"]
    assert taught.client.delete(f"/tasks/{first}").json()["state"] == "cancelled"
    again = submit(taught, headers=key).json()
    assert (again["state"], again["id"] != first) == ("queued", True)
    assert submit(taught, headers=key).json() == again


def test_a_key_is_taken_from_the_first_byte_of_its_body_on(taught: Running) -> None:
    key = {"Idempotency-Key": "two", "Content-Type": "application/x-tar"}
    body = archived({"cat/1.png": picture()})
    again = threading.Event()

    def slowly() -> Iterator[bytes]:
        yield body[:100]
        again.wait(3 * WAIT_S)
        yield body[100:]

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(httpx.post, f"{taught.url}/tasks", content=slowly(), headers=key, timeout=WAIT_S)
        while not taught.queue.redis.exists(taught.queue.keys.handling("two")):
            time.sleep(0.01)
        early = taught.client.post("/tasks", content=body, headers=key)
        large = taught.client.post("/tasks", content=bytes(40 * MIB), headers=key)
        again.set()
    assert (early.status_code, early.headers["retry-after"]) == (409, "1")
    assert (large.status_code, large.headers["retry-after"]) == (409, "3"), (
        "more takes longer to look through"
    )
    late = taught.client.post("/tasks", content=body, headers=key)
    assert first.result().json()["id"] == late.json()["id"]


def test_delete_cancels_what_is_queued_and_orders_what_was_learned_to_be_forgotten(taught: Running) -> None:
    task = submit(taught).json()["id"]
    cancelled = taught.client.delete(f"/tasks/{task}")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert taught.client.delete(f"/tasks/{task}").json() == cancelled.json()
    learned = submit(taught).json()["id"]
    claim = take(taught.queue)
    assert claim is not None
    taught.queue.update(learned, TaskChange(state=TaskState.CONSOLIDATED))
    taught.queue.finish(claim)
    accepted = taught.client.delete(f"/tasks/{learned}")
    assert (accepted.status_code, accepted.json()["state"]) == (202, "forgetting")
    assert accepted.headers["location"] == f"/tasks/{learned}"
    order = take(taught.queue)
    assert order is not None
    taught.queue.report(order, TaskChange(state=TaskState.FORGOTTEN))
    taught.queue.finish(order)
    done = taught.client.delete(f"/tasks/{learned}")
    assert (done.status_code, done.json()["state"]) == (200, "forgotten")
    assert taught.client.delete("/tasks/nobody").status_code == 404


def test_delete_forgets_again_what_the_version_served_knows_again(config: ServiceConfig) -> None:
    with running(config) as server:
        task = submit(server).json()["id"]
        assert server.client.delete(f"/tasks/{task}").json()["state"] == "cancelled"
        version = random_version(server.backbone, ("cat", "dog"))
        slots = version.pools.slots
        server.serve(replace(version, pools=replace(version.pools, slot_tasks=(task,) * slots)))
        for _ in range(2):
            again = server.client.delete(f"/tasks/{task}")
            assert (again.status_code, again.json()["state"]) == (202, "forgetting")
        other = submit(server).json()["id"]
        for _ in range(2):
            assert server.client.delete(f"/tasks/{other}").json()["state"] == "cancelled"


def test_delete_forgets_what_the_version_served_knows_though_it_has_no_record(config: ServiceConfig) -> None:
    with running(config) as server:
        manifest = server.serve(random_version(server.backbone, ("cat", "dog")))
        task, *_ = manifest.consolidated
        assert server.client.get("/tasks").json() == {"tasks": []}
        for _ in range(2):
            accepted = server.client.delete(f"/tasks/{task}")
            assert (accepted.status_code, accepted.json()["state"]) == (202, "forgetting")
        [listed] = server.client.get("/tasks").json()["tasks"]
        assert (listed["id"], listed["name"], listed["labels"], listed["images"]) == (task, "", [], 0)
        assert listed["created_at"] == pytest.approx(manifest.created_at, abs=1e-3)
        assert server.queue.depth() == 1
        order = take(server.queue, block_ms=1000)
        assert order is not None
        assert (order.task.id, order.task.state) == (task, TaskState.FORGETTING)
        assert server.client.delete("/tasks/nobody").status_code == 404


def test_delete_tells_what_it_did_while_the_disk_does_not_tell_the_rest(config: ServiceConfig) -> None:
    with running(config) as server:
        versions = [
            server.serve(random_version(server.backbone, ("cat", "dog"), seed=seed)).version
            for seed in range(2)
        ]
        for version in versions:
            (config.store / "versions" / f"{version:06d}.json").unlink()
        task = submit(server).json()["id"]
        cancelled = server.client.delete(f"/tasks/{task}")
        assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled"), "known from memory"
        server.queue.redis.set(server.registry.keys.pointer, versions[0])
        task = submit(server).json()["id"]
        untold = server.client.delete(f"/tasks/{task}")
        assert untold.status_code == 503
        assert "the task is cancelled" in untold.json()["detail"]
        assert server.client.get(f"/tasks/{task}").json()["state"] == "cancelled"


def test_a_dead_letter_can_be_tried_again(taught: Running) -> None:
    task = submit(taught).json()["id"]
    assert taught.client.post(f"/tasks/{task}/retry").json()["state"] == "queued"
    claim = take(taught.queue)
    assert claim is not None
    assert taught.client.post(f"/tasks/{task}/retry").status_code == 409
    taught.queue.fail(claim, "image 3 is blank")
    [dead] = taught.client.get("/tasks", params={"state": "failed"}).json()["tasks"]
    assert (dead["id"], dead["error"]) == (task, "image 3 is blank")
    again = taught.client.post(f"/tasks/{task}/retry")
    assert (again.status_code, again.json()["state"], again.json()["error"]) == (202, "queued", None)
    claim = take(taught.queue)
    assert claim is not None
    taught.queue.fail(claim, "still blank")
    path_of(taught.services.blobs, claim.samples[0].blob).unlink()
    gone = taught.client.post(f"/tasks/{task}/retry")
    assert (gone.status_code, "submit it again" in gone.json()["detail"]) == (409, True)
    taught.client.delete(f"/tasks/{task}")


def test_a_store_that_is_away_says_to_try_again_and_not_to_submit_again(taught: Running) -> None:
    task = submit(taught).json()["id"]
    claim = take(taught.queue)
    assert claim is not None
    taught.queue.fail(claim, "image 3 is blank")
    blobs = taught.services.blobs.root
    away = blobs.rename(blobs.with_name("unmounted"))
    try:
        answer = taught.client.post(f"/tasks/{task}/retry")
    finally:
        away.rename(blobs)
    assert (answer.status_code, "cannot be read" in answer.json()["detail"]) == (503, True)
    assert answer.headers["retry-after"]
    assert taught.client.post(f"/tasks/{task}/retry").status_code == 202


def test_events_tell_every_change_until_the_end(taught: Running) -> None:
    task = submit(taught).json()["id"]
    seen: list[dict[str, Any]] = []
    told = threading.Event()

    def listen() -> None:
        with (
            httpx.Client(base_url=taught.url, timeout=20) as client,
            client.stream("GET", f"/tasks/{task}/events") as lines,
        ):
            assert lines.headers["content-type"].startswith("text/event-stream")
            for line in lines.iter_lines():
                if line.startswith("data: "):
                    seen.append(orjson.loads(line.removeprefix("data: ")))
                    told.set()

    listener = threading.Thread(target=listen)
    listener.start()
    assert told.wait(WAIT_S)
    taught.queue.update(task, TaskChange(state=TaskState.LEARNING, progress=0.5, metrics={"loss": 0.25}))
    taught.queue.update(task, TaskChange(state=TaskState.CONSOLIDATED, progress=1.0))
    listener.join(WAIT_S)
    assert not listener.is_alive()
    assert [event["state"] for event in seen] == ["queued", "learning", "consolidated"]
    assert seen[-1]["progress"] == 1
    wait_for(lambda: taught.services.streams.borrowed_tokens == 0)
    with taught.client.stream("GET", f"/tasks/{task}/events") as late:
        assert "consolidated" in late.read().decode()
    past_all = {"Last-Event-ID": "9" * 19}
    assert taught.client.get(f"/tasks/{task}/events", headers=past_all).status_code == 204
    for no_id in ("9" * 20, "1-" + "9" * 20, "$", "1-x"):
        assert taught.client.get(f"/tasks/{task}/events", headers={"Last-Event-ID": no_id}).status_code == 422


def test_a_stream_ends_with_its_task_whatever_it_goes_on_after(
    taught: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "SILENCE_S", 0.1)
    task = submit(taught).json()["id"]
    with taught.client.stream("GET", f"/tasks/{task}/events", headers={"Last-Event-ID": "9" * 13}) as stream:
        taught.client.delete(f"/tasks/{task}")
        assert "event" not in stream.read().decode()


def told(server: Running, task: str, after: str | None = None) -> tuple[int, list[str], str]:
    """The status of a stream of events that ends, the states it tells, and the id of the last event."""
    headers = {} if after is None else {"Last-Event-ID": after}
    answer = server.client.get(f"/tasks/{task}/events", headers=headers)
    lines = [line.partition(": ") for line in answer.text.splitlines()]
    ids = [value for name, _, value in lines if name == "id"]
    states = [orjson.loads(value)["state"] for name, _, value in lines if name == "data"]
    return answer.status_code, states, (ids or [""])[-1]


def test_who_comes_back_after_the_end_need_not_come_again(taught: Running) -> None:
    task = submit(taught).json()["id"]
    taught.client.delete(f"/tasks/{task}")
    status, states, last = told(taught, task)
    assert (status, states) == (200, ["queued", "cancelled"])
    assert told(taught, task, last) == (204, [], "")


def test_a_task_whose_events_are_gone_is_told_once_as_it_is(taught: Running) -> None:
    task = submit(taught).json()["id"]
    [queued] = taught.queue.events(task)
    time.sleep(0.002)  # ids count milliseconds
    taught.client.delete(f"/tasks/{task}")
    taught.queue.redis.delete(taught.queue.keys.events(task))
    status, states, last = told(taught, task)
    assert (status, states) == (200, ["cancelled"])
    assert told(taught, task, queued.id) == (200, ["cancelled"], last), "what was missed"
    assert told(taught, task, last) == (204, [], "")


def test_a_stream_that_stays_silent_is_kept_open(taught: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SILENCE_S", 0.0)
    task = submit(taught).json()["id"]
    with taught.client.stream("GET", f"/tasks/{task}/events") as lines:
        assert any(line == ": ping" for line in lines.iter_lines())


def test_forms_together_hold_a_bounded_memory(config: ServiceConfig) -> None:
    with running(replace(config, max_task_bytes=200_000)) as server:
        with server.services.uploads.hold() as others:
            others.take(390_000)
            full = server.client.post(
                "/tasks", files=[("files", ("a.png", bytes(20_000)))], data={"labels": "a"}
            )
            assert full.status_code == 429
            assert full.headers["retry-after"]
        ours = server.client.post("/tasks", files=[("files", ("a.png", picture()))], data={"labels": "a"})
        assert ours.status_code == 202
        assert server.services.uploads.held == 0


def test_a_full_queue_is_429_and_says_when_to_come_back(config: ServiceConfig) -> None:
    with running(config) as server:
        assert (
            server.client.post(
                "/classify", content=picture(), headers={"Content-Type": "image/png"}
            ).status_code
            == 409
        )
        for _ in range(config.queue.capacity):
            assert submit(server).status_code == 202
        full = submit(server)
        assert full.status_code == 429
        assert int(full.headers["retry-after"]) >= 1
        assert full.headers["content-type"] == "application/problem+json"
        assert len(server.queue.newest()) == config.queue.capacity


def test_a_full_queue_stores_nothing_and_still_knows_whom_it_accepted(config: ServiceConfig) -> None:
    def stored() -> set[str]:
        return {path.name for path in (config.store / "blobs").rglob("*") if path.is_file()}

    def submit_one(key: str, seed: int) -> httpx.Response:
        one = {"files": ("a", picture(seed))}
        return server.client.post(
            "/tasks", files=one, data={"labels": "cat"}, headers={"Idempotency-Key": key}
        )

    with running(config) as server:
        accepted = [submit_one(f"key-{seed}", seed) for seed in range(config.queue.capacity)]
        before = stored()
        for seed in range(100, 103):
            assert submit_one(f"key-{seed}", seed).status_code == 429
        assert stored() == before
        assert submit_one("key-0", 0).json()["id"] == accepted[0].json()["id"]
        assert submit_one("key-0", 1).status_code == 422, "the key of another body"
