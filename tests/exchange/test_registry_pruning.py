"""Which versions are dropped, and which never."""

import pytest

from exchange.errors import VersionNotFound, VersionUnreadable
from tests.exchange.publishing import files_of, publish, publish_chain


def test_pruning_keeps_what_is_needed(registry):
    publish_chain(registry, ["consolidated", "fast", "consolidated", "fast", "fast", "consolidated", "fast"])
    registry.activate(2)
    assert registry.prune(keep=2) == [5, 4, 3]
    assert [manifest.version for manifest in registry.manifests()] == [7, 6, 2, 1]
    registry.activate(7)
    assert registry.prune(keep=1) == [2, 1]
    with pytest.raises(VersionNotFound, match=r"^no version 1: the oldest that is kept is 6$"):
        registry.shelf.manifest(1)
    with pytest.raises(VersionNotFound, match=r"^no version 9$"):
        registry.shelf.manifest(9)
    assert {name[:6] for name in files_of(registry)} == {"000006", "000007"}


def test_what_nobody_would_go_back_to_leaves_room_for_the_rest(registry):
    corrections = ["fast", "consolidated"] * 6
    for version, kind in enumerate(["consolidated", *corrections, "fast", "consolidated", "fast"]):
        tasks = ["t1"] if version <= len(corrections) else ["t1", "t2"]
        publish(registry, version or None, kind, consolidated=tasks)
    registry.prune(keep=5)
    kept = {manifest.version: manifest.kind for manifest in registry.manifests()}
    assert kept == {16: "fast", 15: "consolidated", 14: "fast", 13: "consolidated", 1: "consolidated"}


def test_of_fast_versions_that_name_their_base_none_is_kept_to_lead_there(registry):
    for version in range(3):
        publish(registry, version or None, base=0)
    publish(registry, 3, "consolidated")
    for version in range(4, 8):
        publish(registry, version, base=4)
    publish(registry, 8)  # of a trainer that noted no base
    registry.set_canary(3, 0.5)
    assert registry.prune(keep=1) == [7, 6, 5, 2, 1]
    publish(registry, 9, base=4)
    assert registry.prune(keep=1) == [9, 8]
    assert [manifest.version for manifest in registry.manifests()] == [10, 4, 3]


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


def test_pruning_an_empty_registry_does_nothing(registry):
    assert registry.prune(keep=1) == []
