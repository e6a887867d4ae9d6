"""/versions and the swap: no lost request, no mixed answer, whatever comes and goes beside it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from structlog.testing import capture_logs

from exchange.embedded import EmbeddedRedis
from exchange.queue import QueueConfig
from model.budget import Budget
from model.checkpoint import Checkpoint
from model.spec import BackboneSpec
from service.api.records import VersionList
from service.app import create_app
from service.config import ServiceConfig
from service.engine.loading import warm
from service.runtimes.base import Classifier, Output
from service.runtimes.bfloat16 import Bfloat16Runtime
from service.runtimes.torch import TorchRuntime
from tests.service.support import WAIT_S, Running, picture, random_version, running, serving, wait_for

PNG = {"Content-Type": "image/png"}


def test_history_and_rolling_back_and_forward(config: ServiceConfig) -> None:
    with running(config) as server:
        empty = server.client.get("/versions").json()
        assert (empty["current"], empty["serving"], empty["versions"]) == (None, None, [])
        assert empty["budget"] is None
        assert server.client.get("/versions/1").status_code == 404
        assert server.client.post("/versions/1/activate").status_code == 404
        nothing = server.client.post("/classify", content=picture(), headers=PNG)
        assert nothing.status_code == 409
        assert "nothing learned yet" in nothing.json()["detail"]
        assert server.client.get("/readyz").json() == {"ready": True, "version": None}
        first = server.serve(random_version(server.backbone, ("cat", "dog"), seed=1)).version
        second = server.serve(random_version(server.backbone, ("cat", "dog", "emu"), seed=2)).version
        known = server.client.get("/versions").json()
        assert (known["current"], known["serving"]) == (second, second)
        defaults = {"default_tmax": 4, "default_epsilon": 0, "default_topk": 5, "default_keep": 1}
        assert known["budget"] == {"tmax": 4, "topk": 12, "least_keep": 0.5, **defaults}
        assert [version["version"] for version in known["versions"]] == [second, first]
        one = server.client.get(f"/versions/{first}").json()
        assert (one["labels"], one["current"], one["serving"]) == (["cat", "dog"], False, False)
        back = server.client.post(f"/versions/{first}/activate")
        assert (back.status_code, back.json()["current"]) == (200, True)
        wait_for(lambda: serving(server) == first)
        answer = server.client.post("/classify", content=picture(), headers=PNG).json()
        assert answer["version"] == first
        assert len(answer["predictions"]) == 2
        server.client.post(f"/versions/{second}/activate")
        wait_for(lambda: serving(server) == second)
        text = server.client.get("/metrics").text
        assert f'hippotune_version_info{{version="{second}"}} 1.0' in text
        assert f'version="{first}"' not in text


def test_who_has_the_list_of_versions_is_sent_it_again_only_once_it_changed(config: ServiceConfig) -> None:
    with running(config) as server:
        first, second = (
            server.serve(random_version(server.backbone, ("cat", "dog"), seed=seed)).version
            for seed in range(2)
        )

        def asked(known: str = "") -> httpx.Response:
            return server.client.get("/versions", headers={"If-None-Match": known} if known else {})

        def changed(known: str) -> str:
            wait_for(lambda: asked(known).status_code == 200)
            return asked().headers["etag"]

        answer = asked()
        etag = answer.headers["etag"]
        assert VersionList.model_validate(answer.json()).model_dump() == answer.json()
        assert answer.headers["cache-control"] == "no-cache"
        for known in (etag, f'"another", W/{etag}', "*"):
            same = asked(known)
            assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
        assert asked('"another"').content == answer.content
        server.registry.set_canary(first, 0.5)
        wait_for(lambda: (canary := asked().json()["canary"]) and canary["answering"])
        tried = changed(etag)
        server.registry.set_canary(first, 0)
        wait_for(lambda: server.services.served.canary is None)
        assert asked(etag).status_code == 304, "all is as it was"
        server.registry.activate(first)
        wait_for(lambda: serving(server) == first)
        back = changed(etag)
        server.serve(random_version(server.backbone, ("cat", "dog"), seed=3))
        assert len({etag, tried, back, changed(back)}) == 4
        assert [version["version"] for version in asked().json()["versions"]] == [second + 1, second, first]


def test_what_is_new_in_a_version_is_told_with_its_labels_or_without(config: ServiceConfig) -> None:
    many = [f"many{number}" for number in range(12)]
    with running(config) as server:
        for labels in (("cat", "dog"), ("cat", "dog", "emu"), ("cat", "dog", "emu", *many)):
            server.serve(random_version(server.backbone, labels))
        server.registry.prune(keep=1)
        server.serve(random_version(server.backbone, ("cat", "emu", *many, "fox")))
        whole, short = (
            server.client.get("/versions", params=params).json() for params in ({}, {"labels": "false"})
        )
        assert [version.pop("labels") for version in short["versions"]] == [[], []]
        known = [version.pop("labels") for version in whole["versions"]]
        assert short == whole
        assert known == [["cat", "emu", *many, "fox"], ["cat", "dog", "emu", *many]]
        told = [
            (version["label_count"], version["new_label_count"], version["new_labels"])
            for version in short["versions"]
        ]
        assert told == [(15, 1, ["fox"]), (15, 15, ["cat", "dog", "emu", *many[:7]])]
        answers = [server.client.get("/versions", params={"labels": word}) for word in ("true", "false")]
        assert answers[0].headers["etag"] != answers[1].headers["etag"]
        assert server.client.get("/versions?labels=many").status_code == 422


def numbered(server: Running, number: int) -> Checkpoint:
    """A version that knows only labels that end in its number: an answer that mixes two versions shows it."""
    labels = [f"{name}{number}" for name in "abc"]
    return random_version(server.backbone, labels, slots=6 + 6 * number, seed=number)


def ask_until(stop: threading.Event, url: str, many: bool, answers: list[tuple[int, Any]]) -> None:
    """One caller, who sends a picture, or many, again and again."""
    files = [("files", (str(seed), picture(seed))) for seed in range(40)]
    sent: dict[str, Any] = {"files": files} if many else {"content": picture(), "headers": PNG}
    with httpx.Client(base_url=url, timeout=20) as client:
        while not stop.is_set():
            response = client.post("/classify", params={"tmax": 1 + len(answers) % 4}, **sent)
            answers.append((response.status_code, response.json()))


def test_swaps_under_load_lose_nothing_and_mix_nothing(config: ServiceConfig) -> None:
    stop = threading.Event()
    answers: list[tuple[int, Any]] = []
    with running(config) as server, ThreadPoolExecutor(4) as pool:
        names = {server.serve(numbered(server, 0)).version: 0}
        asking = [pool.submit(ask_until, stop, server.url, caller == 3, answers) for caller in range(4)]
        try:
            for number in range(1, 9):
                names[server.serve(numbered(server, number)).version] = number
                answered = len(answers)
                while len(answers) < answered + 5 and not any(caller.done() for caller in asking):
                    time.sleep(0.01)
        finally:
            stop.set()
        for caller in asking:
            caller.result()
    assert {status for status, _ in answers} == {200}
    seen = set()
    for _, answer in answers:
        results = answer.get("results", [answer])
        assert len({result["version"] for result in results}) == 1
        seen.add(results[0]["version"])
        for result in results:
            number = names[result["version"]]
            assert {p["label"] for p in result["predictions"]} == {f"{name}{number}" for name in "abc"}
    assert len(seen) >= 8, "of five answers one at least was asked for after the swap"


class Held:
    """A version's classifier that answers only once it is let."""

    def __init__(self, own: Classifier) -> None:
        self.own, self.began, self.let = own, threading.Event(), threading.Event()

    def classify(self, pixels: NDArray[np.uint8], budgets: Sequence[Budget], explain: bool) -> Output:
        self.began.set()
        assert self.let.wait(WAIT_S)
        return self.own.classify(pixels, budgets, explain)


