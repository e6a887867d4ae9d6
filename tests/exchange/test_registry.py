"""Versions behind one pointer: published whole or not at all, moved back and forth, waited for."""

import threading
import time
from pathlib import Path

import pytest

from exchange import registry_lua as lua
from exchange.errors import (
    BackboneChanged,
    LeaseLost,
    NotCanary,
    PointerMoved,
    StoreUnavailable,
    VersionNotFound,
)
from exchange.lease import Lease
from exchange.manifests import BackboneRecord, Canary
from tests.exchange.publishing import files_of, publish, publish_chain


def test_a_version_is_published_served_and_whole(registry):
    assert registry.current() is None
    manifest = publish(registry)
    assert (manifest.version, manifest.parent, manifest.applied) == (1, None, ("t1",))
    assert registry.current() == 1
    assert registry.shelf.manifest(1) == manifest
    assert registry.manifests() == [manifest]
    assert registry.shelf.path(1, "serving").read_bytes() == b"weights"
    registry.shelf.verify(1, "serving")
    assert files_of(registry) == ["000001.json", "000001.serving.safetensors"]


def test_whoever_expected_another_version_is_refused_and_leaves_nothing(registry):
    publish(registry)
    before = files_of(registry)
    with pytest.raises(PointerMoved, match="version 1 is served"):
        publish(registry, parent=None)
    assert files_of(registry) == before
    assert registry.current() == 1
    assert publish(registry, parent=1).version == 3


def test_a_store_fits_the_backbones_its_versions_were_learned_on(registry):
    ours, other = BackboneRecord("vit_tiny", 224, "ab"), BackboneRecord("vit_tiny", 224, "cd" * 32)
    registry.shelf.check_backbone(ours)
    publish(registry, backbone=other)
    (registry.shelf.root / "000002.json").write_text("damaged")
    with pytest.raises(
        BackboneChanged, match=r"on vit_tiny at 224 px \(weights cdcdcdcdcdcd\), not on vit_tiny"
    ):
        registry.shelf.check_backbone(ours)
    publish(registry, parent=1, backbone=ours)
    registry.shelf.check_backbone(ours)
    registry.shelf.check_backbone(other)


def test_of_many_who_publish_at_once_one_wins(registry):
    publish(registry)
    lost = []

    def try_it():
        try:
            publish(registry, parent=1)
        except PointerMoved:
            lost.append(1)

    threads = [threading.Thread(target=try_it) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lost) == 4
    assert len(registry.manifests()) == 2


def test_a_zombie_cannot_publish_even_where_the_pointer_has_not_moved(registry, redis):
    lease = Lease(redis, ttl_s=0.05)
    zombie = lease.acquire()
    publish(registry, lease_token=zombie)
    time.sleep(0.1)
    successor = lease.acquire()
    before = files_of(registry)
    with pytest.raises(LeaseLost):
        publish(registry, 1, lease_token=zombie)
    assert files_of(registry) == before
    publish(registry, 1, lease_token=successor)


def test_a_slow_publisher_is_refused_after_a_newer_version_came_and_was_rolled_back(registry):
    publish(registry)

    def meanwhile(path: Path):
        publish(registry, parent=1)
        registry.activate(1)
        path.write_bytes(b"late")

    with pytest.raises(PointerMoved):
        publish(registry, parent=1, files={"serving": meanwhile})


@pytest.fixture
def sent_again(registry, monkeypatch):
    """Lets something happen between a script and the same once more, which the client sends if no answer came."""

    def prepare(script, meanwhile):
        send = registry.redis.eval

        def send_twice(sent, *arguments):
            answer = send(sent, *arguments)
            if sent != lua.SHARED + script:
                return answer
            monkeypatch.undo()
            meanwhile()
            return send(sent, *arguments)

        monkeypatch.setattr(registry.redis, "eval", send_twice)

    return prepare


