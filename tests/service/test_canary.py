"""A canary: a version that answers a share of the requests beside the one that is served."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from exchange.queue import QueueConfig
from model.deliberation import LoopConfig
from model.spec import BackboneSpec
from service.config import ServiceConfig
from tests.service.support import Running, picture, problem, random_version, running, serving, wait_for

PICTURES = [picture(seed) for seed in range(24)]
PNG = {"Content-Type": "image/png"}


@dataclass(frozen=True, slots=True)
class Pair:
    """A server with two versions, of which `old` is served."""

    server: Running
    old: int
    new: int

    def answered(self) -> list[int]:
        """The version that answers each picture."""
        send = self.server.client.post
        return [send("/classify", content=data, headers=PNG).json()["version"] for data in PICTURES]

    def activate(self, version: int, **query: float) -> int:
        """The status of the answer."""
        return self.server.client.post(f"/versions/{version}/activate", params=query).status_code

    def try_new(self, share: float) -> None:
        """Returns once the canary answers beside `old`."""
        assert self.activate(self.new, canary=share) == 200
        wait_for(self.canary_answers)

    def canary_answers(self) -> bool:
        canary = self.server.client.get("/versions").json()["canary"]
        return canary is not None and canary["answering"] and serving(self.server) == self.old


@pytest.fixture(scope="module")
def shared(
    redis_url: str, backbone: BackboneSpec, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    store = tmp_path_factory.mktemp("canary")
    queue = QueueConfig(prefix=store.name)
    with running(ServiceConfig(redis_url, store, backbone, queue, runtime="torch", threads=1)) as server:
        old = server.serve(random_version(server.backbone, ("cat", "dog"), seed=1)).version
        new = server.serve(random_version(server.backbone, ("cat", "dog", "emu"), seed=2)).version
        yield Pair(server, old, new)


@pytest.fixture
def pair(shared: Pair) -> Pair:
    """`old` is served, and there is no canary."""
    shared.activate(shared.new, canary=0)
    shared.activate(shared.old)
    wait_for(lambda: set(shared.answered()) == {shared.old})
    return shared


def test_it_answers_its_share_and_the_same_pictures_each_time(pair: Pair) -> None:
    pair.try_new(0.5)
    answers = pair.answered()
    assert set(answers) == {pair.old, pair.new}
    assert answers == pair.answered()
    text = pair.server.client.get("/metrics").text
    for version in (pair.old, pair.new):
        assert f'hippotune_version_images_total{{outcome="answered",version="{version}"}}' in text
        assert f'hippotune_version_compute_seconds_count{{version="{version}"}}' in text


def test_it_answers_within_its_own_budget_unless_one_is_asked_for(pair: Pair) -> None:
    narrow = random_version(pair.server.backbone, ("cat", "dog"), loop=LoopConfig(topk=3, tmax=2))
    canary = pair.server.publish(narrow).version
    wait_for(lambda: pair.server.client.get(f"/versions/{canary}").is_success)
    pair.activate(pair.old)
    assert pair.activate(canary, canary=1) == 200
    wait_for(lambda: set(pair.answered()) == {canary})

    def granted(query: str) -> tuple[int, int]:
        budget = pair.server.client.post(f"/classify{query}", content=PICTURES[0], headers=PNG).json()[
            "budget"
        ]
        return budget["tmax"], budget["topk"]

    assert [granted(query) for query in ("", "?topk=2", "?tmax=4")] == [(2, 3), (2, 2), (2, 3)]
    assert pair.activate(canary, canary=0) == 200


def test_whoever_names_a_version_gets_no_canary(pair: Pair) -> None:
    def inferred(path: str) -> list[str]:
        url, sized = f"/v2/models/hippotune{path}/infer", {"Inference-Header-Content-Length": "0"}
        send = pair.server.client.post
        return [send(url, content=data, headers=sized).json()["model_version"] for data in PICTURES]

    pair.try_new(0.5)
    assert inferred("") == [str(version) for version in pair.answered()]
    assert set(inferred(f"/versions/{pair.old}")) == {str(pair.old)}


def test_whoever_asks_for_labels_that_it_does_not_know_gets_no_canary(pair: Pair) -> None:
    """All labels of a request are answered: those of the version served, of which a canary that is older lacks some."""
    pair.activate(pair.new)
    wait_for(lambda: serving(pair.server) == pair.new)
    assert pair.activate(pair.old, canary=1) == 200
    wait_for(lambda: set(pair.answered()) == {pair.old})

    def labelled(*labels: str) -> tuple[int, set[str]]:
        params = {"labels": list(labels)}
        answer = pair.server.client.post("/classify", content=PICTURES[0], headers=PNG, params=params).json()
        return answer["version"], {one["label"] for one in answer["predictions"]}

    assert labelled("cat") == (pair.old, {"cat"})
    assert labelled("cat", "emu") == (pair.new, {"cat", "emu"})
    assert pair.activate(pair.old, canary=0) == 200


def test_a_share_of_one_answers_all_and_of_zero_ends_it(pair: Pair) -> None:
    pair.try_new(1)
    wait_for(lambda: set(pair.answered()) == {pair.new})
    pair.activate(pair.new, canary=0)
    wait_for(lambda: set(pair.answered()) == {pair.old})
    assert pair.server.client.get("/versions").json()["canary"] is None


def test_one_that_is_another_than_the_canary_cannot_end_as_it(pair: Pair) -> None:
    pair.try_new(0.5)
    wrong = pair.server.client.post(f"/versions/{pair.old}/activate", params={"canary": 0})
    assert (wrong.status_code, wrong.json()["detail"]) == (
        409,
        f"version {pair.old} is not the canary; version {pair.new} is",
    )
    assert pair.canary_answers()
    assert pair.activate(pair.new, canary=0) == 200
    assert pair.activate(pair.old, canary=0) == 200, "there is none"


def test_activating_it_promotes_it(pair: Pair) -> None:
    pair.try_new(0.5)
    pair.activate(pair.new)
    wait_for(lambda: set(pair.answered()) == {pair.new})
    assert pair.server.client.get("/versions").json()["canary"] is None
    assert f'version="{pair.old}"' not in pair.server.client.get("/metrics").text


def test_a_share_beyond_one_and_a_version_that_is_none_are_refused(pair: Pair) -> None:
    assert pair.activate(pair.new, canary=1.5) == 422
    assert pair.activate(99, canary=0.5) == 404


def test_the_version_served_is_no_canary_of_its_own(pair: Pair) -> None:
    assert pair.activate(pair.old, canary=0.5) == 409
    assert pair.server.client.get("/versions").json()["canary"] is None


def test_one_that_cannot_be_served_answers_nobody(pair: Pair) -> None:
    def refused() -> list[int]:
        return [each["version"] for each in pair.server.client.get("/versions").json()["refused"]]

    broken = random_version(pair.server.backbone, ("cat", "dog"))
    broken.head.weight[0, 0] = torch.nan
    bad = pair.server.publish(broken).version
    wait_for(lambda: refused().count(bad) == 1)
    pair.activate(pair.old)
    pair.activate(bad, canary=1)
    wait_for(lambda: refused().count(bad) == 2)
    assert set(pair.answered()) == {pair.old}


def test_one_whose_files_are_damaged_since_can_be_ended(pair: Pair) -> None:
    server = pair.server
    pair = replace(pair, new=server.serve(random_version(server.backbone, ("cat", "dog"), seed=4)).version)
    assert pair.activate(pair.old) == 200
    pair.try_new(1)
    (server.registry.shelf.root / f"{pair.new:06}.json").write_bytes(b"{")
    assert set(pair.answered()) == {pair.new}
    assert pair.activate(pair.new, canary=0.5) == 409
    assert pair.activate(pair.new, canary=0) == 200
    wait_for(lambda: set(pair.answered()) == {pair.old})
    assert pair.activate(pair.new, canary=0) == 409, "nothing tells of it any more"


def test_one_that_ends_while_a_version_is_tried_again_answers_no_more(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, watcher = pair.server, pair.server.services.watcher
    late = server.serve(random_version(server.backbone, ("cat", "dog"), seed=3)).version
    pair.activate(pair.old)
    pair.try_new(1)
    follow, tries = watcher._follow, []

    def end_it_meanwhile(version: int) -> None:
        tries.append(version)
        if len(tries) == 2:
            server.registry.set_canary(pair.new, 0)
        follow(version)

    monkeypatch.setattr("service.engine.loading.READ_PAUSES_S", ())
    monkeypatch.setattr("service.engine.watcher.AGAIN_S", 0.1)
    monkeypatch.setattr(watcher, "_follow", end_it_meanwhile)
    path = server.registry.shelf.path(late, "serving")
    shutil.move(path, tmp_path / "late")
    server.registry.activate(late)
    wait_for(lambda: len(tries) > 2)
    assert set(pair.answered()) == {pair.old}


def test_a_share_in_the_body_does_not_let_the_version_answer_everybody(pair: Pair) -> None:
    path, send = f"/versions/{pair.new}/activate", pair.server.client.post
    problem(send(path, json={"canary": 0.1}), 422, "body", "be left out")
    problem(send(path, data={"canary": "0.1"}), 422, "body", "be left out")
    assert pair.server.registry.current() == pair.old
    assert send(f"/versions/{pair.old}/activate", json={}).status_code == 200
