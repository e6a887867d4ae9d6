"""Answers with whichever runtime is the faster on this machine, by measurement.

Torch answers from the first moment. A loop whose graphs are on disk is measured at start-up, before the server is
ready. One that is first met later, or whose graphs have to be exported, is measured behind the back of the running
server, and its versions move over when that is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from threading import Lock
from time import perf_counter

import numpy as np
import structlog
from numpy.typing import NDArray

from exchange.errors import told_of
from model.backbone import BackboneIdentity
from model.budget import Budget
from model.checkpoint import Checkpoint
from model.deliberation import LoopConfig
from model.sample import sample_version
from service.runtimes.base import Classifier, Output, Runtime, fault_of, grey_images, passes_of
from service.runtimes.graphs import ExportStopped, Graphs
from service.runtimes.onnx import OnnxRuntime
from service.runtimes.torch import TorchRuntime

log = structlog.get_logger(__name__)

BATCHES = (1, 8)
"""What is measured."""
MEASURE_S = 1.0
"""Seconds spent on each; three rounds at least."""

TOLERANCE = 0.01
"""Most that a score by onnx may differ from the same by torch."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Of torch and onnx, and why.

    speedups: how many times as fast onnx is as torch, for each of `BATCHES`; none where that was not measured.
    unmeasured: the reason for that.
    """

    speedups: tuple[float, ...] = ()
    unmeasured: str = "onnx is not measured yet"

    @property
    def onnx(self) -> bool:
        """Whether it is the faster, on the geometric mean."""
        return float(np.prod(self.speedups)) > 1

    def __str__(self) -> str:
        if not self.speedups:
            return f"auto; {self.unmeasured}"
        each = ", ".join(
            f"{speedup:.2f} at batch {batch}" for batch, speedup in zip(BATCHES, self.speedups, strict=True)
        )
        return f"auto; speed of onnx over torch: {each}"


class AutoRuntime(Runtime):
    """Torch and onnx side by side, on the CPU."""

    def __init__(self, beside: TorchRuntime, graphs: Graphs, threads: int) -> None:
        self._torch = beside
        self._graphs = graphs
        self._onnx = OnnxRuntime(beside, graphs, threads)
        self._choices: dict[LoopConfig, Choice] = {}
        self.agreed: set[tuple[LoopConfig, bool]] = set()
        """Loops, with slots or without, of which one version answered alike by both: others share its graph."""
        self._deciding = Lock()
        self._opened = False
        self._background = ThreadPoolExecutor(1, thread_name_prefix="export")

    @property
    def name(self) -> str:
        return self.named(Choice())

    @property
    def identity(self) -> BackboneIdentity:
        return self._torch.identity

    def empty(self) -> Checkpoint:
        return self._torch.empty()

    def prepare(self, checkpoint: Checkpoint) -> Classifier:
        first = self._torch.prepare(checkpoint)
        if not checkpoint.labels:  # nobody asks it anything, and no other version may have its loop
            return first
        with self._deciding:
            if checkpoint.loop not in self._choices:
                self._choices[checkpoint.loop] = Choice()
                if not self._opened and self._at_hand(checkpoint.loop):
                    self._decide(checkpoint.loop)
                else:
                    self._background.submit(self._decide, checkpoint.loop)
        return AutoClassifier(self, checkpoint, first)

    def prepare_faster(self, checkpoint: Checkpoint) -> Classifier | None:
        """The version laid out for onnx, where that has turned out to be the faster."""
        return self._onnx.prepare(checkpoint) if self.choice(checkpoint.loop).onnx else None

    def choice(self, loop: LoopConfig) -> Choice:
        """What answers the versions of a loop, as far as that is known by now."""
        return self._choices.get(loop, Choice())

    def named(self, choice: Choice) -> str:
        """What was chosen, and why."""
        return f"{(self._onnx if choice.onnx else self._torch).name} ({choice})"

    def opened(self) -> None:
        self._opened = True

    def close(self) -> None:
        self._graphs.stop()
        self._background.shutdown(cancel_futures=True)

    def _at_hand(self, loop: LoopConfig) -> bool:
        """Whether a loop's graphs are on disk and could be opened. Errors come again, and are told, in `_decide`."""
        with suppress(Exception):
            return self._onnx.open(loop)
        return False

    def _decide(self, loop: LoopConfig) -> None:
        """Measure a loop, after exporting its graphs where there are none. Torch stays where that fails."""
        try:
            version = sample_version(self._torch.backbone, loop)
            choice = measure(self._torch.prepare(version), self._onnx.prepare(version), version)
        except ExportStopped:
            return  # as the server does
        except Exception as error:  # the exporter and onnxruntime raise what they like; torch needs neither
            self._choices[loop] = unusable(error)
            log.warning("torch stays: onnx is not usable", reason=str(error))
        else:
            self._choices[loop] = choice
            log.info("runtime chosen", runtime=self.named(choice))


