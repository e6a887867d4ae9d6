import hashlib
import os
import time
from pathlib import Path

import pytest

from exchange.blobs import BlobStore
from exchange.errors import BlobCorrupt, BlobMissing, BlobUnreadable, StoreUnavailable
from tests.exchange.stored import path_of


def test_a_blob_comes_back_by_its_hash(blobs):
    name = blobs.put(b"image")
    assert name == hashlib.sha256(b"image").hexdigest()
    assert blobs.get(name) == b"image"
    assert blobs.exists(name)


def test_many_keep_their_order_and_equal_ones_are_stored_once(blobs):
    data = [bytes([i % 50]) for i in range(200)]
    names = blobs.put_many(iter(data))
    assert [blobs.get(name) for name in names] == data
    assert len(list(blobs.root.glob("??/*"))) == 50


def test_a_missing_blob_is_named(blobs):
    blobs.put(b"another")
    with pytest.raises(BlobMissing, match="f" * 64):
        blobs.get("f" * 64)


def test_a_store_that_is_not_there_has_lost_nothing(blobs):
    name = blobs.put(b"image")
    away = blobs.root.rename(blobs.root.with_name("away"))
    with pytest.raises(BlobUnreadable):
        blobs.get(name)
    away.rename(blobs.root)
    assert blobs.get(name) == b"image"


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "AB" * 32, "ab" * 32 + "\n"])
def test_no_name_leads_out_of_the_store(blobs, name):
    with pytest.raises(BlobMissing):
        blobs.get(name)


def test_a_damaged_blob_is_noticed_and_healed_by_storing_it_again(blobs):
    name = blobs.put(b"image")
    path_of(blobs, name).write_bytes(b"imago")
    with pytest.raises(BlobCorrupt, match=name):
        blobs.get(name)
    assert blobs.put(b"image") == name
    assert blobs.get(name) == b"image"


def test_a_blob_that_is_stored_again_while_it_is_swept_stays(blobs, monkeypatch):
    name = blobs.put(b"image")
    os.utime(path_of(blobs, name), (0, 0))
    rename = Path.rename

    def stored_again_just_before(path, target):
        monkeypatch.undo()
        blobs.put(b"image")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", stored_again_just_before)
    assert blobs.sweep(set(), 0, time.time() - 3600) == 0
    assert blobs.get(name) == b"image"
    assert [path.name for path in path_of(blobs, name).parent.iterdir()] == [name[2:]]


def test_a_store_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "blobs").write_text("a file where the directory should be")
    with pytest.raises(StoreUnavailable, match="cannot write to blobs in the store") as told:
        BlobStore(tmp_path / "blobs").put(b"image")
    assert str(tmp_path) not in str(told.value)


def test_a_crash_while_writing_leaves_no_blob(blobs, monkeypatch):
    def crash(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(KeyboardInterrupt):
        blobs.put(b"image")
    assert not blobs.exists(hashlib.sha256(b"image").hexdigest())
    assert list(blobs.root.glob("??/*")) == []


def test_a_sweep_takes_the_old_and_unneeded_only(blobs):
    old, needed, again, new = blobs.put_many([b"old", b"needed", b"again", b"new"])
    leftover = path_of(blobs, old).parent / ".partial-x"
    leftover.touch()
    for path in [*(path_of(blobs, name) for name in (old, needed, again)), leftover]:
        os.utime(path, (time.time() - 100, time.time() - 100))
    blobs.put(b"again")
    assert blobs.sweep({needed}, 0, time.time() - 50) == 2
    assert [blobs.exists(name) for name in (old, needed, again, new)] == [False, True, True, True]
    assert not leftover.exists()


def test_what_a_killed_sweep_had_set_aside_comes_back(blobs):
    old, needed, again = names = blobs.put_many([b"old", b"needed", b"again"])
    for path in (path_of(blobs, name) for name in names):
        os.utime(path, (time.time() - 100, time.time() - 100))
        path.rename(path.with_name(f".partial-{path.name}"))
    blobs.put(b"again")
    assert blobs.sweep({needed}, 0, time.time() - 50) == 1
    assert [blobs.exists(name) for name in (old, needed, again)] == [False, True, True]
    assert not [*blobs.root.glob("??/.*")]
