"""Health, metrics, the API document, and stopping in the right order."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import NoReturn

import httpx
import jsonschema
import pytest
from prometheus_client import generate_latest

from exchange.records import TaskRecord, TaskState
from hippotune import calls
from service.config import ServiceConfig
from service.engine.batching import Engine
from service.engine.pace import Pace
from service.engine.snapshot import Served
from service.metrics import Metrics
from tests.service.support import WAIT_S, Running, picture, random_version, running, wait_for

PNG = {"Content-Type": "image/png"}
NAMES = (
    "hippotune_request_duration_seconds", "hippotune_stage_duration_seconds", "hippotune_batch_size",
    "hippotune_retrieval_steps", "hippotune_queue_depth", "hippotune_rejected_total", "hippotune_version_info",
    "hippotune_swap_seconds", "hippotune_task_state", "hippotune_stream_lag", "hippotune_stuck_tasks",
    "hippotune_trainer_alive", "hippotune_trainer_loss",
    "hippotune_trainer_accuracy", "hippotune_trainer_forgetting",
    "hippotune_trainer_interference", "hippotune_trainer_held_out_images",
    "hippotune_trainer_retrieval_entropy",
    "hippotune_trainer_slot_use", "hippotune_trainer_spread_ratio", "hippotune_trainer_retrieval_steps",
    "hippotune_trainer_spectral_radius",
)  # fmt: skip


def test_metrics_have_the_promised_names_and_route_templates(server: Running) -> None:
    server.client.post("/classify?tmax=0", content=picture(), headers=PNG)
    server.client.post("/classify", content=picture(), headers=PNG)
    server.client.get("/tasks/some-id")
    server.client.get("/secret/path")
    text = server.client.get("/metrics").text
    for name in NAMES:
        assert f"# TYPE {name.removesuffix('_total')}" in text or f"# TYPE {name}" in text, name
    assert 'hippotune_request_duration_seconds_count{code="200",route="/classify"}' in text
    assert 'route="/tasks/{id}"' in text
    assert 'route="unmatched"' in text
    assert "some-id" not in text
    assert "secret" not in text
    for reason in ("invalid", "not_found"):
        assert f'hippotune_rejected_total{{reason="{reason}"}}' in text
    for stage in ("read", "decode", "queue", "compute", "encode"):
        assert f'hippotune_stage_duration_seconds_count{{stage="{stage}"}}' in text


def test_head_counts_by_the_route_that_answered_it(server: Running) -> None:
    def unmatched() -> int:
        return server.client.get("/metrics").text.count('code="200",route="unmatched"')

    counted = 'hippotune_request_duration_seconds_count{code="200",route="/healthz"}'
    for _ in range(2):
        assert server.client.head("/healthz").status_code == 200
    wait_for(lambda: f"{counted} 2.0\n" in server.client.get("/metrics").text)
    assert unmatched() == 0


def test_two_apps_in_one_process_share_no_metrics() -> None:
    first, second = Metrics(), Metrics()
    first.queue_depth.set(3)
    assert second.queue_depth._value.get() == 0


def test_what_was_never_measured_is_no_figure() -> None:
    metrics = Metrics()
    figures = {"spread_ratio": 0.25, "forgetting": 0.0}
    learned = TaskRecord("a", "a", TaskState.CONSOLIDATED, 1, (), 1, figures, None, 1, 0, 0, 0, 0)
    metrics.tasks([replace(learned, metrics={"loss": 0.5}), learned], lag=0, has_trainer=True)
    metrics.tasks([replace(learned, metrics={})], lag=0, has_trainer=True)
    text = generate_latest(metrics.registry).decode()
    assert "hippotune_trainer_spread_ratio 0.25\n" in text, "the last figure stays until there is another"
    assert "hippotune_trainer_forgetting 0.0\n" in text
    assert "hippotune_trainer_accuracy NaN\n" in text


def test_a_queue_that_cannot_be_seen_has_no_figures() -> None:
    """Tasks that waited when Redis went away would call for a trainer for as long as it is away."""
    metrics = Metrics()
    waiting = TaskRecord("a", "a", TaskState.QUEUED, 1, (), 0, {}, None, 1, 0, None, None, None)
    metrics.tasks([waiting], lag=1, has_trainer=False)
    text = generate_latest(metrics.registry).decode()
    assert 'hippotune_task_state{state="queued"} 1.0\n' in text
    assert "hippotune_trainer_alive 0.0\n" in text
    metrics.tasks_unknown()
    text = generate_latest(metrics.registry).decode()
    assert "hippotune_stream_lag NaN\n" in text
    assert "hippotune_stuck_tasks NaN\n" in text
    assert "hippotune_trainer_alive NaN\n" in text
    assert "hippotune_task_state{" not in text


def test_tasks_that_a_trainer_has_taken_and_cannot_learn_are_counted() -> None:
    """Those of a full disk: they lie in no stream any more, and none has failed."""
    metrics = Metrics()
    task = TaskRecord("a", "a", TaskState.QUEUED, 1, (), 0, {}, None, 1, 0, None, None, None)
    full = replace(task, error="waiting: cannot write to versions in the store")
    failed = replace(task, state=TaskState.FAILED, error="its worker died")
    metrics.tasks([task, full, replace(full, state=TaskState.SERVED), failed], lag=0, has_trainer=True)
    assert "hippotune_stuck_tasks 2.0\n" in generate_latest(metrics.registry).decode()
    metrics.tasks([task, failed], lag=0, has_trainer=True)
    assert "hippotune_stuck_tasks 0.0\n" in generate_latest(metrics.registry).decode()


def test_the_api_document_describes_what_is_really_answered(server: Running) -> None:
    document = server.client.get("/openapi.json").json()

    def check(method: str, path: str, response: httpx.Response) -> None:
        documented = document["paths"][path][method]["responses"]
        assert str(response.status_code) in documented, (path, response.status_code)
        content = documented[str(response.status_code)]["content"]
        kind = response.headers["content-type"].partition(";")[0]
        assert kind in content
        jsonschema.validate(
            response.json(), {**content[kind]["schema"], "components": document["components"]}
        )

    post, get = server.client.post, server.client.get
    many = [("files", ("a", picture())), ("files", ("b", picture()))]
    check("post", "/classify", post("/classify?explain=true", content=picture(), headers=PNG))
    check("post", "/classify", post("/classify", files=many))
    check("post", "/classify", post("/classify?tmax=0", content=picture(), headers=PNG))
    check("post", "/classify", post("/classify", content=b"x", headers=PNG))
    check("post", "/tasks", post("/tasks", content=b"x", headers=PNG))
    made = post("/tasks", files={"files": ("a", picture())}, data={"labels": ["cat"]})
    check("post", "/tasks", made)
    task = made.json()["id"]
    check("get", "/tasks", get("/tasks"))
    check("get", "/tasks/{id}", get(f"/tasks/{task}"))
    check("get", "/tasks/{id}", get("/tasks/none"))
    check("delete", "/tasks/{id}", server.client.delete(f"/tasks/{task}"))
    check("delete", "/tasks/{id}", server.client.delete(f"/tasks/{task}"))
    check("get", "/versions", get("/versions"))
    current = get("/versions").json()["current"]
    check("get", "/versions/{version}", get(f"/versions/{current}"))
    check("post", "/versions/{version}/activate", post(f"/versions/{current}/activate"))
    check("post", "/versions/{version}/activate", post("/versions/99/activate"))
    check("get", "/healthz", get("/healthz"))
    check("get", "/readyz", get("/readyz"))


def test_a_stop_finishes_what_is_under_way_and_ends_event_streams(config: ServiceConfig) -> None:
    ends: list[object] = []
    with running(config) as server:
        server.serve(random_version(server.backbone, ("cat", "dog")))
        made = server.client.post("/tasks", files={"files": ("a", picture())}, data={"labels": ["cat"]})
        held = threading.Event()
        server.services.engine.call(lambda: held.wait(WAIT_S) and None)

        def slow() -> None:
            asked = httpx.post(f"{server.url}/classify", content=picture(), headers=PNG, timeout=WAIT_S)
            ends.append(asked.status_code)

        following = threading.Event()

        def follow() -> None:
            events = f"{server.url}/tasks/{made.json()['id']}/events"
            with httpx.stream("GET", events, timeout=WAIT_S) as stream:
                for _ in stream.iter_bytes():
                    following.set()
            ends.append(following.is_set())

        threads = [threading.Thread(target=work) for work in (slow, follow)]
        for thread in threads:
            thread.start()
        assert following.wait(WAIT_S)
        wait_for(lambda: server.services.metrics.queue_depth._value.get() == 1)
        server.services.lifecycle.draining = True
        assert server.client.get("/readyz").status_code == 503
        assert server.client.post("/classify", content=picture(), headers=PNG).status_code == 503
        held.set()
    for thread in threads:
        thread.join(WAIT_S)
    assert sorted(map(str, ends)) == ["200", "True"]


def test_a_dead_engine_is_no_longer_healthy(config: ServiceConfig) -> None:
    with running(config) as server:
        server.services.watcher.stop()
        server.services.engine.stop()
        assert server.client.get("/healthz").status_code == 503
        assert server.client.get("/readyz").status_code == 503


def test_before_it_closes_it_answers_and_is_not_ready(config: ServiceConfig) -> None:
    """So that a balancer looks elsewhere before anybody is turned away, by a closed door or by a 503."""
    seen: list[tuple[int, int, int]] = []

    def look() -> None:
        """Until it has seen enough: what is asked in the instant of the end may be turned away."""
        limits = httpx.Limits(max_keepalive_connections=0)  # a new connection each time, as from a balancer
        with httpx.Client(base_url=server.url, limits=limits, timeout=WAIT_S) as client:
            while [ready for ready, _, _ in seen].count(503) < 2:
                ready = client.get("/readyz").status_code
                asked = client.post("/classify", content=picture(), headers=PNG).status_code
                model = client.get("/v2/models/hippotune/ready").status_code
                seen.append((ready, asked, model))

    with running(config, unready_s=2.0) as server:
        server.serve(random_version(server.backbone, ("cat", "dog")))
        looking = threading.Thread(target=look)
        looking.start()
        wait_for(lambda: (200, 200, 200) in seen)
    looking.join()
    assert seen[-1] == (503, 200, 503)
    assert {asked for _, asked, _ in seen} == {200}


class Deadly:
    """A runtime that takes its thread with it, as a signal handler or a broken extension may."""

    def classify(self, *_: object) -> NoReturn:
        raise SystemExit("the runtime has ended the thread")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_runtime_that_ends_its_thread_is_told_and_leaves_nobody_waiting(config: ServiceConfig) -> None:
    with running(config) as server:
        server.serve(random_version(server.backbone, ("cat", "dog")))
        assert server.client.get("/healthz").status_code == 200
        served = server.services.served
        served.snapshot = replace(served.snapshot, classifier=Deadly())
        asked = server.client.post("/classify", content=picture(), headers=PNG)
        assert asked.status_code == 503
        health = server.client.get("/healthz")
        assert health.status_code == 503
        assert "restart it" in health.json()["detail"]
        assert server.client.get("/readyz").status_code == 503
        assert server.client.post("/classify", content=picture(), headers=PNG).status_code == 503


def test_the_client_lists_as_many_tasks_as_the_server_does(server: Running) -> None:
    listing = server.client.get("/openapi.json").json()["paths"]["/tasks"]["get"]
    (limit,) = (one["schema"] for one in listing["parameters"] if one["name"] == "limit")
    assert calls.tasks().params == {"limit": str(limit["maximum"])}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_a_call_of_an_engine_that_has_ended() -> None:
    engine = Engine(Served(), 1, 1, Metrics(), Pace())
    engine.start()
    held, begun = threading.Event(), threading.Event()

    def die() -> NoReturn:
        begun.set()
        held.wait(10)
        raise SystemExit

    deadly = engine.call(die)
    begun.wait(10)
    waiting = engine.call(lambda: None)
    held.set()
    with pytest.raises(SystemExit):
        deadly.result(10)
    with pytest.raises(CancelledError):
        waiting.result(10)
    engine.stop()
    assert engine.call(lambda: None).cancelled()


def test_a_full_queue_refuses_before_it_reads(config: ServiceConfig) -> None:
    with running(replace(config, queue_images=1, max_classify_files=1)) as server:
        server.serve(random_version(server.backbone, ("cat", "dog")))
        held = threading.Event()
        server.services.engine.call(lambda: held.wait(WAIT_S) and None)
        first = threading.Thread(
            target=server.client.post, args=("/classify",), kwargs={"content": picture(), "headers": PNG}
        )
        first.start()
        wait_for(lambda: server.services.metrics.queue_depth._value.get() == 1)

        host, port = server.url.removeprefix("http://").split(":")
        for path in (b"/classify", b"/v2/models/hippotune/infer"):
            with socket.create_connection((host, int(port)), timeout=WAIT_S) as open_socket:
                head = b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999\r\n\r\n"
                open_socket.sendall(head % path)
                received = open_socket.recv(65_536)
            assert received.startswith(b"HTTP/1.1 429")
            assert b"retry-after: 1" in received
        held.set()
        first.join()


@pytest.mark.parametrize(
    "wrong",
    [
        {"runtime": "abacus"},
        {"queue_images": 8},
        {"model_name": "org/model"},
        {"model_name": ".."},
        {"max_held_bytes": 1},
    ],
)
def test_settings_that_cannot_be_name_themselves(config: ServiceConfig, wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(config, **wrong)  # type: ignore[arg-type]


def test_classify_is_a_route_like_any_other_for_methods_metrics_and_errors(server: Running) -> None:
    assert server.client.get("/classify").status_code == 405
    wrong = server.client.post("/classify?tmax=0", content=picture(), headers=PNG)
    assert (wrong.status_code, wrong.headers["content-type"]) == (422, "application/problem+json")
    assert server.client.post("/classify", content=picture(), headers=PNG).status_code == 200
    for code in (200, 422):  # counted once they have been sent
        counted = f'hippotune_request_duration_seconds_count{{code="{code}",route="/classify"}}'
        wait_for(lambda counted=counted: counted in server.client.get("/metrics").text)
