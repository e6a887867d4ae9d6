"""POST /classify over a real socket."""

from __future__ import annotations

import threading
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import pytest
import torch

from model.head import Head
from service.config import ServiceConfig
from service.uploads.decode import decode
from tests.service.support import (
    WAIT_S,
    Running,
    flat_png,
    many_scans,
    picture,
    random_version,
    running,
    wait_for,
)

PNG = {"Content-Type": "image/png"}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_raw_body_is_answered_in_full(server: Running, kind: str) -> None:
    response = server.client.post(
        "/classify?tmax=2", content=picture(kind=kind), headers={"Content-Type": f"image/{kind.lower()}"}
    )
    assert response.status_code == 200
    answer = response.json()
    scores = [prediction["score"] for prediction in answer["predictions"]]
    assert len(scores) == 5
    assert len(answer["id"]) == 33
    assert scores == sorted(scores, reverse=True)
    assert answer["version"] == server.registry.current()
    assert answer["budget"] == {"tmax": 2, "epsilon": 0.0, "topk": 5, "keep": 1.0}
    assert answer["steps"] == [2] * 7
    assert "trace" not in answer
    timings = answer["timings_ms"]
    assert set(timings) == {"read", "decode", "queue", "compute", "total"}
    assert all(value >= 0 for value in timings.values())
    assert sum(timings.values()) - timings["total"] <= timings["total"]


