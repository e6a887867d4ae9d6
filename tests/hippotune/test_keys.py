"""`hippotune keys`, and a server that is not to be had without one."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from exchange.embedded import EmbeddedRedis
from hippotune import AsyncClient, Client, doctor
from hippotune.commands import keys
from hippotune.errors import Refused
from hippotune.settings import Settings
from service.http.api_keys import Role, parse
from tests.hippotune.conftest import ROOT, clean_environment, hippotune
from tests.service.support import wait_for

OPEN = ("serve", "--redis-url", "redis://127.0.0.1:1", "--port", "0", "--host", "0.0.0.0")


def new(file: Path, role: str, name: str) -> str:
    result = hippotune("keys", "new", "--role", role, "--name", name, "--file", file)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_a_key_is_printed_once_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    key = new(file, "submit", "ci")
    assert key.startswith("ht_")
    assert key not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    new(file, "admin", "ops")
    listed = json.loads(hippotune("keys", "list", "--file", file, "--json").stdout)
    assert listed == [{"name": "ci", "roles": ["submit"]}, {"name": "ops", "roles": ["admin"]}]
    roles = [word for role in ("submit", "classify", "admin") for word in ("--role", role)]
    assert hippotune("keys", "new", *roles, "--name", "all", "--file", file).returncode == 0
    assert "admin, classify, submit" in hippotune("keys", "list", "--file", file).stdout
    assert hippotune("keys", "revoke", "--name", "all", "--file", file).returncode == 0
    before = file.read_text()
    again = hippotune("keys", "new", "--role", "admin", "--name", "ci", "--file", file)
    assert (again.returncode, again.stdout, file.read_text()) == (1, "", before)
    assert f"{file} already holds a key named ci" in again.stderr
    assert f"`hippotune keys revoke --name ci --file {file}`" in again.stderr
    assert hippotune("keys", "revoke", "--name", "ci", "--file", file).returncode == 0
    assert [
        entry["name"] for entry in json.loads(hippotune("keys", "list", "--file", file, "--json").stdout)
    ] == ["ops"]
    assert hippotune("keys", "revoke", "--name", "ci", "--file", file).returncode == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [".keys.lock", "keys"], (
        "no draft is left behind"
    )


def test_a_file_that_is_missing_or_broken_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    missing = hippotune("keys", "revoke", "--name", "ci", "--file", tmp_path / "keys")
    assert missing.returncode == 1
    assert f"No such file or directory: '{tmp_path / 'keys'}'" in missing.stderr
    assert list(tmp_path.iterdir()) == []
    new(tmp_path / "keys", "submit", "ci")
    (tmp_path / "keys").write_text((tmp_path / "keys").read_text() + "submit:ops\n")
    broken = hippotune("keys", "revoke", "--name", "ci", "--file", tmp_path / "keys")
    assert broken.returncode == 1
    assert f"line 2 of {tmp_path / 'keys'} must be" in broken.stderr


def test_a_key_is_taken_out_of_the_file_that_a_link_leads_to(tmp_path: Path) -> None:
    file, link = tmp_path / "secret" / "keys", tmp_path / "keys"
    file.parent.mkdir()
    link.symlink_to(file)
    new(link, "admin", "ops")
    new(link, "submit", "ci")
    assert hippotune("keys", "revoke", "--name", "ops", "--file", link).returncode == 0
    assert link.is_symlink()
    assert [key.name for key in parse(file.read_text(), "")] == ["ci"]


def test_keys_made_and_revoked_at_once_undo_nothing(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    old, fresh = [f"old{number}" for number in range(12)], [f"new{number}" for number in range(12)]
    for name in old:
        keys.new(name, [Role.CLASSIFY], file)
    with ThreadPoolExecutor(24) as together:
        revoked = [together.submit(keys.revoke, name, file) for name in old]
        made = [together.submit(keys.new, name, [Role.CLASSIFY], file) for name in fresh]
    for each in (*revoked, *made):
        each.result()
    assert sorted(key.name for key in parse(file.read_text(), "")) == sorted(fresh)


def test_a_disk_that_takes_no_file_leaves_the_old_one_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys"
    keys.new("ops", [Role.ADMIN], file)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def full(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        keys.new("ci", [Role.SUBMIT], file)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("more", [(), ("--api-keys", "")])
def test_no_address_of_others_without_keys(tmp_path: Path, more: tuple[str, ...]) -> None:
    result = hippotune(*OPEN, "--store", tmp_path, *more)
    assert result.returncode == 2
    told = " ".join(result.stderr.replace("│", " ").split())
    assert "needs API keys" in told
    assert "--insecure" in told


def test_an_empty_file_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# none yet\n")
    assert hippotune(*OPEN, "--store", tmp_path, "--api-keys-file", tmp_path / "keys").returncode == 2


def test_keys_and_insecure_contradict_each_other(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    new(file, "admin", "me")
    result = hippotune(*OPEN, "--store", tmp_path, "--api-keys-file", file, "--insecure")
    assert result.returncode == 1
    assert "insecure" in result.stderr


async def told_async(address: str, key: str) -> int:
    async with AsyncClient(address, api_key=key) as client:
        return len(await client.tasks())


def test_a_server_on_all_addresses_serves_those_with_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys"
    key = new(file, "admin", "me")
    with EmbeddedRedis(tmp_path / "redis") as redis, (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "hippotune", "serve", "--json", "--host", "0.0.0.0", "--port", "0",
             "--redis-url", redis.url, "--store", str(tmp_path), "--api-keys-file", str(file), "--threads", "1",
             "--log-level", "debug"],
            cwd=ROOT, env=clean_environment(), stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip
        try:
            assert server.stdout is not None
            address = json.loads(server.stdout.readline())["address"].replace("0.0.0.0", "127.0.0.1")
            with Client(address, retries=0) as client, pytest.raises(Refused, match="401"):
                client.tasks()
            found = doctor.server(Settings(url=address))
            assert "is there and refuses: 401" in found.found
            assert "API_KEY" in found.advice
            # It listens before it has looked which version to serve.
            wait_for(lambda: doctor.server(Settings(url=address, api_key=key)).verdict == "ok")
            with Client(address, api_key=key) as client:
                assert client.tasks() == []
            with ThreadPoolExecutor(1) as pool:  # a loop may be running in this thread
                assert pool.submit(asyncio.run, told_async(address, key)).result() == 0
            keyless = hippotune("tasks", "--url", address, "--json")
            assert keyless.returncode == 4
            assert "HIPPOTUNE_API_KEY or --api-key names one" in keyless.stderr
            assert json.loads(hippotune("tasks", "--url", address, "--json", "--api-key", key).stdout) == []
            monkeypatch.setenv("HIPPOTUNE_API_KEY", key)
            with Client(address) as client:
                assert client.versions() == []
            assert hippotune("forget", "none", "--url", address, "--api-key", key).returncode == 4
        finally:
            server.terminate()
            code = server.wait(30)
            server.stdout.close()
    assert code == 0
    text = (tmp_path / "log").read_text()
    assert '"key": "me"' in text, "who changed something is logged"
    assert key not in text
