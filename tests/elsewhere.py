"""A second device on every machine: the CPU computes its tensors, and no operator takes them beside the CPU's own.

What runs there would run on a GPU, as far as it matters where tensors live. It tells nothing of a GPU's speed, kernels
or precision.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

Result = TypeVar("Result")

NAME = "elsewhere"
ATEN = torch.ops.aten
COPIES = (ATEN._to_copy.default, ATEN.copy_.default)
BY_INDEX = (ATEN.index.Tensor, ATEN.index_put_.default, ATEN._index_put_impl_.default, ATEN.index_put.default)


class Mixed(RuntimeError):
    """An operator was given tensors of both devices."""


def run_elsewhere(function: Callable[..., Result], *arguments: Any) -> Result:
    """What a function of a module gives for the device and these arguments, in a process of its own.

    Torch is told of devices once in a process, and asks after each of them from then on.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as other:
        return other.submit(_run, function, *arguments).result()


def _run(function: Callable[..., Result], *arguments: Any) -> Result:
    backend_registration._setup_privateuseone_for_python_backend(NAME, Module())
    with Operators(), Literals():
        return function(torch.device(NAME, 0), *arguments)


class Module(backend_registration._DummyBackendModule):
    """What torch asks about the device as a whole."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


class Away(Tensor):
    """A tensor of the device, holding the CPU's."""

    @staticmethod
    def __new__(cls, here: Tensor) -> Away:
        # Of a tensor made in inference mode no views could be taken.
        with torch.inference_mode(False):
            return Tensor._make_wrapper_subclass(
                cls, here.shape, here.stride(), here.storage_offset(), dtype=here.dtype, device=f"{NAME}:0"
            )

    def __init__(self, here: Tensor) -> None:
        self.here = here

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Away({self.here!r})"

    def tolist(self) -> list[Any]:
        return self.here.tolist()

    @classmethod
    def __torch_dispatch__(cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(operator, args, kwargs or {})


class Operators(TorchDispatchMode):
    """Sees those operators, too, that take no tensor of the device and make one."""

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(operator, args, kwargs or {})


class Literals(TorchFunctionMode):
    """`torch.tensor` makes a tensor where `Operators` does not see it: it is moved here instead."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function is torch.tensor and "device" in kwargs:
            device = kwargs.pop("device")
            return function(*args, **kwargs).to(device)
        return function(*args, **kwargs)


def compute(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One operator on the CPU. Its result is on the device that was asked for, else on that of its arguments."""
    away = any(isinstance(one, Away) for one in tree_leaves((args, kwargs)))
    if away and operator not in COPIES:
        refuse_others(operator, args, kwargs)
    if (device := kwargs.get("device")) is not None:
        away, kwargs = device.type == NAME, {**kwargs, "device": torch.device("cpu")}
    result = operator(*tree_map(held, args), **tree_map(held, kwargs))
    if operator._schema.is_mutable and isinstance(result, Tensor):
        return kwargs.get("out", args[0])  # the same object, not another that holds the same
    return tree_map(lambda one: Away(one) if isinstance(one, Tensor) else one, result) if away else result


def refuse_others(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise Mixed as a GPU would: it takes numbers from the CPU, and indices into its own tensors, but nothing else."""
    others = [
        one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor) and not isinstance(one, Away)
    ]
    if operator in BY_INDEX and isinstance(args[0], Away):
        others = [one for one in others if one.is_floating_point()]
    if any(one.dim() for one in others):
        raise Mixed(f"{operator}: {[tuple(one.shape) for one in others]} are on the CPU and others are not")


def held(one: Any) -> Any:
    """What a tensor of the device holds; anything else as it is."""
    return one.here if isinstance(one, Away) else one