def test_a_pass_that_outlives_its_version_does_not_bring_its_figures_back(config: ServiceConfig) -> None:
    with running(config) as server, ThreadPoolExecutor() as pool:
        old = server.serve(random_version(server.backbone, ("cat", "dog"))).version
        served = server.services.served
        assert served.snapshot is not None
        held = Held(served.snapshot.classifier)
        served.snapshot = replace(served.snapshot, classifier=held)
        asked = pool.submit(server.client.post, "/classify", content=picture(), headers=PNG)
        assert held.began.wait(WAIT_S)
        new = server.serve(random_version(server.backbone, ("cat", "dog"), seed=1)).version
        held.let.set()
        assert asked.result().json()["version"] == old
        assert server.client.post("/classify", content=picture(), headers=PNG).json()["version"] == new
        figure = f'hippotune_version_images_total{{outcome="answered",version="{new}"}} 1.0'
        wait_for(lambda: figure in server.client.get("/metrics").text)
        assert f'version="{old}"' not in server.client.get("/metrics").text


def test_what_computes_is_told_of_the_version_that_is_served(config: ServiceConfig) -> None:
    with running(config) as server:

        def told() -> tuple[str, str]:
            about = [server.client.get(path).json() for path in ("/versions", "/v2/models/hippotune")]
            return about[0]["runtime"], about[1]["platform"]

        assert told() == ("torch cpu float32", "hippotune torch cpu float32")
        version = random_version(server.backbone, ("cat", "dog"))
        server.serve(version)
        served = server.services.served
        other = Bfloat16Runtime(TorchRuntime(server.backbone, torch.device("cpu"))).prepare(version)
        served.snapshot = replace(served.snapshot, classifier=other)
        assert told() == ("torch cpu bfloat16", "hippotune torch cpu bfloat16")


