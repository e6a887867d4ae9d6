"""The forward pass in onnxruntime, on CPU or CUDA: sessions for all versions of a loop, fed with their tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from onnxruntime import InferenceSession, OrtValue, SessionOptions, get_available_providers
from onnxruntime.capi.onnxruntime_pybind11_state import (
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NoSuchFile,
)

from exchange.files import storing
from model.backbone import BackboneIdentity
from model.budget import Budget
from model.checkpoint import Checkpoint
from model.deliberation import LoopConfig
from model.export import GraphKind, version_inputs
from service.runtimes.base import Classifier, Output, Runtime, as_taught, joined
from service.runtimes.graphs import ExportFailed, Graphs
from service.runtimes.torch import TorchRuntime

log = structlog.get_logger(__name__)

Sessions = Mapping[GraphKind, InferenceSession]

CPU = torch.device("cpu")
ON_CUDA = "CUDAExecutionProvider"
BROKEN = (InvalidArgument, InvalidGraph, InvalidProtobuf, NoSuchFile)
"""What onnxruntime raises over a file that holds no whole graph."""


class OnnxRuntime(Runtime):
    """A backbone as its graphs hold it. Beside it, on the same device, stands torch, which explains answers."""

    def __init__(self, beside: TorchRuntime, graphs: Graphs, threads: int) -> None:
        """Raises NoProvider at once where the device is one that the installed onnxruntime was not built for."""
        require_provider(beside.device)
        self._beside = beside
        self._graphs = graphs
        self._threads = threads
        self._sessions: dict[LoopConfig, Sessions] = {}

    @property
    def name(self) -> str:
        return name_of(self._beside.device, self._graphs.int8)

    @property
    def identity(self) -> BackboneIdentity:
        return self._beside.identity

    def empty(self) -> Checkpoint:
        return self._beside.empty()

    def prepare(self, checkpoint: Checkpoint) -> Classifier:
        """Exports the graphs first where no version with labels had such a loop before.

        Raises ExportFailed, StoreUnavailable, and NoProvider where onnxruntime cannot open the device.
        """
        explainer = self._beside.prepare(checkpoint)
        if not checkpoint.labels:  # the graphs have no scores without a class
            return explainer
        pairs, device = self._beside.backbone.pairs, self._beside.device
        sessions = self._sessions_of(checkpoint.loop)
        with self._beside.one_thread():
            return OnnxClassifier(sessions, checkpoint, explainer, pairs, self._graphs.int8, device)

    def close(self) -> None:
        self._graphs.stop()

    def open(self, loop: LoopConfig) -> bool:
        """Open a loop's graphs. False where one is missing on disk, or was cut short: that one is removed.

        Raises NoProvider, StoreUnavailable where it cannot be removed, and what else onnxruntime raises.

        Under no lock: for `auto` the engine's thread comes here too, once its loop is open, and must not wait for the
        minutes that the export of another loop takes.
        """
        if loop in self._sessions:
            return True
        if not self._graphs.ready(loop):
            return False
        sessions: dict[GraphKind, InferenceSession] = {}
        for kind in GraphKind:
            path = self._graphs.path(loop, kind)
            try:
                sessions[kind] = open_session(str(path), self._threads, self._beside.device)
            except BROKEN as error:
                log.warning("graph removed: it cannot be opened", file=path.name, reason=str(error))
                with storing(path.parent):
                    path.unlink(missing_ok=True)
        if len(sessions) < len(GraphKind):
            return False
        self._sessions[loop] = sessions
        return True

    def _sessions_of(self, loop: LoopConfig) -> Sessions:
        if not self.open(loop):
            self._graphs.export(loop)
            if not self.open(loop):
                raise ExportFailed(
                    "onnxruntime cannot open a graph that was just exported; the log has what it says"
                )
        return self._sessions[loop]


class OnnxClassifier:
    """One version's tensors, fed to sessions that it shares with every other version."""

    def __init__(
        self,
        sessions: Sessions,
        checkpoint: Checkpoint,
        explainer: Classifier,
        pairs: Callable[[float], int],
        rounded: bool = False,
        device: torch.device = CPU,
    ) -> None:
        """pairs: tokens merged in a block for a share kept.  rounded: whether the sessions compute in eight bits.

        device: where the sessions compute, and so where the version's tensors are kept.
        """
        self.name = name_of(device, rounded)
        self._explainer = explainer
        self._pairs = pairs
        self._slots = checkpoint.pools.slots
        self._full, self._layers = checkpoint.loop.budget, len(checkpoint.loop.layers)
        self._rounded = rounded
        tensors = version_inputs(checkpoint).items()
        values = {name: value(tensor.cpu().numpy(), device) for name, tensor in tensors}
        self.passes = {kind: Pass(session, values) for kind, session in sessions.items()}

    def classify(self, pixels: NDArray[np.uint8], budgets: Sequence[Budget], explain: bool) -> Output:
        if explain:  # the graphs keep no trace
            return self._explainer.classify(pixels, budgets, explain)
        if not self._rounded:
            return self._pass(pixels, budgets)
        # One by one: a pass rounds by the range of all that is in it, so that one image would round the others.
        return joined([self._pass(pixels[row : row + 1], [budget]) for row, budget in enumerate(budgets)])

    def _pass(self, pixels: NDArray[np.uint8], budgets: Sequence[Budget]) -> Output:
        """What the graphs answer, nothing explained."""
        pairs = self._pairs(budgets[0].keep)
        kind = self._kind(budgets, pairs)
        width = min(max(budget.topk for budget in budgets), max(self._slots, 1))
        own: dict[str, NDArray[Any]] = {"pixels": pixels, "ranks": np.arange(width)}
        if kind is not GraphKind.EVEN:
            own |= budget_inputs(budgets, self._slots)
        if kind is GraphKind.MERGING:
            own["pairs"] = np.arange(pairs)
        scores, familiarity, features, *steps = self.passes[kind].run(own)
        if not steps:
            steps = [np.full((len(pixels), self._layers), self._full.tmax)]
        if self._rounded:  # no learner takes features so
            features = np.full_like(features, np.nan)
        features = as_taught(features, budgets, self._full, self._slots)
        return Output(
            scores, familiarity, steps[0][:, : self._layers if self._slots else 0], features, trace=()
        )

    def _kind(self, budgets: Sequence[Budget], pairs: int) -> GraphKind:
        first = budgets[0]
        if pairs:
            return GraphKind.MERGING
        whole = first.tmax == self._full.tmax and first.epsilon == 0 and self._slots > 0
        return GraphKind.EVEN if whole and all(budget == first for budget in budgets) else GraphKind.MIXED


