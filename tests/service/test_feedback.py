"""POST /feedback: an answer is corrected by its id, at whichever server, and no longer than it is remembered."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partialmethod
from typing import Any
from weakref import ref

import httpx
import numpy as np
import pytest
import torch
from redis import Redis

from exchange.records import Sample
from exchange.relay import Relay
from model.budget import Budget
from model.network import RetrievalViT
from model.preprocess import decode
from service.config import ServiceConfig
from service.engine.memory import AnswerMemory, Remembered, SharedMemory
from service.runtimes.base import as_taught
from tests.exchange.working import take
from tests.service.conftest import LABELS
from tests.service.support import Running, picture, problem, random_version, running, wait_for
from trainer.learning.config import LearnerConfig
from trainer.learning.learner import Learner

PNG = {"Content-Type": "image/png"}


def ask(server: Running, seed: int = 0, **params: Any) -> str:
    answer = server.client.post("/classify", content=picture(seed), headers=PNG, params=params)
    return str(answer.json()["id"])


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is asked by another is waited for as long as a busy machine may take."""
    monkeypatch.setattr(Relay, "ask", partialmethod(Relay.ask, patience_s=20.0))


def queued(server: Running) -> Sample:
    """What the trainer is given."""
    claim = take(server.queue)
    assert claim is not None
    assert claim.corrects
    server.queue.finish(claim)
    (sample,) = claim.samples
    return sample


def test_a_correction_carries_the_features_of_the_image(server: Running) -> None:
    id_ = ask(server, seed=3)
    response = server.client.post("/feedback", json={"id": id_, "label": " new kind "})
    assert response.status_code == 202, response.text
    task = response.json()
    assert response.headers["location"] == f"/tasks/{task['id']}"
    assert (task["name"], task["labels"], task["images"]) == ("feedback: new kind", ["new kind"], 1)
    sample = queued(server)
    version = random_version(server.backbone, LABELS)
    assert sample.space == version.space
    pixels = torch.from_numpy(decode(picture(3), 32, 10**6)).unsqueeze(0)
    learner = Learner(RetrievalViT(server.backbone, version.loop), LearnerConfig())
    (wanted,) = learner.extract(version.pools, pixels).numpy()
    found = np.frombuffer(server.services.blobs.get(sample.blob), dtype="<f4")
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize(
    "budget",
    [{"tmax": 1}, {"topk": 1}, {"epsilon": 9}, {"keep": 0.5}, {"budget_ms": 0.01}],
    ids=lambda budget: next(iter(budget)),
)
def test_an_answer_within_a_budget_of_its_own_cannot_be_corrected(
    server: Running, budget: dict[str, float]
) -> None:
    ask(server, seed=4)  # how long a pass takes is known from then on
    response = server.client.post("/feedback", json={"id": ask(server, seed=4, **budget), "label": "cat"})
    assert response.status_code == 422, response.text
    assert "classify again without tmax, epsilon, topk, keep and budget_ms" in response.json()["detail"]


def test_a_budget_that_is_the_versions_own_can_be_named(server: Running) -> None:
    own = random_version(server.backbone, LABELS).loop.budget
    budget = {"tmax": own.tmax, "topk": own.topk, "epsilon": 0, "keep": 1}
    named, unnamed = ask(server, seed=5, **budget), ask(server, seed=5)
    blobs = []
    for id_ in (named, unnamed):
        assert server.client.post("/feedback", json={"id": id_, "label": "cat"}).status_code == 202
        blobs.append(queued(server).blob)
    assert blobs[0] == blobs[1]


def test_without_slots_no_step_is_missing() -> None:
    features, full = np.ones((3, 2), np.float32), Budget()
    budgets = [full, Budget(tmax=1), Budget(keep=0.5)]
    assert np.isnan(as_taught(features, budgets, full, slots=9)[:, 0]).tolist() == [False, True, True]
    assert np.isnan(as_taught(features, budgets, full, slots=0)[:, 0]).tolist() == [False, False, True]
    assert as_taught(features, [full] * 3, full, slots=9) is features


def test_the_same_correction_again_is_the_same_task_and_another_is_refused(server: Running) -> None:
    id_ = ask(server)
    first = server.client.post("/feedback", json={"id": id_, "label": "cat"}).json()
    assert server.client.post("/feedback", json={"id": id_, "label": "cat"}).json()["id"] == first["id"]
    other = server.client.post("/feedback", json={"id": id_, "label": "dog"})
    assert other.status_code == 409
    assert "another label" in other.json()["detail"]
    queued(server)


def test_a_full_queue_stores_no_correction_and_still_knows_the_accepted(config: ServiceConfig) -> None:
    def correct(id_: str) -> httpx.Response:
        return server.client.post("/feedback", json={"id": id_, "label": "cat"})

    with running(replace(config, queue=replace(config.queue, capacity=1))) as server:
        server.serve(random_version(server.backbone, LABELS))
        first, second = ask(server, seed=1), ask(server, seed=2)
        accepted = correct(first)
        before = sorted((config.store / "blobs").rglob("*"))
        assert correct(second).status_code == 429
        assert sorted((config.store / "blobs").rglob("*")) == before
        assert correct(first).json()["id"] == accepted.json()["id"]


