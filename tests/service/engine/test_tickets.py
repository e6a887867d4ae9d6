"""How a request ends inside the engine when whoever sent it has gone."""

from __future__ import annotations

import asyncio
import gc
from time import perf_counter
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from model.budget import Budget
from service.engine.batching import Engine
from service.engine.pace import Pace
from service.engine.snapshot import Asked, Served, Snapshot
from service.engine.tickets import Ticket
from service.metrics import Metrics


def test_one_that_fails_as_its_client_leaves_is_nothing_to_log() -> None:
    """The deadline is watched in two places: the client may be answered an instant before the engine gives up."""
    engine = Engine(Served(), 8, 8, Metrics(), Pace())
    images, version = (
        [np.zeros((3, 8, 8), np.uint8)],
        cast(Snapshot, SimpleNamespace(grant=lambda _: Budget())),
    )
    logged: list[str] = []

    def note(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        logged.append(context["message"])

    async def left() -> None:
        asyncio.get_running_loop().set_exception_handler(note)
        ticket = Ticket(images, Asked(), False, version, deadline=perf_counter())
        engine.enqueue(ticket)
        assert engine._take() is None
        await asyncio.sleep(0)
        assert ticket.done.done()

    asyncio.run(left())
    gc.collect()
    assert logged == []
