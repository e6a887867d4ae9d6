"""/versions and the swap: no lost request, no mixed answer, and the old version stays when the new one is bad."""

from __future__ import annotations

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import torch

from exchange.embedded import EmbeddedRedis
from exchange.queue import QueueConfig
from model.backbone import BackboneSpec
from model.checkpoint import Checkpoint
from service.config import ServiceConfig
from tests.service.support import Running, picture, random_version, running, wait_for

PNG = {"Content-Type": "image/png"}


def serving(server: Running) -> int | None:
    answer: int | None = server.client.get("/versions").json()["serving"]
    return answer


def test_history_and_rolling_back_and_forward(config: ServiceConfig) -> None:
    with running(config) as server:
        empty = server.client.get("/versions").json()
        assert (empty["current"], empty["serving"], empty["versions"]) == (None, None, [])
        assert empty["budget"] is None
        nothing = server.client.post("/classify", content=picture(), headers=PNG)
        assert nothing.status_code == 409
        assert "nothing learned yet" in nothing.json()["detail"]
        assert server.client.get("/readyz").json() == {"ready": True, "version": None}
        first = server.serve(random_version(server.backbone, ("cat", "dog"), seed=1)).version
        second = server.serve(random_version(server.backbone, ("cat", "dog", "emu"), seed=2)).version
        known = server.client.get("/versions").json()
        assert (known["current"], known["serving"]) == (second, second)
        defaults = {"default_tmax": 4, "default_epsilon": 0, "default_topk": 5}
        assert known["budget"] == {"tmax": 4, "topk": 12, **defaults}
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


def test_bad_versions_are_refused_and_reported(config: ServiceConfig, tmp_path: Path) -> None:
    with running(config) as server:
        good = random_version(server.backbone, ("cat", "dog"))
        version = server.serve(good).version
        poisoned = random_version(server.backbone, ("cat", "dog"))
        poisoned.head.weight[0, 0] = torch.nan
        elsewhere = Checkpoint(
            type(good.identity)("other", 32, "0" * 64), good.loop, good.pools, good.head, good.labels
        )
        bad = [server.publish(poisoned), server.publish(good, labels=("cat",)), server.publish(elsewhere)]
        wait_for(
            lambda: (
                bad[-1].version in {r["version"] for r in server.client.get("/versions").json()["refused"]}
            )
        )
        refused = {r["version"]: r["reason"] for r in server.client.get("/versions").json()["refused"]}
        assert "backbone" in refused[bad[2].version]
        answer = server.client.post("/classify", content=picture(), headers=PNG)
        assert answer.json()["version"] == version
        assert server.client.post(f"/versions/{bad[2].version}/activate").status_code == 409
        path = server.registry.path(version, "serving")
        shutil.copy(path, tmp_path / "copy")
        with path.open("r+b") as file:
            file.seek(-1, 2)
            file.write(b"\xff")
        assert server.client.post(f"/versions/{version}/activate").status_code == 409
        assert server.client.post("/classify", content=picture(), headers=PNG).json()["version"] == version


def test_swaps_under_load_lose_nothing_and_mix_nothing(config: ServiceConfig) -> None:
    pictures = [picture(seed) for seed in range(40)]
    files = [("file", (str(index), data)) for index, data in enumerate(pictures)]
    with running(config) as server:
        # Version n of this test knows only labels that end in n: an answer that mixes two versions shows it.
        def version(number: int) -> Checkpoint:
            return random_version(
                server.backbone, [f"{name}{number}" for name in "abc"], slots=6 + 6 * number, seed=number
            )

        names = {server.serve(version(0)).version: 0}
        stop = threading.Event()

        answers: list[tuple[int, Any]] = []

        def ask(many: bool) -> None:
            with httpx.Client(base_url=server.url, timeout=20) as client:
                while not stop.is_set():
                    sent = {"files": files} if many else {"content": pictures[0], "headers": PNG}
                    response = client.post("/classify", params={"tmax": 1 + len(answers) % 4}, **sent)  # type: ignore[arg-type]
                    answers.append((response.status_code, response.json()))

        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(ask, many) for many in (False, False, False, True)]
            try:
                for number in range(1, 9):
                    answered = len(answers)
                    names[server.serve(version(number)).version] = number
                    while len(answers) < answered + 4 and not any(caller.done() for caller in asking):
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
    assert len(seen) > 4


def test_answers_go_on_while_redis_is_away_and_the_watcher_comes_back(
    tmp_path: Path, backbone: BackboneSpec
) -> None:
    redis = EmbeddedRedis(tmp_path / "redis")
    redis.start()
    config = ServiceConfig(redis.url, tmp_path / "store", backbone, QueueConfig(), "torch", threads=1)
    try:
        with running(config) as server:
            version = server.serve(random_version(server.backbone, ("cat", "dog"))).version
            redis.stop()
            assert (
                server.client.post("/classify", content=picture(), headers=PNG).json()["version"] == version
            )
            files = {"files": ("a", picture())}
            for away in (
                server.client.post("/tasks", files=files, data={"labels": ["cat"]}),
                server.client.get("/tasks"),
            ):
                assert away.status_code == 503
                assert int(away.headers["retry-after"]) >= 1
            assert server.client.get("/healthz").status_code == 200
            assert server.client.get("/readyz").status_code == 200
            assert server.client.get("/metrics").status_code == 200
            redis.start()
            newer = server.serve(random_version(server.backbone, ("cat", "dog"), seed=9)).version
            assert server.client.post("/classify", content=picture(), headers=PNG).json()["version"] == newer
    finally:
        redis.stop()
