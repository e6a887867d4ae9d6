"""What a caller gives to reach a server, looked at before anything is sent."""

from __future__ import annotations

import math
import os

import httpx

from hippotune.records import Task


def header_value(name: str, value: str) -> str:
    """The value, if a header can hold it. Raises ValueError, which does not tell it: it may be secret."""
    if not (value.isascii() and value.isprintable()):
        raise ValueError(f"{name} must be of printable ASCII characters")
    return value


def task_id(task: Task | str) -> str:
    """The id of a task, or the id as it is. Raises ValueError for one that no path can name: nothing, or what a path
    leaves out.
    """
    value = task if isinstance(task, str) else task.id
    if value in ("", ".", ".."):
        raise ValueError(f"{value!r} is no id of a task")
    return value


def label(value: str) -> str:
    """The label as it is. Raises ValueError for nothing."""
    if not value:
        raise ValueError(f"{value!r} is no label")
    return value


def server_address(url: str) -> str:
    """The address as it is. Raises ValueError for one that no server can have."""
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"{url!r} is no address of a server: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.host:
        raise ValueError(f"{url!r} is no address of a server; it must begin with http:// or https://")
    if not 0 < (parts.port or 80) <= 65535:
        raise ValueError(f"{url!r} is no address of a server: a port lies in 1..65535")
    return url


def patience(timeout: float | None, retries: int) -> tuple[float | None, int]:
    """Both as they are. Raises ValueError for seconds that never begin or end, and for tries that are none."""
    if timeout is not None and not 0 < timeout < math.inf:
        raise ValueError(f"timeout is {timeout}; it must be finite and more than 0, or None to wait for ever")
    if retries < 0:
        raise ValueError(f"retries is {retries}; it must be at least 0")
    return timeout, retries


def authorization(api_key: str | None) -> dict[str, str]:
    """The header that tells a key, HIPPOTUNE_API_KEY if None; none for no key. Raises ValueError for what is none."""
    key = (api_key or os.environ.get("HIPPOTUNE_API_KEY", "")).strip()  # a file's line ends with a newline
    return {"Authorization": f"Bearer {header_value('an API key', key)}"} if key else {}
