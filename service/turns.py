"""Work that waits elsewhere for its turn, so that what others bring to the same threads is not behind all of it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class InTurns(Executor):
    """Passes work on to another executor, `most` pieces at a time, in the order in which they came.

    An executor serves whoever came first. A dozen tasks have an image each to look at, and the next as soon as that is
    done: an image of a request would wait for one of each. Where tasks take turns it waits for those under way alone.
    """

    def __init__(self, behind: Executor, most: int) -> None:
        self._behind = behind
        self._turns = ThreadPoolExecutor(most, thread_name_prefix="turn")

    def submit(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return self._turns.submit(lambda: self._behind.submit(work, *args, **kwargs).result())

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Of the turns; the executor behind them goes on."""
        self._turns.shutdown(wait, cancel_futures=cancel_futures)
