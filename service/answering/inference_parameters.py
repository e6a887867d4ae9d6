"""The parameters of an Open Inference Protocol request: a budget, under the names that POST /classify has for it."""

from __future__ import annotations

from typing import Any

from service.answering.classify_query import ClassifyQuery
from service.http.problems import refused

OF_THE_PROTOCOL = (
    "binary_data_output", "priority", "sequence_id", "sequence_start", "sequence_end", "content_type", "headers",
)  # fmt: skip
"""Parameters that clients send of their own accord and that mean nothing here, or are read elsewhere."""
OURS = ("tmax", "epsilon", "topk", "keep", "budget_ms", "labels", "top")


def query_of(parameters: dict[str, Any]) -> ClassifyQuery:
    """The parameters of a request as those of POST /classify; null is as if left out. Raises Problem."""
    values: dict[str, Any] = {}
    for name, value in parameters.items():
        if name not in (*OURS, "timeout", *OF_THE_PROTOCOL):
            raise refused("parameter", name, f"be among {', '.join((*OURS, 'timeout'))}")
        if value is None or name in OF_THE_PROTOCOL:
            continue
        if name == "timeout":
            values["timeout_ms"] = milliseconds(value)
        elif name == "labels":
            values["labels"] = [value]
        elif isinstance(value, bool):  # pydantic takes true for 1
            raise refused(name, value, "be a number")
        else:
            values[name] = value
    return ClassifyQuery.checked(values)


def milliseconds(timeout: Any) -> int | None:
    """The milliseconds of a timeout in microseconds; 0 means no timeout, as in Triton. Raises Problem."""
    if type(timeout) is not int or timeout < 0:  # True is an int, too
        raise refused("timeout", timeout, "be a whole number of microseconds, 0 for no limit of its own")
    return max(1, timeout // 1000) if timeout else None