class AutoClassifier:
    """One version: torch answers until onnx is known to be faster for its loop, and to answer as torch does."""

    def __init__(self, runtime: AutoRuntime, checkpoint: Checkpoint, first: Classifier) -> None:
        self._runtime = runtime
        self._checkpoint = checkpoint
        self._first = first
        self._faster: Classifier | None = None
        self._moved = False
        self._stays: Choice | None = None
        """Why it alone never moves, once that is known."""
        self._move()

    @property
    def name(self) -> str:
        """Of what answers next: a version moves when it is asked, and its loop may have been measured since then."""
        return self._runtime.named(self._stays or self._runtime.choice(self._checkpoint.loop))

    def classify(self, pixels: NDArray[np.uint8], budgets: Sequence[Budget], explain: bool) -> Output:
        if not self._moved:
            self._move()
        return (self._faster or self._first).classify(pixels, budgets, explain)

    def _move(self) -> None:
        """Over to onnx once it was chosen; the first version of a loop to do so is compared first, or stays."""
        try:
            faster = self._runtime.prepare_faster(self._checkpoint)
            if faster is None:
                return
            passes = passes_of(self._checkpoint)
            if passes not in self._runtime.agreed:
                self._check(faster)
                self._runtime.agreed.add(passes)
        except Exception as error:  # onnxruntime raises what it likes; torch needs none of it
            self._stays = unusable(error)
            log.error("a version stays on torch", reason=str(error))
        else:
            self._faster = faster
        self._moved = True

    def _check(self, faster: Classifier) -> None:
        """Raise ValueError unless a grey image's scores are probabilities, and those of torch."""
        version = self._checkpoint
        grey = grey_images(version.identity.px)
        ours, torchs = (
            one.classify(grey, [version.loop.budget], explain=False) for one in (faster, self._first)
        )
        if (fault := fault_of(ours, len(version.labels))) is not None:
            raise ValueError(f"onnx gave {fault}")
        if (apart := float(np.abs(ours.scores - torchs.scores).max())) > TOLERANCE:
            raise ValueError(f"a score by onnx is {apart:.3g} from the same by torch")


def unusable(error: Exception) -> Choice:
    """Torch, because of an error."""
    return Choice(unmeasured=f"onnx is not usable: {told_of(error)}")


def measure(torch_: Classifier, onnx: Classifier, version: Checkpoint) -> Choice:
    """Time two classifiers in turns, so that a busy moment hits both alike.

    Each turn is two passes, of which the second counts: the first may find the other one's threads still awake.
    """
    speedups = []
    for batch in BATCHES:
        pixels = grey_images(version.identity.px, batch)
        budgets = [version.loop.budget] * batch
        times: tuple[list[float], list[float]] = ([], [])
        ends = perf_counter() + MEASURE_S
        while len(times[0]) < 3 or perf_counter() < ends:
            for classifier, taken in zip((torch_, onnx), times, strict=True):
                classifier.classify(pixels, budgets, explain=False)
                began = perf_counter()
                classifier.classify(pixels, budgets, explain=False)
                taken.append(perf_counter() - began)
        speedups.append(median(times[0]) / median(times[1]))
    return Choice(tuple(speedups))
