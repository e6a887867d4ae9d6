import threading
import time
from pathlib import Path

import pytest

from exchange.errors import (
    LeaseLost,
    PointerMoved,
    StoreUnavailable,
    VersionCorrupt,
    VersionNotFound,
    VersionUnreadable,
)
from exchange.lease import Lease
from exchange.records import Backbone, Canary
from exchange.registry import Registry


@pytest.fixture
def registry(redis, tmp_path):
    return Registry(redis, tmp_path / "versions")


def publish(registry, expected=None, kind="fast", **changes):
    fields = {
        "kind": kind,
        "parent": expected,
        "backbone": Backbone("vit_tiny", 224, "ab"),
        "labels": ["cat"],
        "consolidated": [],
        "fast": ["t1"],
        "slots": 0,
        "metrics": {"accuracy": 0.5},
        "files": {"serving": lambda path: path.write_bytes(b"weights")},
        "expected": expected,
    }
    return registry.publish(**fields | changes)


def publish_chain(registry, kinds):
    """Versions 1, 2, ... each the child of the one before."""
    for version, kind in enumerate(kinds):
        publish(registry, version or None, kind)


def files_of(registry):
    return sorted(path.name for path in registry.shelf.root.iterdir())


def test_a_version_is_published_served_and_whole(registry):
    assert registry.current() is None
    manifest = publish(registry)
    assert (manifest.version, manifest.parent, manifest.applied) == (1, None, ("t1",))
    assert registry.current() == 1
    assert registry.manifest(1) == manifest
    assert registry.manifests() == [manifest]
    assert registry.path(1, "serving").read_bytes() == b"weights"
    registry.verify(1, "serving")
    assert files_of(registry) == ["000001.json", "000001.serving.safetensors"]


def test_whoever_expected_another_version_is_refused_and_leaves_nothing(registry):
    publish(registry)
    before = files_of(registry)
    with pytest.raises(PointerMoved, match="version 1 is served"):
        publish(registry, expected=None)
    assert files_of(registry) == before
    assert registry.current() == 1
    assert publish(registry, expected=1).version == 3


def test_of_many_who_publish_at_once_one_wins(registry):
    publish(registry)
    lost = []

    def try_it():
        try:
            publish(registry, expected=1)
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
        publish(registry, expected=1)
        registry.activate(1)
        path.write_bytes(b"late")

    with pytest.raises(PointerMoved):
        publish(registry, expected=1, files={"serving": meanwhile})


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


@pytest.mark.parametrize("damage", [lambda data: data[:3], lambda data: b"", lambda data: b"W" + data[1:]])
def test_a_damaged_file_is_noticed(registry, damage):
    publish(registry)
    path = registry.path(1, "serving")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(VersionCorrupt, match="000001"):
        registry.verify(1, "serving")


def test_a_missing_file_is_noticed(registry):
    publish(registry)
    registry.path(1, "serving").unlink()
    with pytest.raises(VersionUnreadable):
        registry.verify(1, "serving")


def test_a_damaged_manifest_is_noticed_and_the_others_are_listed(registry):
    publish_chain(registry, ["fast", "fast"])
    manifest = registry.shelf.root / "000001.json"
    manifest.write_bytes(manifest.read_bytes()[:-10])
    with pytest.raises(VersionCorrupt, match="version 1"):
        registry.manifest(1)
    assert [manifest.version for manifest in registry.manifests()] == [2]


def test_a_manifest_that_the_disk_does_not_give_is_not_taken_for_damaged(registry):
    publish(registry)
    manifest = registry.shelf.root / "000001.json"
    manifest.unlink()
    manifest.mkdir()  # so that opening it fails, for root too
    with pytest.raises(VersionUnreadable, match="version 1 cannot be read"):
        registry.manifest(1)


def test_what_does_not_exist_is_named(registry):
    publish(registry)
    with pytest.raises(VersionNotFound, match="99"):
        registry.manifest(99)
    with pytest.raises(VersionNotFound, match="learner"):
        registry.path(1, "learner")
    with pytest.raises(VersionNotFound):
        registry.activate(99)


def test_rolling_back_and_forward(registry):
    publish_chain(registry, ["fast", "consolidated", "fast"])
    registry.activate(1)
    assert registry.current() == 1
    registry.activate(3, expected=1)
    assert registry.current() == 3
    with pytest.raises(PointerMoved):
        registry.activate(2, expected=1)
    registry.activate(1)
    assert publish(registry, expected=1).version == 4


def test_the_newest_consolidated_version_is_an_ancestor_of_the_current_one(registry):
    assert registry.newest_consolidated() is None
    publish_chain(registry, ["fast", "consolidated", "fast", "fast", "consolidated"])
    assert registry.newest_consolidated().version == 5
    registry.activate(4)
    assert registry.newest_consolidated().version == 2
    registry.activate(1)
    assert registry.newest_consolidated() is None


def test_who_waits_hears_of_a_move_at_once(registry):
    publish(registry)
    timer = threading.Timer(0.1, publish, [registry, 1])
    timer.start()
    started = time.monotonic()
    assert registry.wait(after=1, timeout_s=10) == 2
    assert time.monotonic() - started < 0.6
    timer.join()


def test_waiting_ends_and_what_moved_before_counts(registry):
    publish(registry)
    assert registry.wait(after=1, timeout_s=0.05) is None
    assert registry.wait(after=None, timeout_s=0) == 1


