"""What a setting may hold, how its text is read, what its variable is called, and whom it concerns."""

from __future__ import annotations

import os
import socket
from enum import Enum
from typing import Annotated, Any

from pydantic import Field

PREFIX = "HIPPOTUNE_"

Count = Annotated[int, Field(gt=0)] | None
Natural = Annotated[int, Field(ge=0)] | None
Share = Annotated[float, Field(ge=0, le=1)] | None
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)] | None
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)] | None


class Part(Enum):
    """Whom a setting concerns; also its heading in `--help`."""

    CLIENT = "Which server to call"
    COMMON = "Trainer and server"
    SERVER = "Server"
    TRAINER = "Trainer"


def variable(setting: str) -> str:
    """What a setting is called in the environment."""
    return PREFIX + setting.upper()


def split(value: Any) -> Any:
    """The list in "1,2,3", as the environment and the flags give it."""
    return value.split(",") if isinstance(value, str) else value


def of_redis(value: str | None) -> str | None:
    """The address as it is. Raises ValueError for another scheme than Redis has."""
    if value is not None and not value.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must begin with redis://, rediss:// or unix://")
    return value


def who_am_i() -> str:
    """Different for every process on one queue."""
    return f"{socket.gethostname()}-{os.getpid()}"
