"""Where a server is in its life."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Lifecycle:
    """draining: the server finishes what it has and takes nothing new.  failure: what kept it from starting."""

    draining: bool = False
    failure: Exception | None = None