class Pass:
    """A session whose unchanging inputs are bound to it once: checking some thirty of them in each pass takes time."""

    def __init__(self, session: InferenceSession, stays: Mapping[str, OrtValue]) -> None:
        self.session = session
        self._outputs = [output.name for output in session.get_outputs()]
        self._binding = session.io_binding()
        self._running = Lock()
        for name, tensor in stays.items():
            self._binding.bind_ortvalue_input(name, tensor)

    def run(self, own: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The graph's outputs in order, for what this pass brings."""
        # Bound by address: they must live until the pass is over.
        arrays = {name: np.ascontiguousarray(array) for name, array in own.items()}
        with self._running:
            for name, array in arrays.items():
                self._binding.bind_cpu_input(name, array)
            for name in self._outputs:
                self._binding.bind_output(name)  # anew, since its shape may have changed
            self.session.run_with_iobinding(self._binding)
            return self._binding.copy_outputs_to_cpu()


def name_of(device: torch.device, rounded: bool) -> str:
    """What sessions on a device are called."""
    return f"onnx {device.type} {'int8' if rounded else 'float32'}"


def budget_inputs(budgets: Sequence[Budget], slots: int) -> dict[str, NDArray[Any]]:
    """What each sample may do; nothing in the loop where there are no slots."""
    return {
        "tmax": np.array([budget.tmax if slots else 0 for budget in budgets]),
        "epsilon": np.array([budget.epsilon for budget in budgets], dtype=np.float32),
        "topk": np.array([budget.topk for budget in budgets]),
    }


class NoProvider(ValueError):
    """onnxruntime computes on other devices only; the message says how to change that."""


def require_provider(device: torch.device) -> None:
    """Raise NoProvider where the installed onnxruntime knows nothing of GPUs."""
    if device.type == "cuda" and ON_CUDA not in get_available_providers():
        raise NoProvider("onnxruntime here knows no CUDA: pip install onnxruntime-gpu in its place")


def open_session(path: str, threads: int, device: torch.device = CPU) -> InferenceSession:
    """A graph, optimised for this device. Raises NoProvider."""
    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that go on waiting busily after a pass would take the cores from the other session, torch and decoding.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # Denormal numbers count as zero: processors take many times as long over each of them.
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    if device.type == "cuda":
        return on_cuda(path, options, device)
    # On a CPU the node that this makes takes far longer than the addition and the normalisation it stands for.
    slower = ["SkipLayerNormFusion"]
    return InferenceSession(path, options, providers=["CPUExecutionProvider"], disabled_optimizers=slower)


def on_cuda(path: str, options: SessionOptions, device: torch.device) -> InferenceSession:
    """A graph on a GPU. Raises NoProvider: onnxruntime itself would go on in silence, on the CPU."""
    # TF32 rounds products as torch, beside it, does not.
    told = {"device_id": device.index or 0, "use_tf32": 0}
    session = InferenceSession(path, options, providers=[(ON_CUDA, told), "CPUExecutionProvider"])
    if ON_CUDA not in session.get_providers():
        raise NoProvider(f"onnxruntime could not open {device}: its log names the library that it misses")
    return session


def value(array: NDArray[np.generic], device: torch.device = CPU) -> OrtValue:
    """An array as onnxruntime takes it, on its device; without a copy where that is the CPU."""
    return OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), device.type, device.index or 0)
