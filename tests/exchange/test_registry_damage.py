"""Versions whose files or records are damaged, late or gone, and writers that crash."""

import pytest

from exchange.errors import VersionCorrupt, VersionNotFound, VersionUnreadable
from tests.exchange.publishing import files_of, publish, publish_chain


@pytest.mark.parametrize("damage", [lambda data: data[:3], lambda data: b"", lambda data: b"W" + data[1:]])
def test_a_damaged_file_is_noticed(registry, damage):
    publish(registry)
    path = registry.shelf.path(1, "serving")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(VersionCorrupt, match="000001"):
        registry.shelf.verify(1, "serving")


def test_a_missing_file_is_noticed(registry):
    publish(registry)
    registry.shelf.path(1, "serving").unlink()
    with pytest.raises(VersionUnreadable):
        registry.shelf.verify(1, "serving")


def test_a_damaged_manifest_is_noticed_and_the_others_are_listed(registry):
    publish_chain(registry, ["fast", "fast"])
    manifest = registry.shelf.root / "000001.json"
    manifest.write_bytes(manifest.read_bytes()[:-10])
    with pytest.raises(VersionCorrupt, match="version 1"):
        registry.shelf.manifest(1)
    assert [manifest.version for manifest in registry.manifests()] == [2]


def test_what_was_listed_before_is_read_again_only_where_it_is_another_file(registry, monkeypatch):
    publish_chain(registry, ["fast", "fast"])
    read, manifest = [], registry.shelf.manifest

    def noted(version):
        read.append(version)
        return manifest(version)

    monkeypatch.setattr(registry.shelf, "manifest", noted)
    both = registry.manifests()
    assert registry.manifests() == both
    assert read == [2, 1]
    path = registry.shelf.root / "000001.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    assert registry.manifests() == both[:1]
    path.write_bytes(whole)
    assert registry.manifests() == both
    publish(registry, 2)
    del read[:]
    assert registry.manifests()[1:] == both
    assert read == [3]


def test_a_manifest_that_the_disk_does_not_give_is_not_taken_for_damaged(registry):
    publish(registry)
    manifest = registry.shelf.root / "000001.json"
    manifest.unlink()
    manifest.mkdir()  # so that opening it fails, for root too
    with pytest.raises(VersionUnreadable, match="version 1 cannot be read"):
        registry.shelf.manifest(1)


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
        registry.shelf.manifest(2)
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
    registry.shelf.path(3, "serving").write_bytes(b"torn")
    redis.flushall()
    assert registry.current() is None
    assert registry.recover() == 2
    assert registry.current() == 2
    assert [manifest.version for manifest in registry.manifests()] == [2, 1]
    assert publish(registry, 2).version == 4


def test_recovering_hashes_no_more_than_the_version_it_points_to(registry, redis, monkeypatch):
    publish_chain(registry, ["consolidated"] * 4)
    registry.shelf.path(4, "serving").write_bytes(b"torn")
    (registry.shelf.root / "000001.json").write_text("torn")
    hashed, verify = [], registry.shelf.verify

    def noted(version, role):
        hashed.append(version)
        verify(version, role)

    monkeypatch.setattr(registry.shelf, "verify", noted)
    redis.flushall()
    assert registry.recover() == 3
    assert hashed == [4, 3]
    assert [manifest.version for manifest in registry.manifests()] == [3, 2]


def test_recovering_changes_nothing_where_there_is_a_pointer(registry):
    assert registry.recover() is None
    publish_chain(registry, ["fast", "fast"])
    registry.activate(1)
    assert registry.recover() == 1


@pytest.fixture
def restored(redis):
    """Puts Redis back to what it was when this was called."""

    def remember():
        kept = {key: redis.dump(key) for key in redis.scan_iter()}

        def restore():
            redis.flushall()
            for key, value in kept.items():
                redis.restore(key, 0, value)

        return restore

    return remember


def test_what_is_newer_than_a_restored_redis_is_kept_and_can_be_activated(registry, restored):
    publish_chain(registry, ["consolidated", "consolidated"])
    restore = restored()
    for parent in (2, 3, 4):
        publish(registry, parent, "consolidated", consolidated=(f"t{parent}",))
    registry.shelf.path(4, "serving").write_bytes(b"torn")
    restore()
    assert registry.readmit() == [3, 5]
    assert registry.readmit() == []
    assert registry.current() == 2
    assert publish(registry, 2).version == 6
    registry.prune(keep=20)
    assert [manifest.version for manifest in registry.manifests()] == [6, 5, 3, 2, 1]
    assert {"t2", "t4"} <= registry.known_tasks()
    registry.activate(5)
    assert registry.current() == 5


def test_a_version_found_again_can_still_be_published_by_who_wrote_it(registry, monkeypatch):
    """A trainer that was stopped just before it moved the pointer, and wakes up while another one begins."""
    publish(registry)
    move = registry._move

    def late(*arguments):
        assert registry.readmit() == [2]
        move(*arguments)

    monkeypatch.setattr(registry, "_move", late)
    assert publish(registry, 1, lease_token=0).version == 2
    registry.shelf.verify(2, "serving")
    assert registry.current() == 1


def test_a_redis_that_lost_its_data_has_not_made_any_version_forget_its_tasks(registry, redis):
    publish(registry, kind="consolidated", consolidated=("t0",))
    redis.flushall()
    assert registry.known_tasks() == {"t0", "t1"}


def test_a_number_is_never_given_out_twice(registry, redis):
    publish_chain(registry, ["fast", "fast"])
    (registry.shelf.root / ".000007.partial").mkdir()
    redis.flushall()
    registry.recover()
    assert publish(registry, 2).version == 8


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


def test_a_store_that_cannot_be_listed_is_not_an_empty_one(registry):
    assert registry.shelf.numbers() == set()
    registry.shelf.root.write_text("no folder")
    with pytest.raises(VersionUnreadable, match=r"^versions cannot be listed: Not a directory$"):
        registry.newest_on_disk()


@pytest.mark.parametrize("mount_point", [True, False])
def test_a_store_that_is_away_has_lost_no_version(registry, mount_point):
    publish_chain(registry, ["consolidated", "fast"])
    away = registry.shelf.root.rename(registry.shelf.root.with_name("away"))
    if mount_point:
        registry.shelf.root.mkdir()
    for ask in (
        registry.manifests,
        registry.known_tasks,
        lambda: registry.prune(keep=1),
        lambda: registry.manifest(2),
        lambda: registry.activate(1),
        lambda: registry.set_canary(1, 0.5),
    ):
        with pytest.raises(VersionUnreadable, match=r"the store holds no"):
            ask()
    away.rename(registry.shelf.root)
    assert [manifest.version for manifest in registry.manifests()] == [2, 1]


def test_a_store_that_is_new_is_not_away(registry):
    assert registry.manifests() == []
    assert registry.known_tasks() == set()
    assert registry.prune(keep=1) == []
    for ask in (registry.manifest, registry.activate, lambda version: registry.set_canary(version, 0.5)):
        with pytest.raises(VersionNotFound, match=r"^no version 1$"):
            ask(1)


def test_a_pointer_that_is_no_number_is_told_and_activating_a_version_heals_it(registry, redis):
    publish_chain(registry, ["consolidated", "consolidated"])
    redis.set(registry.keys.pointer, b"\xff")
    with pytest.raises(VersionCorrupt, match=r"points to b'\\xff', which is no version: activate one"):
        registry.current()
    registry.activate(1)
    assert registry.current() == 1
