"""What passes through the engine: requests, their images, and how either ends."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from model.budget import Budget
from service.engine.snapshot import NEVER_CANARY, Asked, Snapshot
from service.http.problems import Problem
from service.runtimes.base import Output


@dataclass(frozen=True, slots=True)
class Scored:
    """One image's share of a forward pass: a row of `output`, which took `compute_s` and ended at `ended`."""

    output: Output
    row: int
    budget: Budget
    compute_s: float
    ended: float


@dataclass(frozen=True, slots=True)
class Started:
    """What all images of a request are answered by, settled when the turn of the first has come: a version, the budget
    it grants of what was asked, and whether it explains its answers."""

    snapshot: Snapshot
    budget: Budget
    explain: bool

    def shares(self, other: Started) -> bool:
        """Whether images of both fit into one forward pass.

        Explained answers and others do not: most runtimes explain elsewhere and slower, some in another precision.
        """
        return (
            self.snapshot is other.snapshot
            and self.budget.keep == other.budget.keep
            and self.explain == other.explain
        )


@dataclass(slots=True, eq=False)
class Ticket:
    """A request inside the engine, made in the event loop. `done` resolves there when its last image is scored.

    images: admitted, [3, px, px] each.
    checked: the version it was checked against; a newer one may answer it.
    bucket: see `Served.at`.
    deadline: perf_counter time from which nobody waits for it any more; not begun by then, it is never computed.
    target: perf_counter time the caller would like it by; `keep` of the budget is then chosen when it is started.
    scored: one an image, in order.
    """

    images: Sequence[NDArray[np.uint8]]
    asked: Asked
    explain: bool
    checked: Snapshot
    bucket: float = NEVER_CANARY
    deadline: float = math.inf
    target: float | None = None
    started: Started | None = None
    scored: list[Scored] = field(default_factory=list)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    entered: float = field(default_factory=perf_counter)
    done: asyncio.Future[None] = field(init=False)

    def __post_init__(self) -> None:
        self.done = self.loop.create_future()

    @property
    def snapshot(self) -> Snapshot:
        """The version that answers it; until it is started, the one it was checked against."""
        return self.checked if self.started is None else self.started.snapshot


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a ticket."""

    ticket: Ticket
    image: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Batch:
    """Images for one forward pass of one version, each with its budget; all of them explained, or none."""

    snapshot: Snapshot
    items: list[Item]
    budgets: list[Budget]
    explain: bool


def resolve(ticket: Ticket, problem: Problem | None = None) -> None:
    """End a ticket, unless its client has left. Called in the ticket's event loop."""
    if ticket.done.done():
        return
    if problem is None:
        ticket.done.set_result(None)
    else:
        ticket.done.set_exception(problem)
        ticket.done.exception()  # as if somebody had asked: who waited may have left just now, and asyncio would log it


def fail(tickets: Sequence[Ticket], problem: Problem) -> None:
    """End tickets without scores. Called from the engine's thread."""
    for ticket in dict.fromkeys(tickets):
        ticket.loop.call_soon_threadsafe(resolve, ticket, problem)
