"""What tests of more than one room need."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from redis import Redis

from exchange.connection import connect
from exchange.embedded import EmbeddedRedis

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Before torch is imported, here or in a process that a test starts: three files run at a time, and threads of one that
# wait for each other spin on the core of the other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Exporting graphs for another runtime takes a minute of a core from the tests; those about it name theirs.
os.environ["HIPPOTUNE_RUNTIME"] = "torch"
# Hundreds of processes are started, and each would compile all of our modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# What commands print in a pipe is tested, and by these they take one for a terminal, or know how wide it is.
for name in ("COLUMNS", "FORCE_COLOR", "GITHUB_ACTIONS", "NO_COLOR", "PY_COLORS", "TTY_COMPATIBLE"):
    os.environ.pop(name, None)


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    """What a test draws without a seed of its own does not depend on which tests ran before it in this process."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A real server for the whole run."""
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(redis_server: EmbeddedRedis) -> Iterator[Redis]:
    """A client of an empty server."""
    with connect(redis_server.url) as client:
        client.flushall()
        yield client


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """For one module: while it is there an event loop runs in this thread, and asyncio.run has no place beside it."""
    from tests.service.web.chromium import browser, find_chromium

    if find_chromium() is None:
        pytest.skip("no `chromium` on PATH; Debian and Ubuntu have it as the package chromium")
    with browser() as started:
        yield started
