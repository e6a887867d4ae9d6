"""From a setting to a runtime."""

from __future__ import annotations

from importlib.util import find_spec

import structlog

from model.device import multiplies_bfloat16
from service.config import ServiceConfig
from service.runtimes.base import Runtime
from service.runtimes.bfloat16 import Bfloat16Runtime
from service.runtimes.torch import TorchRuntime

log = structlog.get_logger(__name__)

NEEDED = ("onnx", "onnxruntime", "onnxscript")
"""What the onnx runtime takes, for running and for exporting."""
ADVICE = "pip install -e '.[cpu]' in the checkout"


def missing_packages() -> list[str]:
    """The packages of `NEEDED` that are not installed; `ADVICE` says how to get them."""
    return [name for name in NEEDED if find_spec(name) is None]


def load_runtime(config: ServiceConfig, threads: int) -> Runtime:
    """Load the backbone and what computes it. Raises ValueError when onnx is asked for and cannot be had there.

    `auto` leaves a GPU to torch: onnx beside it has not been measured there.
    """
    on_torch = TorchRuntime.load(config.backbone, config.device, threads)
    if config.runtime == "torch" or (config.runtime == "auto" and on_torch.device.type != "cpu"):
        return on_torch
    if config.runtime == "torch-bf16":
        return mixed(on_torch)
    able = ("cpu",) if config.runtime == "onnx-int8" else ("cpu", "cuda")
    if on_torch.device.type not in able:
        raise ValueError(
            f"runtime is {config.runtime!r}, which computes on {' or '.join(able)}; on {on_torch.device} take torch"
        )
    missing = missing_packages()
    if missing and config.runtime == "auto":
        log.warning(f"torch alone: {ADVICE} adds onnx", missing=missing)
        return on_torch
    if missing:
        raise ValueError(f"runtime is {config.runtime!r}, which needs {', '.join(missing)}: {ADVICE}")
    from service.runtimes.auto import AutoRuntime
    from service.runtimes.graphs import Graphs
    from service.runtimes.onnx import OnnxRuntime

    int8 = config.runtime == "onnx-int8"
    urgent = config.runtime != "auto"
    graphs = Graphs(config.backbone, on_torch.identity, config.store / "cache", int8, urgent)
    graphs.tidy()
    kind = AutoRuntime if config.runtime == "auto" else OnnxRuntime
    return kind(on_torch, graphs, threads)


def mixed(on_torch: TorchRuntime) -> Runtime:
    """The runtime in bfloat16, with a warning where that costs time instead of saving it."""
    if not multiplies_bfloat16(on_torch.device):
        log.warning(
            "no products in bfloat16 here; they are emulated, slower than float32",
            device=str(on_torch.device),
        )
    return Bfloat16Runtime(on_torch)
