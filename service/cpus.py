"""How many processors this process may really use."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def available_cpus(limit: Path = CGROUP_LIMIT) -> int:
    """The CPUs this process may run on, or fewer when the container's quota (cgroup v2) pays for fewer."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = limit.read_text().split()
        return max(1, min(allowed, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup v2, or "max"
        return allowed
