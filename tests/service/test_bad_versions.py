"""A version that cannot be served is refused and reported, and the one before goes on answering."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import pytest
import torch
from structlog.testing import capture_logs

from model.checkpoint import Checkpoint
from service.config import ServiceConfig
from tests.service.support import WAIT_S, picture, random_version, running, serving, wait_for

PNG = {"Content-Type": "image/png"}


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
        path = server.registry.shelf.path(version, "serving")
        shutil.copy(path, tmp_path / "copy")
        with path.open("r+b") as file:
            file.seek(-1, 2)
            file.write(b"\xff")
        assert server.client.post(f"/versions/{version}/activate").status_code == 409
        assert server.client.post("/classify", content=picture(), headers=PNG).json()["version"] == version


def test_who_asks_is_told_that_what_was_learned_fits_another_backbone(config: ServiceConfig) -> None:
    with running(config) as server:
        good = random_version(server.backbone, ("cat", "dog"))
        identity = type(good.identity)("other", 32, "0" * 64)
        version = server.publish(Checkpoint(identity, good.loop, good.pools, good.head, good.labels)).version
        wait_for(lambda: server.services.watcher.unserved)
        answer = server.client.post("/classify", content=picture(), headers=PNG)
        assert answer.status_code == 503
        assert f"version {version} is refused" in answer.json()["detail"]
        assert "backbone" in answer.json()["detail"]


def test_a_version_whose_file_comes_late_is_served_even_after_it_was_refused(
    config: ServiceConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(config) as server, capture_logs() as lines:
        first, second = (
            server.serve(random_version(server.backbone, ("cat", "dog"), seed=seed)).version
            for seed in range(2)
        )
        server.registry.activate(first)
        wait_for(lambda: serving(server) == first)
        path = server.registry.shelf.path(second, "serving")
        shutil.move(path, tmp_path / "late")
        server.registry.activate(second)
        wait_for(lambda: "version cannot be read, trying on" in [line["event"] for line in lines])
        shutil.move(tmp_path / "late", path)
        wait_for(lambda: serving(server) == second)
        assert server.client.get("/versions").json()["refused"] == []
        monkeypatch.setattr("service.engine.loading.READ_PAUSES_S", (0.01,))
        monkeypatch.setattr("service.engine.watcher.AGAIN_S", 0.1)
        path = server.registry.shelf.path(first, "serving")
        shutil.move(path, tmp_path / "later still")
        server.registry.activate(first)
        wait_for(lambda: server.client.get("/versions").json()["refused"])
        assert serving(server) == second
        time.sleep(1.5)
        assert len(server.client.get("/versions").json()["refused"]) == 1
        shutil.move(tmp_path / "later still", path)
        wait_for(lambda: serving(server) == first)
        assert server.client.get("/versions").json()["refused"] == [], "what is served is refused no more"


def test_a_version_whose_file_goes_after_it_was_verified_is_missing_and_not_damaged(
    config: ServiceConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(config) as server:
        registry, away = server.services.registry_view, tmp_path / "away"
        verify = registry.shelf.verify

        def lose(version: int, role: str) -> None:
            verify(version, role)
            if not away.exists():
                shutil.move(registry.shelf.path(version, role), away)

        monkeypatch.setattr(registry.shelf, "verify", lose)
        monkeypatch.setattr("service.engine.loading.READ_PAUSES_S", ())
        monkeypatch.setattr("service.engine.watcher.AGAIN_S", 0.1)
        version = server.publish(random_version(server.backbone, ("cat", "dog"))).version
        wait_for(lambda: server.client.get("/versions").json()["refused"])
        told = server.client.get("/versions").text
        assert "No such file or directory" in told
        assert str(config.store) not in told
        shutil.copy(away, registry.shelf.path(version, "serving"))
        wait_for(lambda: serving(server) == version)


def test_a_version_and_a_canary_that_stay_away_are_reported_once_each(
    config: ServiceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.engine.loading.READ_PAUSES_S", ())
    monkeypatch.setattr("service.engine.watcher.AGAIN_S", 0.1)
    with running(config) as server:
        good, gone, canary = (
            server.serve(random_version(server.backbone, ("cat", "dog"), seed=seed)).version
            for seed in range(3)
        )
        server.registry.activate(good)
        wait_for(lambda: serving(server) == good)
        for version in (gone, canary):
            server.registry.shelf.path(version, "serving").unlink()
        server.registry.set_canary(canary, 0.5)
        server.registry.activate(gone)

        def refused() -> list[int]:
            return [each["version"] for each in server.client.get("/versions").json()["refused"]]

        wait_for(lambda: {gone, canary} <= set(refused()))
        time.sleep(1.5)
        assert sorted(refused()) == [gone, canary]


def test_a_server_that_starts_at_a_bad_version_serves_the_newest_good_one(config: ServiceConfig) -> None:
    with running(config) as server:
        good = server.serve(random_version(server.backbone, ("cat", "dog"))).version
        bad = server.publish(random_version(server.backbone, ("cat", "dog"), seed=2)).version
        path = server.registry.shelf.path(bad, "serving")
        path.unlink()  # a new file: the server has mapped the old one, and must not lose it under its feet
        path.write_bytes(b"torn")
    with running(config) as server:
        assert serving(server) == good
        listed = server.client.get("/versions").json()
        assert listed["current"] == bad
        assert [refusal["version"] for refusal in listed["refused"]] == [bad]


def test_a_stop_ends_an_export_that_a_version_waits_for_and_refuses_nothing(
    config: ServiceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, closed = threading.Event(), threading.Event()

    def export(_: Checkpoint) -> None:
        begun.set()
        closed.wait()
        raise RuntimeError("the server stopped before the graphs were exported")

    with capture_logs() as lines, running(config) as server:
        monkeypatch.setattr(server.services.runtime, "prepare", export)
        monkeypatch.setattr(server.services.runtime, "close", closed.set)
        server.publish(random_version(server.backbone, ("cat", "dog")))
        assert begun.wait(WAIT_S)
    assert "version refused" not in [line["event"] for line in lines]


def test_a_version_that_a_runtime_cannot_prepare_is_refused_and_not_tried_for_ever(
    config: ServiceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(config) as server:
        good = server.serve(random_version(server.backbone, ("cat", "dog"))).version
        tries = []

        def fail(checkpoint: Checkpoint) -> None:
            tries.append(checkpoint)
            raise RuntimeError("the exporter does not know this operator")

        monkeypatch.setattr(server.services.runtime, "prepare", fail)
        bad = server.publish(random_version(server.backbone, ("cat", "dog", "emu"))).version
        wait_for(lambda: [r["version"] for r in server.client.get("/versions").json()["refused"]] == [bad])
        assert "does not know" in server.client.get("/versions").json()["refused"][0]["reason"]
        assert serving(server) == good
        assert len(tries) == 1


def test_while_the_store_is_away_what_answers_is_told_and_no_version_is_lost(config: ServiceConfig) -> None:
    with running(config) as server:
        idle, canary, served = (
            server.serve(random_version(server.backbone, ("cat", "dog"), seed=seed)).version
            for seed in range(3)
        )
        server.registry.set_canary(canary, 0.5)
        wait_for(lambda: server.client.get("/versions").json()["canary"]["answering"])
        folder = server.registry.shelf.root
        away = folder.rename(folder.with_name("away"))
        listed = server.client.get("/versions")
        assert listed.status_code == 503
        assert int(listed.headers["retry-after"]) >= 1
        assert "versions cannot be listed" in listed.json()["detail"]
        asked = {version: server.client.get(f"/versions/{version}") for version in (idle, canary, served)}
        assert [answer.status_code for answer in asked.values()] == [503, 200, 200]
        assert f"version {idle} cannot be read: the store holds no version" in asked[idle].json()["detail"]
        assert asked[served].json()["serving"]
        assert server.client.post(f"/versions/{idle}/activate").status_code == 503
        away.rename(folder)
        assert len(server.client.get("/versions").json()["versions"]) == 3


def test_nobody_who_asks_is_told_where_the_store_lies(config: ServiceConfig) -> None:
    with running(config) as server:
        version, _ = (
            server.serve(random_version(server.backbone, ("cat", "dog"), seed=seed)).version
            for seed in range(2)
        )
        folder = server.registry.shelf.root
        folder.rename(folder.with_name("away"))
        folder.write_text("no folder")  # so that nothing in it can be read, by root either
        asked = server.client.get(f"/versions/{version}")
        activated = server.client.post(f"/versions/{version}/activate")
        for answer in (asked, activated):
            assert answer.status_code == 503
            assert "cannot be read: Not a directory" in answer.json()["detail"]
            assert str(config.store) not in answer.text
