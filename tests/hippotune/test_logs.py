"""What is logged, and what must not be."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.hippotune.conftest import ROOT, clean_environment

FAILS = """
import logging
from hippotune import logs

def answer(secret):
    raise RuntimeError("nobody expected this")

logs.configure("info", process="server")
try:
    answer("ht_" + "s" * 20)
except RuntimeError:
    logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
"""


def test_a_traceback_tells_no_values() -> None:
    failed = subprocess.run(
        [sys.executable, "-c", FAILS], cwd=ROOT, env=clean_environment(), capture_output=True, text=True
    )
    told = json.loads(failed.stderr)
    assert told["exception"][0]["exc_value"] == "nobody expected this"
    assert [frame["name"] for frame in told["exception"][0]["frames"]] == ["<module>", "answer"]
    assert "s" * 20 not in failed.stderr
