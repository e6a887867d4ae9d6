"""A clock that moves only while somebody sleeps: on a machine with other work a moment may take as long as it likes."""

from __future__ import annotations

import time
from types import ModuleType

import pytest


def stop_the_clock(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> None:
    """Of a module that reads `perf_counter`."""
    now = [0.0]
    monkeypatch.setattr(time, "sleep", lambda seconds: now.append(now[-1] + seconds))
    monkeypatch.setattr(module, "perf_counter", lambda: now[-1])
