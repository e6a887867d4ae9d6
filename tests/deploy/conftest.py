"""The deployment files as read, and the processes that docker-compose.yml would start, without containers."""

from __future__ import annotations

import json
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis import Redis
from redis.exceptions import RedisError

from exchange.embedded import find_server
from hippotune.client import Client
from tests.hippotune.conftest import clean_environment, hippotune

ROOT = Path(__file__).parents[2]
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\}")
TINY = {
    "HIPPOTUNE_BACKBONE": "bundled",
    "HIPPOTUNE_THREADS": "1",
    "HIPPOTUNE_EPOCHS": "0",
    "HIPPOTUNE_WIDTH": "200",
}
"""Replaces the production backbone and what makes training long: nothing here is about accuracy."""


def interpolate(text: str, values: Mapping[str, str]) -> str:
    """Replace ${NAME}, ${NAME:-default} and ${NAME:?message} as compose does. Raises KeyError for a needed one."""

    def value(match: re.Match[str]) -> str:
        given = values.get(match["name"], "")
        if not given and match["kind"] != "-":
            raise KeyError(f"{match['name']}: {match['rest']}")
        return given or match["rest"]

    return VARIABLE.sub(value, text)


def example_values() -> dict[str, str]:
    """What .env.example sets."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.fixture(scope="session")
def compose() -> dict[str, Any]:
    """docker-compose.yml with the values of .env.example and a password."""
    values = example_values() | {"GRAFANA_PASSWORD": "chosen"}
    document: dict[str, Any] = yaml.safe_load(interpolate((ROOT / "docker-compose.yml").read_text(), values))
    return document


@pytest.fixture(scope="session")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return compose["services"]


def free_port() -> int:
    """None of those that the kernel hands out by itself: it might be somebody else's before our process binds it."""
    told = Path("/proc/sys/net/ipv4/ip_local_port_range")
    # Without /proc, that of Linux: others begin later.
    first_handed_out = int(told.read_text().split()[0]) if told.exists() else 32_768
    while True:
        port = random.choice(range(5_000, first_handed_out) or range(5_000, 65_536))
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@dataclass
class Stage:
    """The services of docker-compose.yml as processes of this machine: same commands, other hosts and ports."""

    services: dict[str, dict[str, Any]]
    folder: Path
    key: str
    key_line: str
    redis_port: int = field(default_factory=free_port)
    port: int = field(default_factory=free_port)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def localized(self, text: str) -> str:
        """Host names, ports and paths of the containers as what stands for them here."""
        here = {
            "redis:6379": f"127.0.0.1:{self.redis_port}",
            "127.0.0.1:8000": f"127.0.0.1:{self.port}",
            "/opt/hippotune/trainer_health.py": str(ROOT / "deploy" / "trainer_health.py"),
        }
        for there, name in here.items():
            text = text.replace(there, name)
        return text

    def environment(self, service: str) -> dict[str, str]:
        told = {name: self.localized(str(v)) for name, v in self.services[service]["environment"].items()}
        told |= {"HIPPOTUNE_STORE": str(self.folder / "store")}
        if "HIPPOTUNE_PORT" in told:
            told |= {"HIPPOTUNE_PORT": str(self.port), "HIPPOTUNE_API_KEYS": self.key_line}
        return clean_environment() | {"PYTHONPATH": str(ROOT)} | told | TINY

    def command(self, service: str) -> list[str]:
        words: list[str] = self.services[service]["command"]
        if service == "redis":
            place = [
                "--port",
                str(self.redis_port),
                "--bind",
                "127.0.0.1",
                "--dir",
                str(self.folder / "redis"),
            ]
            assert words[0] == "redis-server"
            return [str(find_server()), *words[1:], *place]
        return [sys.executable, "-m", "hippotune", *words]

    @contextmanager
    def running(self, service: str) -> Iterator[subprocess.Popen[bytes]]:
        """The service's process, killed if a test leaves it behind."""
        (self.folder / service).mkdir(parents=True, exist_ok=True)
        environment = None if service == "redis" else self.environment(service)
        with (self.folder / f"{service}.log").open("wb") as log:
            process = subprocess.Popen(
                self.command(service), env=environment, cwd=self.folder, stdout=log, stderr=log
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def healthy(self, service: str) -> bool:
        """Run the service's own health check once."""
        kind, *words = self.services[service]["healthcheck"]["test"]
        assert (kind, words[0]) == ("CMD", "python")
        command = [sys.executable, *(self.localized(word) for word in words[1:])]
        result = subprocess.run(
            command, env=self.environment(service), cwd=self.folder, capture_output=True, timeout=60
        )
        return result.returncode == 0

    def await_healthy(self, service: str, process: subprocess.Popen[bytes], sign: str) -> None:
        """Wait until the service logs `sign`, then until its health check agrees."""
        deadline = time.monotonic() + 120
        file = self.folder / f"{service}.log"
        while sign not in file.read_text() or not self.healthy(service):
            assert process.poll() is None, file.read_text()
            assert time.monotonic() < deadline, file.read_text()
            time.sleep(0.2)

    def await_redis(self) -> None:
        deadline = time.monotonic() + 20
        with Redis(port=self.redis_port) as redis:
            while time.monotonic() < deadline:
                with suppress(RedisError):
                    redis.ping()
                    return
                time.sleep(0.05)
        raise AssertionError((self.folder / "redis.log").read_text())


@dataclass(frozen=True)
class Running:
    """A stage whose Redis, trainer and server are up and healthy."""

    stage: Stage
    processes: dict[str, subprocess.Popen[bytes]]
    health: dict[str, bool]
    """What the health checks said before their process was started."""

    @property
    def client(self) -> Client:
        return Client(self.stage.address, api_key=self.stage.key)


@pytest.fixture(scope="module")
def running(
    services: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    made = json.loads(hippotune("keys", "new", "--role", "admin", "--name", "me", "--json").stdout)
    stage = Stage(services, tmp_path_factory.mktemp("compose"), made["key"], made["line"])
    processes: dict[str, subprocess.Popen[bytes]] = {}
    health: dict[str, bool] = {}
    with ExitStack() as stack:
        processes["redis"] = stack.enter_context(stage.running("redis"))
        stage.await_redis()
        # One after the other: both call from one address here, and the trainer's check goes by address.
        for service, sign in (("trainer", "trainer ready"), ("server", "HippoTune is at")):
            health[service] = stage.healthy(service)
            processes[service] = stack.enter_context(stage.running(service))
            stage.await_healthy(service, processes[service], sign)
        yield Running(stage, processes, health)