def test_each_of_many_images_has_its_own_id(server: Running) -> None:
    files = [("files", ("a.png", picture(seed), "image/png")) for seed in range(5)]
    ids = {result["id"] for result in server.client.post("/classify", files=files).json()["results"]}
    assert len(ids) == 5


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b'{"id": "00000000-000000000000000000000000", "label": "cat"}', 404, "is remembered"),
        (
            b'{"id": "../etc/passwd", "label": "cat"}',
            422,
            "id is '../etc/passwd'; it must be the `id` of an answer",
        ),
        (b'{"id": "00000000-000000000000000000000000"}', 422, "label is missing; it must be given"),
        (b'{"id": "00000000-000000000000000000000000", "label": ""}', 422, "label is ''; it must have 1 to"),
        (
            b'{"id": "00000000-000000000000000000000000", "label": "cat", "\\u0007%b": {}}' % (b"x" * 200),
            422,
            f"?{'x' * 99}... is '{{}}'; it must be left out",
        ),
        (b"not json", 422, "body is 'not json'; it must be JSON: expected"),
        (b"x" * 20_000, 413, "at most 16384 bytes"),
    ],
)
def test_what_cannot_be_corrected_is_a_problem(server: Running, body: bytes, status: int, told: str) -> None:
    response = server.client.post("/feedback", content=body)
    assert response.status_code == status, response.text
    assert told in response.json()["detail"]
    assert response.headers["content-type"] == "application/problem+json"


def test_a_query_is_not_passed_over(server: Running) -> None:
    correction = {"id": ask(server), "label": "cat"}
    response = server.client.post("/feedback?labels=dog", json=correction)
    problem(response, 422, "labels", "be left out")
    problem(server.client.get("/versions?label=false"), 422, "label", "labels")


@pytest.mark.usefixtures("patient")
def test_another_server_asks_the_one_that_answered(server: Running) -> None:
    config = replace(server.config, feedback_answers=0)
    with running(config) as other:
        id_ = ask(server, seed=7)
        response = other.client.post("/feedback", json={"id": id_, "label": "cat"})
        assert response.status_code == 202
        queued(server)
        forgotten = other.client.post("/feedback", json={"id": ask(other), "label": "cat"})
        assert forgotten.status_code == 404
        assert "newest 0 answers" in forgotten.json()["detail"]
        gone = ask(other)
    assert server.client.post("/feedback", json={"id": gone, "label": "cat"}).status_code == 404


def test_a_server_that_is_there_and_silent_is_asked_again_later(server: Running) -> None:
    relay = Relay(server.queue.redis, server.config.queue.prefix)
    relay.answer("0123abcd", lambda _: b"")  # it has come, and is busy from then on
    correction = {"id": f"0123abcd-{'0' * 24}", "label": "cat"}
    silent = server.client.post("/feedback", json=correction)
    assert (silent.status_code, silent.headers["retry-after"]) == (503, "1")
    assert "does not answer now" in silent.json()["detail"]
    relay.leave("0123abcd")
    assert server.client.post("/feedback", json=correction).status_code == 404


def test_memory_is_bounded_in_number_and_in_time() -> None:
    batch = np.eye(4, dtype=np.float32)
    memory = AnswerMemory(capacity=2, ttl_s=60)
    ids = [memory.keep(row, "a" * 64, 3) for row in batch]
    assert [memory.find(id_) is not None for id_ in ids] == [False, False, True, True]
    found = memory.find(ids[3])
    assert found is not None
    assert found.features.base is None  # not a view that keeps its whole batch
    again = Remembered.from_bytes(found.to_bytes())
    assert (again.space, again.version) == ("a" * 64, 3)
    np.testing.assert_array_equal(again.features, batch[3])
    assert AnswerMemory(2, ttl_s=-1).keep(batch[0], "a", 3) != memory.keep(batch[0], "a", 3)
    brief = AnswerMemory(2, ttl_s=-1)
    assert brief.find(brief.keep(batch[0], "a", 3)) is None


@pytest.mark.usefixtures("patient")
def test_a_label_that_was_renamed_since_the_answer_is_not_brought_back(config: ServiceConfig) -> None:
    def correct(by: Running, id_: str, label: str) -> httpx.Response:
        return by.client.post("/feedback", json={"id": id_, "label": label})

    with running(config) as server, running(replace(config, feedback_answers=0)) as other:
        server.serve(random_version(server.backbone, ("rosse", "tulip")))
        early, late = ask(server, seed=1), ask(server, seed=2)
        made = correct(server, early, "rosse").json()
        server.serve(random_version(server.backbone, ("rose", "tulip")))
        wait_for(lambda: other.client.get("/readyz").json().get("version") == 2)
        for by in (server, other):
            refused = correct(by, late, "rosse")
            assert refused.status_code == 409
            assert "'rosse' is no label of version 2, which is served now" in refused.json()["detail"]
        assert correct(server, early, "rosse").json()["id"] == made["id"], "accepted before"
        assert correct(server, late, "quite new").status_code == 202
        assert correct(server, ask(server, seed=3), "rosse").status_code == 202, "of an answer of today"


def test_what_is_too_old_to_be_found_does_not_wait_for_another_answer_to_go(redis: Redis) -> None:
    own = AnswerMemory(capacity=2, ttl_s=2)
    found = own.find(own.keep(np.ones(4, dtype=np.float32), "a" * 64, 3))
    assert found is not None
    kept = ref(found.features)
    del found
    memory = SharedMemory(own, Relay(redis))
    memory.start()
    try:
        wait_for(lambda: kept() is None)
    finally:
        memory.stop()


def test_a_question_that_makes_no_sense_ends_no_answering(redis: Redis) -> None:
    own, relay = AnswerMemory(capacity=2, ttl_s=60), Relay(redis)
    id_ = own.keep(np.ones(4, dtype=np.float32), "a" * 64, 3)
    redis.rpush(relay.keys.relay(own.owner), b"\xff")
    memory = SharedMemory(own, Relay(redis))
    memory.start()
    try:
        while not redis.exists(relay.keys.presence(own.owner)):
            time.sleep(0.01)
        told = relay.ask(own.owner, id_, patience_s=10)
    finally:
        memory.stop()
    assert told == own.find(id_).to_bytes()  # type: ignore[union-attr]
