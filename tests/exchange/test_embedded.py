import os
import signal
import stat
import subprocess
import sys
import time

import pytest
from redis.exceptions import RedisError

from exchange import embedded
from exchange.connection import connect
from exchange.embedded import EmbeddedRedis, find_server
from exchange.errors import ExchangeUnavailable


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_it_is_private_durable_and_evicts_nothing(redis_server, redis):
    assert stat.S_IMODE(redis_server.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(redis_server.data_dir.stat().st_mode) == 0o700
    settings = redis.config_get("*")
    wanted = {"port": "0", "appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
    assert {name: settings[name] for name in wanted} == wanted


def test_it_stops_with_us_and_keeps_its_data(tmp_path):
    with EmbeddedRedis(tmp_path) as server, connect(server.url) as client:
        pid = server.pid
        client.set("a", 1)
    assert server.pid is None
    assert not alive(pid)
    with EmbeddedRedis(tmp_path) as server, connect(server.url) as client:
        assert client.get("a") == b"1"


def test_a_killed_server_has_what_it_acknowledged(tmp_path):
    server = EmbeddedRedis(tmp_path)
    server.start()
    with connect(server.url) as client:
        client.set("a", 1)
        os.kill(server.pid, signal.SIGKILL)
    server.stop()
    with server, connect(server.url) as client:
        assert client.get("a") == b"1"


def test_a_killed_server_is_started_again_on_the_same_data(tmp_path):
    with EmbeddedRedis(tmp_path) as server, connect(server.url) as client:
        client.set("a", 1)
        killed = server.pid
        os.kill(killed, signal.SIGKILL)
        deadline = time.monotonic() + 20
        while server.pid == killed and time.monotonic() < deadline:
            time.sleep(0.01)
        while True:
            try:
                assert client.get("a") == b"1"
                break
            except RedisError:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        pid = server.pid
    assert not alive(pid)


def test_one_directory_has_one_server(tmp_path):
    with EmbeddedRedis(tmp_path), pytest.raises(ExchangeUnavailable, match="wait until it has stopped"):
        EmbeddedRedis(tmp_path).start()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells it")
@pytest.mark.parametrize("again", [False, True], ids=["as started first", "as started again"])
def test_it_ends_when_its_parent_is_killed(tmp_path, again):
    program = (
        "import os, signal, sys, time, pathlib; from exchange.embedded import EmbeddedRedis\n"
        "server = EmbeddedRedis(pathlib.Path(sys.argv[1])); server.start(); first = server.pid\n"
        "if int(sys.argv[2]):\n"
        "    os.kill(first, signal.SIGKILL)\n"
        "    while server.pid == first: time.sleep(0.01)\n"
        "print('pid', server.pid, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(tmp_path), str(int(again))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        told = next(line for line in parent.stdout if line.startswith("pid "))  # the others are its log
        redis = int(told.split()[1])
        assert alive(redis)
        parent.kill()
    deadline = time.monotonic() + 20
    while alive(redis):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_server_that_outlived_its_parent_is_replaced(tmp_path):
    socket = EmbeddedRedis(tmp_path).socket
    options = ["--port", "0", "--unixsocket", socket, "--dir", tmp_path, "--appendonly", "yes"]
    orphan = subprocess.Popen([find_server(), *options], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while not socket.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with EmbeddedRedis(tmp_path):
        assert orphan.wait(20) == 0


def test_ctrl_c_in_the_terminal_does_not_reach_it(redis_server):
    assert os.getsid(redis_server.pid) != os.getsid(0)


def test_a_long_path_gets_a_short_private_socket(tmp_path):
    deep = tmp_path / ("d" * 120)
    with EmbeddedRedis(deep) as server, connect(server.url) as client:
        assert len(str(server.socket)) <= 100
        assert stat.S_IMODE(server.socket.parent.stat().st_mode) == 0o700
        assert client.ping()
        assert EmbeddedRedis(deep).socket == server.socket
    server.socket.parent.rmdir()


def test_a_socket_directory_of_another_user_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded.os, "getuid", lambda: os.geteuid() + 1)
    with pytest.raises(ExchangeUnavailable, match="another user"):
        EmbeddedRedis(tmp_path).start()


def test_its_folder_may_be_a_link_of_our_own(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    with EmbeddedRedis(tmp_path / "data") as server, connect(server.url) as client:
        assert client.ping()
        assert stat.S_IMODE((tmp_path / "disk").stat().st_mode) == 0o700


def test_a_server_that_does_not_start_says_why(tmp_path, monkeypatch):
    script(tmp_path / "redis-server", '[ "$1" = --version ] && echo "Redis server v=7.0.0"')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(ExchangeUnavailable, match="did not start"):
        EmbeddedRedis(tmp_path / "data").start()
    (tmp_path / "redis-server").unlink()
    with EmbeddedRedis(tmp_path / "data") as server:
        assert server.pid


def test_a_server_on_path_comes_first_unless_it_is_too_old(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    script(tmp_path / "redis-server", 'echo "Redis server v=7.0.0 sha=0"')
    assert find_server() == tmp_path / "redis-server"
    script(tmp_path / "redis-server", 'echo "Redis server v=6.0.16 sha=0"')
    script(tmp_path / "valkey-server", 'echo "Valkey server v=8.1.0 sha=0"')
    assert find_server() == tmp_path / "valkey-server"


def test_no_server_at_all_is_explained(monkeypatch):
    monkeypatch.setattr(embedded, "_candidates", lambda: iter(()))
    with pytest.raises(ExchangeUnavailable, match="REDIS_URL"):
        find_server()


def test_a_folder_may_be_called_anything(tmp_path):
    with EmbeddedRedis(tmp_path / "a#b?c%41 d") as server, connect(server.url) as client:
        assert client.ping()
