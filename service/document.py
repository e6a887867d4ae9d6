"""What the API document says beyond what FastAPI finds in the routes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from service import guard, problems, tensors


class App(FastAPI):
    """FastAPI whose document knows the shape of its errors, and what needs a key."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas |= {**problems.schemas(), **tensors.schemas()}
            guard.describe(document)
            as_the_protocol_has_it(document)
            for schema in parameter_schemas(document):
                without_null(schema)
        return super().openapi()


def as_the_protocol_has_it(document: dict[str, Any]) -> None:
    """Under /v2 an error is no problem document, as `service.middleware.ProtocolErrors` sees to."""
    error = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
    for path, operations in document["paths"].items():
        for operation in operations.values() if path.startswith("/v2") else ():
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    response["content"] = {"application/json": {"schema": error}}


def parameter_schemas(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                yield parameter["schema"]


def without_null(schema: dict[str, Any]) -> None:
    """A parameter can be left out, but there is no way to send null in a query or a header."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) == 1:
        del schema["anyOf"]
        schema |= kinds[0]