def test_a_failed_start_says_why(config: ServiceConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no such graph")

    monkeypatch.setattr("service.app.warm_backbone", fail)

    async def start() -> None:
        app = create_app(config)
        async with app.router.lifespan_context(app):
            pass

    with pytest.raises(ValueError, match="no such graph"):
        asyncio.run(start())


def test_answers_go_on_while_redis_is_killed_and_the_server_comes_back_quietly(
    tmp_path: Path, backbone: BackboneSpec
) -> None:
    redis = EmbeddedRedis(tmp_path / "redis")
    redis.start()
    config = ServiceConfig(redis.url, tmp_path / "store", backbone, QueueConfig(), "torch", threads=1)
    try:
        with running(config) as server, capture_logs() as lines:
            version = server.serve(random_version(server.backbone, ("cat", "dog"))).version
            del lines[:]
            assert redis.pid is not None
            os.kill(redis.pid, signal.SIGKILL)
            redis.stop()
            files = {"files": ("a", picture())}
            away_until = time.monotonic() + 3
            while time.monotonic() < away_until:
                answer = server.client.post("/classify", content=picture(), headers=PNG)
                assert answer.json()["version"] == version
            for away in (
                server.client.post("/tasks", files=files, data={"labels": ["cat"]}),
                server.client.delete("/tasks/any"),
                server.client.post(f"/versions/{version}/activate"),
                server.client.get("/tasks"),
            ):
                assert away.status_code == 503
                assert int(away.headers["retry-after"]) >= 1
                # Where Redis is concerns no client; the log has it.
                assert away.json()["detail"] == "Redis cannot be reached"
            assert server.client.get("/healthz").status_code == 200
            assert server.client.get("/readyz").status_code == 200
            assert server.client.get("/metrics").status_code == 200
            redis.start()
            newer = server.serve(random_version(server.backbone, ("cat", "dog"), seed=9)).version
            assert server.client.post("/classify", content=picture(), headers=PNG).json()["version"] == newer
            accepted = server.client.post("/tasks", files=files, data={"labels": ["cat"]})
            assert accepted.status_code == 202
        (lost,) = (line for line in lines if line["event"] == "cannot follow the registry, trying on")
        assert str(redis.socket) in lost["reason"]
        ours = [line for line in lines if line["event"] != "request refused"]
        events = [line["event"] for line in ours if line["log_level"] != "debug"]
        assert events.count("cannot follow the registry, trying on") == 1
        assert events.count("following the registry again") == 1
        assert len(events) <= 4, events
    finally:
        redis.stop()


def test_a_server_is_not_ready_before_what_the_store_holds_was_recovered(config: ServiceConfig) -> None:
    with running(config) as server:
        version = server.publish(random_version(server.backbone, ("cat", "dog"))).version
        keys = server.registry.keys
        server.queue.redis.delete(keys.pointer, keys.published, keys.sequence)
    with running(config, ready="/healthz") as server:
        told = (
            "Redis names no version, and the store holds some: a trainer makes the newest intact one current"
        )
        wait_for(lambda: server.client.get("/readyz").json().get("detail") == told)
        answer = server.client.post("/classify", content=picture(), headers=PNG)
        assert (answer.status_code, answer.json()["detail"]) == (503, told)
        server.registry.recover()
        wait_for(lambda: server.client.get("/readyz").json() == {"ready": True, "version": version})
    (config.store / "versions" / f"{version:06d}.json").unlink()
    server.queue.redis.delete(keys.pointer)
    with running(config) as server:
        assert server.client.get("/readyz").json()["version"] is None, "nobody will recover a leftover"


def test_a_server_is_not_ready_while_the_store_gives_it_no_version_to_serve(
    config: ServiceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.engine.loading.READ_PAUSES_S", ())
    monkeypatch.setattr("service.engine.watcher.AGAIN_S", 0.1)
    with running(config) as server:
        version = server.publish(random_version(server.backbone, ("cat", "dog"))).version
    folder = config.store / "versions"
    away = folder.rename(folder.with_name("away"))
    with running(config, ready="/healthz") as server:
        wait_for(lambda: server.services.watcher.caught_up)
        for path in ("/readyz", "/v2/health/ready", "/v2/models/hippotune/ready"):
            answer = server.client.get(path)
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
            assert f"version {version} is refused: " in answer.text
        answer = server.client.post("/classify", content=picture(), headers=PNG)
        assert answer.status_code == 503
        assert f"version {version} is refused: " in answer.json()["detail"]
        away.rename(folder)
        wait_for(lambda: server.client.get("/readyz").json() == {"ready": True, "version": version})
        assert server.client.post("/classify", content=picture(), headers=PNG).json()["version"] == version


def test_a_server_that_serves_nothing_can_be_told_to_serve_another_version(config: ServiceConfig) -> None:
    with running(config) as server:
        damaged, good = (
            server.serve(random_version(server.backbone, ("cat", "dog"), seed=seed)).version
            for seed in range(2)
        )
        assert server.client.post(f"/versions/{damaged}/activate").is_success
        path = server.registry.shelf.path(damaged, "serving")
        path.unlink()  # a new file: the server may have mapped the old one
        path.write_bytes(b"torn")
    with running(config, ready="/healthz") as server:
        wait_for(lambda: server.services.watcher.caught_up)
        answer = server.client.get("/readyz")
        assert answer.status_code == 503
        assert f"version {damaged} is refused: " in answer.json()["detail"]
        assert server.client.post(f"/versions/{good}/activate").is_success
        wait_for(lambda: server.client.get("/readyz").json() == {"ready": True, "version": good})


def test_whoever_came_while_there_were_labels_is_answered_when_there_are_none(config: ServiceConfig) -> None:
    with running(config) as server, ThreadPoolExecutor() as pool:
        server.serve(random_version(server.backbone, ("cat", "dog")))
        released = threading.Event()
        server.services.engine.call(lambda: released.wait(WAIT_S) and None)
        waiting = pool.submit(server.client.post, "/classify", content=picture(), headers=PNG)
        wait_for(lambda: server.services.metrics.queue_depth._value.get() == 1)
        server.publish(random_version(server.backbone, ()))
        wait_for(lambda: server.services.served.snapshot and not server.services.served.snapshot.labels)
        released.set()
        assert waiting.result().json()["version"] == 1
        assert server.client.post("/classify", content=picture(), headers=PNG).status_code == 409
        assert server.client.get("/healthz").status_code == 200


def test_a_pass_is_warmed_once_and_not_for_each_version(
    config: ServiceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    warmed: list[int] = []

    def note(classifier: Classifier, checkpoint: Checkpoint, px: int) -> None:
        warmed.append(checkpoint.pools.slots)
        warm(classifier, checkpoint, px)

    monkeypatch.setattr("service.engine.loading.warm", note)
    with running(config) as server:
        for slots, seed in ((0, 1), (12, 2), (12, 3), (24, 4)):
            server.serve(random_version(server.backbone, ("cat", "dog"), slots, seed))
        assert server.client.post("/classify", content=picture(), headers=PNG).json()["version"] == 4
    assert warmed == [0, 12]
