"""Watches a method learn: keeps the clock of training, and asks about old tasks on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

from benchmarks.continual.methods.base import Images, Method, percent_right
from benchmarks.continual.metrics import Probe


def is_due(step: int, every: int) -> bool:
    """Steps 1, 2, 4, 8, ... and then every `every`: the stability gap opens in the first steps after a switch."""
    return step % every == 0 or (step < every and step & (step - 1) == 0)


class Observer:
    """One task's `Watch`. Time spent on probes is not training time; time until a first state is counted apart."""

    def __init__(
        self,
        method: Method,
        task: int,
        old: Sequence[Images],
        new: Images,
        every: int,
        progress: Callable[[float], None],
    ) -> None:
        """old: probe images of each earlier task.  new: test images of this one."""
        self.method, self.task, self.old, self.new = method, task, old, new
        self.every, self.progress = every, progress
        self.steps = 0
        self.fast: tuple[float, float] | None = None
        self.probes: list[Probe] = []
        self.seconds = 0.0
        self.resumed = perf_counter()

    def trained(self, images: float) -> None:
        self.steps += 1
        if is_due(self.steps, self.every):
            self.pause()
            self.probe()
        self.progress(images)

    def served(self) -> None:
        """Note how good the fast state is on the new task, and what it took; then training proper begins."""
        self.pause()
        took, self.seconds = self.seconds, 0.0
        self.fast = took, percent_right(self.method.scores(self.new), self.method.labels, self.new.names)
        self.probe()

    def finish(self) -> None:
        """The task is learned."""
        self.pause()
        self.probe()

    def pause(self) -> None:
        """Stop the clock; `probe` starts it again."""
        self.seconds += perf_counter() - self.resumed

    def probe(self) -> None:
        """Ask about every earlier task."""
        accuracies = tuple(
            percent_right(self.method.scores(images), self.method.labels, images.names) for images in self.old
        )
        if accuracies:
            self.probes.append(Probe(self.task, self.steps, accuracies))
        self.resumed = perf_counter()