def test_a_lost_notification_is_made_up_for(registry, redis):
    publish(registry)
    timer = threading.Timer(0.1, redis.set, [registry.keys.pointer, 2])
    timer.start()
    assert registry.wait(after=1, timeout_s=5) == 2
    timer.join()


def test_a_crash_between_writing_and_naming_leaves_nothing_visible(registry, monkeypatch):
    publish(registry)

    def crash(*arguments):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(registry.shelf, "remove", lambda version: None)  # a dead process cleans nothing up
        patch.setattr(registry.shelf, "write_manifest", crash)
        with pytest.raises(SystemExit):
            publish(registry, 1)
    assert "000002.serving.safetensors" in files_of(registry)
    assert [manifest.version for manifest in registry.manifests()] == [1]
    with pytest.raises(VersionNotFound):
        registry.manifest(2)
    with pytest.raises(VersionNotFound):
        registry.activate(2)
    assert publish(registry, 1).version == 3
    registry.prune(keep=10)
    assert not [name for name in files_of(registry) if "000002" in name]


def test_a_crash_just_before_the_pointer_moves_leaves_nothing_visible(registry, monkeypatch):
    publish(registry)

    def crash(*arguments):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(registry, "_move", crash)
        with pytest.raises(SystemExit):
            publish(registry, 1)
    assert registry.current() == 1
    assert [manifest.version for manifest in registry.manifests()] == [1]
    with pytest.raises(VersionNotFound):
        registry.activate(2)


def test_a_fresh_redis_recovers_the_newest_whole_version(registry, redis):
    publish_chain(registry, ["consolidated", "fast", "fast"])
    registry.path(3, "serving").write_bytes(b"torn")
    redis.flushall()
    assert registry.current() is None
    assert registry.recover() == 2
    assert registry.current() == 2
    assert [manifest.version for manifest in registry.manifests()] == [2, 1]
    assert publish(registry, 2).version == 4


def test_recovering_changes_nothing_where_there_is_a_pointer(registry):
    assert registry.recover() is None
    publish_chain(registry, ["fast", "fast"])
    registry.activate(1)
    assert registry.recover() == 1


def test_a_number_is_never_given_out_twice(registry, redis):
    publish_chain(registry, ["fast", "fast"])
    (registry.shelf.root / ".000007.partial").mkdir()
    redis.flushall()
    registry.recover()
    assert publish(registry, 2).version == 8


def test_pruning_keeps_what_is_needed(registry):
    publish_chain(registry, ["consolidated", "fast", "consolidated", "fast", "fast", "consolidated", "fast"])
    registry.activate(2)
    assert registry.prune(keep=2) == [5, 4, 3]
    assert [manifest.version for manifest in registry.manifests()] == [7, 6, 2, 1]
    registry.activate(7)
    assert registry.prune(keep=1) == [2, 1]
    assert {name[:6] for name in files_of(registry)} == {"000006", "000007"}
    assert registry.newest_consolidated().version == 6


def test_pruning_takes_nothing_that_becomes_canary_or_is_activated_meanwhile(registry, monkeypatch):
    publish_chain(registry, ["consolidated", "fast", "consolidated", "consolidated"])
    lineage = registry._lineage
    for meanwhile in (lambda: registry.set_canary(2, 0.5), lambda: registry.activate(2)):
        monkeypatch.setattr(registry, "_lineage", lambda version, act=meanwhile: act() and lineage(version))
        assert registry.prune(keep=1) == []
        monkeypatch.undo()
        assert registry.prune(keep=1) in ([3], [])
        assert {name[:6] for name in files_of(registry)} == {"000001", "000002", "000004"}


@pytest.mark.parametrize("trouble", ["unreadable", "late"])
def test_pruning_waits_where_the_disk_does_not_tell_what_is_needed(registry, trouble):
    publish_chain(registry, ["consolidated", "fast", "consolidated"])
    registry.activate(2)
    manifest = registry.shelf.root / "000002.json"
    hidden = manifest.rename(manifest.with_suffix(".away"))
    if trouble == "unreadable":
        manifest.mkdir()
        with pytest.raises(VersionUnreadable):
            registry.prune(keep=1)
        manifest.rmdir()
    else:
        assert registry.prune(keep=1) == []
    hidden.rename(manifest)
    assert registry.prune(keep=1) == []
    assert registry.known_tasks() == {task for m in registry.manifests() for task in m.applied}


def test_recovering_waits_for_a_disk_that_does_not_tell_what_is_whole(registry, redis):
    publish_chain(registry, ["consolidated", "consolidated"])
    redis.flushall()
    manifest = registry.shelf.root / "000002.json"
    hidden = manifest.rename(manifest.with_suffix(".away"))
    manifest.mkdir()
    with pytest.raises(VersionUnreadable):
        registry.recover()
    assert registry.current() is None
    manifest.rmdir()
    hidden.rename(manifest)
    assert registry.recover() == 2


def test_pruning_an_empty_registry_does_nothing(registry):
    assert registry.prune(keep=1) == []


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
    registry.set_canary(4, 0)
    assert registry.canary() == Canary(2, 0.25)
    registry.activate(4)
    assert registry.canary() == Canary(2, 0.25)
    registry.activate(2)
    assert (registry.current(), registry.canary()) == (2, None)
    registry.set_canary(4, 0.1)
    registry.set_canary(4, 0)
    assert registry.canary() is None
