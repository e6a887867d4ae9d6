"""What a user types and imports: the command line and the client.

The client needs httpx alone: importing it loads neither torch nor the service.
"""

from hippotune.async_client import AsyncClient
from hippotune.client import Client
from hippotune.errors import HippoTuneError, Refused, TaskFailed, TaskUnfinished, Unanswered, Unreachable
from hippotune.records import (
    Budget,
    Classification,
    Label,
    LabelChange,
    LayerTrace,
    MixedSlot,
    Prediction,
    Task,
    Timings,
    Version,
)

__all__ = [
    "AsyncClient",
    "Budget",
    "Classification",
    "Client",
    "HippoTuneError",
    "Label",
    "LabelChange",
    "LayerTrace",
    "MixedSlot",
    "Prediction",
    "Refused",
    "Task",
    "TaskFailed",
    "TaskUnfinished",
    "Timings",
    "Unanswered",
    "Unreachable",
    "Version",
]
