"""API keys as lines and as a ring that follows its file."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from service.http import api_keys
from service.http.api_keys import ApiKey, Keyring, Role, create, parse


def test_a_new_key_is_found_by_its_hash_and_no_other_is() -> None:
    secret, key = create("ci", [Role.SUBMIT, Role.CLASSIFY])
    other, _ = create("ci", [Role.ADMIN])
    ring = Keyring(None, key.line())
    assert ring.find(secret.encode()) == key
    assert ring.find(other.encode()) is None
    assert ring.find(b"") is None
    assert ring.find(key.digest.hex().encode()) is None, "the hash is no key"
    assert secret not in key.line()
    assert len(secret) > 40


def test_an_admin_may_everything_and_others_what_they_are_for() -> None:
    def may(*roles: Role) -> list[Role]:
        key = ApiKey("a", frozenset(roles), b"")
        return [role for role in Role if key.may(frozenset({role}))]

    assert may(Role.ADMIN) == list(Role)
    assert may(Role.SUBMIT) == [Role.SUBMIT]
    assert may(Role.CLASSIFY, Role.SUBMIT) == [Role.CLASSIFY, Role.SUBMIT]


def test_lines_may_be_empty_and_commented() -> None:
    _, key = create("ops@site.org", [Role.ADMIN])
    assert parse(f"# ours\n\n  {key.line()}   # the one on call\n", "file") == (key,)


@pytest.mark.parametrize(
    "wrong", ["god:me:" + "0" * 64, "admin:me:" + "0" * 63, "admin:my key:" + "0" * 64, "hunter2", "a\0b"]
)
def test_a_wrong_line_is_named_but_not_repeated(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"line 2 of keys\.txt") as caught:
        parse(f"# ours\n{wrong}", "keys.txt")
    assert wrong not in str(caught.value)


def test_names_are_unique() -> None:
    _, first = create("me", [Role.ADMIN])
    _, second = create("me", [Role.SUBMIT])
    with pytest.raises(ValueError, match="repeats the name me"):
        parse(f"{first.line()}\n{second.line()}", "file")


def test_the_ring_follows_its_file_and_survives_a_broken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "RELOAD_S", 0.0)
    file = tmp_path / "keys"
    old, old_key = create("old", [Role.ADMIN])
    new, new_key = create("new", [Role.ADMIN])
    file.write_text(old_key.line())
    ring = Keyring(file, "")
    assert ring.find(old.encode()) == old_key
    file.write_text("nonsense, but longer")
    assert ring.find(old.encode()) == old_key, "a file that cannot be read changes nothing"
    time.sleep(0.02)  # file systems tell times apart by a few milliseconds at best
    file.write_text(new_key.line())
    assert ring.find(new.encode()) == new_key
    assert ring.find(old.encode()) is None
    file.unlink()
    assert ring.find(new.encode()) == new_key


def test_a_missing_file_is_no_empty_ring(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Keyring(tmp_path / "none", "")
