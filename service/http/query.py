"""What a query may hold: each parameter that somebody knows, once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine
from typing import Any

from fastapi import Request
from pydantic import BaseModel
from starlette.datastructures import QueryParams

from service.http.problems import refused


def check_names(
    params: QueryParams, known: Collection[str], repeatable: Collection[str] = frozenset()
) -> None:
    """Raise Problem for a parameter that nobody knows, and for one that comes twice.

    Such a name is a typing error more often than not: a budget would silently be ignored, and `canry=0.1` would let a
    version answer everybody.
    """
    for name in params:
        if name not in known:
            told = f"; known are {', '.join(known)}" if known else ""
            raise refused(name, params[name], f"be left out{told}")
    for name in params if len(params.multi_items()) > len(params) else ():
        if name not in repeatable and len(params.getlist(name)) > 1:
            raise refused(name, ", ".join(params.getlist(name)), "be given once")


def only(*known: str) -> Callable[[Request], Coroutine[Any, Any, None]]:
    """A dependency that refuses a query with other parameters than these, each once."""

    async def check(request: Request) -> None:
        check_names(request.query_params, known)

    return check


def parameters(query: type[BaseModel]) -> list[dict[str, Any]]:
    """The API document's description of a query."""
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": schema.pop("description", ""),
            "schema": schema,
        }
        for name, schema in query.model_json_schema()["properties"].items()
    ]