@pytest.mark.parametrize("chosen", [1, 2])
def test_publishing_is_no_less_done_and_a_roll_back_stays_where_the_answer_was_lost(
    registry, sent_again, chosen
):
    publish_chain(registry, ["consolidated", "consolidated"])
    sent_again(lua.PUBLISH, lambda: registry.activate(chosen))
    assert publish(registry, parent=2).version == 3
    assert registry.current() == chosen
    assert [manifest.version for manifest in registry.manifests()] == [3, 2, 1]
    registry.shelf.verify(3, "serving")


def test_what_is_published_after_an_activation_stays_where_the_answer_to_that_was_lost(registry, sent_again):
    publish_chain(registry, ["consolidated", "consolidated"])
    sent_again(lua.ACTIVATE, lambda: publish(registry, parent=1))
    registry.activate(1)
    assert registry.current() == 3
    registry.activate(1)
    assert registry.current() == 1


def test_a_canary_that_was_ended_does_not_come_back_where_the_answer_to_its_start_was_lost(
    registry, sent_again
):
    publish_chain(registry, ["consolidated", "consolidated"])
    sent_again(lua.SET_CANARY, lambda: registry.set_canary(1, 0))
    registry.set_canary(1, 0.5)
    assert registry.canary() is None


def test_a_writer_that_fails_leaves_nothing(registry):
    publish(registry)
    before = files_of(registry)

    def full_disk(path: Path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    good = {"serving": lambda path: path.write_bytes(b"weights")}
    with pytest.raises(StoreUnavailable, match="No space left"):
        publish(registry, 1, files=good | {"learner": full_disk})
    assert files_of(registry) == before
    assert registry.current() == 1


def test_a_role_is_a_plain_word(registry):
    with pytest.raises(ValueError, match="role"):
        publish(registry, files={"../serving": lambda path: path.write_bytes(b"")})


def test_what_does_not_exist_is_named(registry):
    publish(registry)
    with pytest.raises(VersionNotFound, match="99"):
        registry.shelf.manifest(99)
    with pytest.raises(VersionNotFound, match="learner"):
        registry.shelf.path(1, "learner")
    with pytest.raises(VersionNotFound):
        registry.activate(99)


def test_rolling_back_and_forward(registry):
    publish_chain(registry, ["fast", "consolidated", "fast"])
    registry.activate(1)
    assert registry.current() == 1
    registry.activate(3)
    assert registry.current() == 3
    registry.activate(1)
    assert publish(registry, parent=1).version == 4


def test_a_canary_is_one_published_version_and_stays_on_disk(registry):
    publish_chain(registry, ["consolidated"] * 4)
    with pytest.raises(VersionNotFound):
        registry.set_canary(9, 0.5)
    with pytest.raises(ValueError, match="share is 2"):
        registry.set_canary(2, 2)
    registry.set_canary(1, 0.5)
    registry.set_canary(2, 0.25)
    assert registry.canary() == Canary(2, 0.25)
    assert registry.current() == 4
    assert registry.prune(keep=1) == [3, 1]
    with pytest.raises(NotCanary, match=r"^version 4 is not the canary; version 2 is$"):
        registry.set_canary(4, 0)
    with pytest.raises(NotCanary, match=r"^version 4 is the one served; a canary is another one beside it$"):
        registry.set_canary(4, 0.5)
    assert registry.canary() == Canary(2, 0.25)
    registry.activate(4)
    assert registry.canary() == Canary(2, 0.25)
    registry.activate(2)
    assert (registry.current(), registry.canary()) == (2, None)
    registry.set_canary(4, 0.1)
    registry.set_canary(4, 0)
    registry.set_canary(4, 0)
    assert registry.canary() is None
    registry.set_canary(4, 0.1)
    registry.shelf.remove(4)
    with pytest.raises(VersionNotFound):
        registry.set_canary(4, 0.2)
    registry.set_canary(4, 0)
    assert registry.canary() is None