def test_an_image_of_few_bytes_and_many_pixels_does_not_hold_up_the_event_loop(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoders = []

    def noting(*args: Any) -> Any:
        pixels = decode(*args)
        decoders.append(threading.current_thread().name)
        return pixels

    monkeypatch.setattr("service.answering.scoring.decode", noting)
    bombs = flat_png(7000), many_scans(900, 20)
    assert max(map(len, bombs)) < 32 * 1024
    for data in (picture(), picture(kind="JPEG"), *bombs):
        assert server.client.post("/classify", content=data, headers=PNG).status_code == 200
    assert [name == "uvicorn" for name in decoders] == [True, True, False, False]


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "image/jpg",
        "application/octet-stream",
        "binary/octet-stream",
        "application/x-www-form-urlencoded",
    ],
)
def test_a_body_of_no_particular_type_is_told_by_its_first_bytes(server: Running, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    assert server.client.post("/classify", content=picture(), headers=headers).status_code == 200


def test_one_file_is_one_answer_and_many_are_results_in_order(server: Running) -> None:
    pictures = [picture(seed) for seed in range(40)]
    alone = [server.client.post("/classify", content=data, headers=PNG).json() for data in pictures[:3]]
    one = server.client.post("/classify", files=[("file", ("a.png", pictures[0], "image/png"))]).json()
    assert one["predictions"][0]["label"] == alone[0]["predictions"][0]["label"]
    many = server.client.post(
        "/classify", files=[("files", ("a.png", data, "image/png")) for data in pictures]
    )
    results = many.json()["results"]
    assert len(results) == 40  # more than one batch
    for result, expected in zip(results, alone, strict=False):
        assert result["predictions"][0]["label"] == expected["predictions"][0]["label"]
        assert result["predictions"][0]["score"] == pytest.approx(
            expected["predictions"][0]["score"], abs=1e-4
        )


def test_mixed_budgets_in_one_batch_answer_as_alone(server: Running) -> None:
    asked = [
        (
            picture(seed),
            {"tmax": 1 + seed % 4, "epsilon": (0, 3.0, 30.0)[seed % 3], "topk": 1 + seed % 12, "top": 6},
        )
        for seed in range(48)
    ]

    def ask(data: bytes, params: dict[str, float]) -> dict[str, object]:
        return server.client.post("/classify", params=params, content=data, headers=PNG).json()  # type: ignore[no-any-return]

    alone = [ask(*one) for one in asked]
    before = server.services.metrics.batch_size._sum.get()
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda one: ask(*one), asked))
    wait_for(
        lambda: server.services.metrics.batch_size._sum.get() - before >= 48
    )  # counted once they are answered
    for first, second in zip(alone, together, strict=True):
        assert first["steps"] == second["steps"]
        assert first["budget"] == second["budget"]
        scores = [{p["label"]: p["score"] for p in answer["predictions"]} for answer in (first, second)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_labels_restrict_the_answer(server: Running) -> None:
    def labels(query: str) -> set[str]:
        answer = server.client.post(f"/classify?{query}", content=picture(), headers=PNG).json()
        return {prediction["label"] for prediction in answer["predictions"]}

    assert labels("labels=cat,dog") == {"cat", "dog"}
    assert labels("labels=cat&labels=fox") == {"cat", "fox"}
    assert labels("labels=cow, brown&labels=bee") == {"cow, brown", "bee"}
    assert len(labels("top=1")) == 1
    nobody = server.client.post("/classify?labels=", content=picture(), headers=PNG)
    assert (nobody.status_code, "name at least one" in nobody.text) == (422, True)


def test_labels_of_equal_scores_come_in_the_same_order_however_many_are_asked_for(
    config: ServiceConfig,
) -> None:
    names = [f"class {number}" for number in range(40)]
    with running(config) as server:
        version = random_version(server.backbone, names)
        alike = Head(torch.zeros_like(version.head.weight), torch.arange(40) // 4 / 10)
        server.serve(replace(version, head=alike))

        def labels(query: str) -> list[str]:
            answer = server.client.post(f"/classify?{query}", content=picture(), headers=PNG).json()
            return [prediction["label"] for prediction in answer["predictions"]]

        every = labels("top=40")
        assert every[:8] == [f"class {number}" for number in (36, 37, 38, 39, 32, 33, 34, 35)]
        assert [labels(f"top={top}") for top in range(1, 40)] == [every[:top] for top in range(1, 40)]
        assert labels("labels=class 5,class 4,class 39,class 36") == [
            "class 36",
            "class 39",
            "class 4",
            "class 5",
        ]


def test_a_label_may_be_spelled_in_either_way_of_unicode(config: ServiceConfig) -> None:
    with running(config) as server:
        server.serve(random_version(server.backbone, ("käfer, grün", "café", "cat")))
        for asked in ("käfer, grün", "cat,café"):
            for form in ("NFC", "NFD"):
                query = {"labels": unicodedata.normalize(form, asked)}
                response = server.client.post("/classify", content=picture(), headers=PNG, params=query)
                assert response.status_code == 200, response.text


def test_explain_tells_which_slots_of_which_task_were_mixed(server: Running) -> None:
    answer = server.client.post("/classify?explain=true&tmax=3&topk=4", content=picture(), headers=PNG).json()
    assert [layer["layer"] for layer in answer["trace"]] == [1, 2, 3, 4, 5, 6, 7]
    for layer in answer["trace"]:
        assert len(layer["steps"]) == 3
        for step in layer["steps"]:
            assert 1 <= len(step) <= 4
            assert sum(slot["weight"] for slot in step) == pytest.approx(1, abs=1e-4)
            assert all(slot["task"] == f"task{slot['slot'] % 2}" for slot in step)


def test_explain_tells_how_each_query_moved(server: Running) -> None:
    def layers(query: str) -> list[dict[str, list[Any]]]:
        answer = server.client.post(f"/classify?explain=true&{query}", content=picture(), headers=PNG)
        return answer.json()["trace"]  # type: ignore[no-any-return]

    full = layers("tmax=4")
    for layer in full:
        assert len(layer["moved"]) == len(layer["cosines"]) == len(layer["path"]) == 4
        assert layer["moved"][0] == 0
        assert min(layer["moved"][1:]) > 0
        assert layer["cosines"][0] == pytest.approx(1, abs=1e-5)
        assert layer["path"][0] == [0, 0]
    # `moved` is what epsilon is compared with: just below the smallest move nothing stops, above all do.
    moves = [move for layer in full for move in layer["moved"][1:]]
    assert all(len(layer["moved"]) == 4 for layer in layers(f"tmax=4&epsilon={0.99 * min(moves)}"))
    assert all(len(layer["moved"]) == 2 for layer in layers(f"tmax=4&epsilon={2 * max(moves)}"))
    for layer in layers("tmax=1"):
        assert layer["path"] == [[0, 0]]


def test_a_request_that_cannot_be_answered_in_time_is_504(server: Running) -> None:
    released = threading.Event()
    held = server.services.engine.call(lambda: released.wait(WAIT_S) and None)
    response = server.client.post("/classify?timeout_ms=50", content=picture(), headers=PNG)
    released.set()
    assert response.status_code == 504
    assert response.headers["content-type"] == "application/problem+json"
    held.result()
    assert server.client.post("/classify", content=picture(), headers=PNG).status_code == 200
    assert server.services.metrics.queue_depth._value.get() == 0


def test_decoding_is_waited_for_no_longer_than_anything_else(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some files of few bytes take seconds each: what nobody waits for any more is not begun."""
    begun: list[int] = []
    ended = threading.Event()

    def slow(data: bytes, *rest: Any) -> Any:
        begun.append(len(data))
        ended.wait(WAIT_S)
        return decode(data, *rest)

    monkeypatch.setattr("service.answering.scoring.decode", slow)
    files = [("files", (str(index), picture(index))) for index in range(4)]
    response = server.client.post("/classify?timeout_ms=1000", files=files)  # by then the first has begun
    assert response.status_code == 504
    assert response.json()["detail"] == "no answer within 1000 ms"
    assert server.services.metrics.queue_depth._value.get() == 0
    server.client.get("/healthz")  # asyncio tells the pool of a cancelled future a turn of its loop later
    ended.set()
    assert server.client.post("/classify", content=picture(), headers=PNG).status_code == 200
    assert len(begun) == 2  # the server has one thread: the first of the four, and this one


def test_many_images_of_one_request_let_those_of_others_in_between(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[bytes] = []
    go_on = threading.Event()

    def slow(data: bytes, *rest: Any) -> Any:
        go_on.wait(WAIT_S)
        decoded.append(data)
        return decode(data, *rest)

    monkeypatch.setattr("service.answering.scoring.decode", slow)
    files = [("files", (str(index), picture(index))) for index in range(12)]
    other, engine = picture(100), server.services.engine
    with ThreadPoolExecutor() as pool:
        many = pool.submit(server.client.post, "/classify", files=files)
        wait_for(lambda: engine.admitted == 12)
        one = pool.submit(server.client.post, "/classify", content=other, headers=PNG)
        wait_for(lambda: engine.admitted == 13)
        assert server.client.get("/healthz").is_success  # the event loop has handed it on
        go_on.set()
        assert one.result().status_code == many.result().status_code == 200
    assert decoded.index(other) <= 3  # the server has one thread
    assert [data for data in decoded if data != other] == [file for _, (_, file) in files]


def test_a_stop_waits_for_no_request_that_takes_long_to_decode(
    config: ServiceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[bytes] = []

    def slow(data: bytes, *rest: Any) -> Any:
        decoded.append(data)
        time.sleep(0.4)
        return decode(data, *rest)

    files = [("files", (str(index), picture(index))) for index in range(50)]  # 20 s
    with ThreadPoolExecutor() as pool:
        with running(config) as server:
            server.serve(random_version(server.backbone, ("cat", "dog")))
            monkeypatch.setattr("service.answering.scoring.decode", slow)
            asked = pool.submit(httpx.post, f"{server.url}/classify", files=files, timeout=30)
            wait_for(lambda: decoded)
            began = time.monotonic()
        assert time.monotonic() - began < 10
        refused = asked.result()
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert "shutting down" in refused.json()["detail"]


def test_keep_merges_tokens_and_is_answered(server: Running) -> None:
    whole, half = (
        server.client.post(f"/classify?keep={keep}&top=6", content=picture(), headers=PNG).json()
        for keep in (1, 0.5)
    )
    assert (whole["budget"]["keep"], half["budget"]["keep"]) == (1, 0.5)
    assert whole["steps"] == half["steps"]
    scores = [{p["label"]: p["score"] for p in answer["predictions"]} for answer in (whole, half)]
    assert scores[0] != scores[1]


def test_requests_of_different_keep_at_once_answer_as_alone(server: Running) -> None:
    asked = [
        (picture(seed), {"keep": (1, 0.5, 0.75)[seed % 3], "tmax": 1 + seed % 4, "top": 6})
        for seed in range(24)
    ]

    def ask(data: bytes, params: dict[str, float]) -> dict[str, Any]:
        return server.client.post("/classify", params=params, content=data, headers=PNG).json()  # type: ignore[no-any-return]

    alone = [ask(*one) for one in asked]
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda one: ask(*one), asked))
    for first, second in zip(alone, together, strict=True):
        assert first["budget"] == second["budget"]
        scores = [{p["label"]: p["score"] for p in answer["predictions"]} for answer in (first, second)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_a_time_budget_is_met_with_the_deepest_keep_that_can(server: Running) -> None:
    def keep(query: str) -> float:
        answer = server.client.post(f"/classify?{query}", content=picture(), headers=PNG).json()
        return answer["budget"]["keep"]  # type: ignore[no-any-return]

    assert keep("budget_ms=10000") == 1
    assert keep("budget_ms=0.01") == 0.5
    assert keep("budget_ms=10000&keep=0.8") == 0.8
