"""What the API document says beyond what FastAPI finds in the routes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

from service.answering.inference_tensors import InferRequest
from service.http.guard import Guard
from service.http.problems import ProblemDocument


class App(FastAPI):
    """FastAPI whose document knows the shape of its errors, and what needs a key."""

    def __init__(self, routers: Sequence[APIRouter], guard: type[Guard], **of_fastapi: Any) -> None:
        """guard: who lets requests through."""
        # What generated clients call their functions; FastAPI's own ids repeat the path and the method.
        super().__init__(generate_unique_id_function=lambda route: route.name, **of_fastapi)
        self._routers, self._guard = routers, guard
        for router in routers:
            self.include_router(router)

    def methods_at(self, path: str) -> set[str]:
        """Those that some route takes there."""
        routes = (route for router in self._routers for route in router.routes if isinstance(route, APIRoute))
        return {method for route in routes if route.path_regex.match(path) for method in route.methods or ()}

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas |= models_json_schema(
                [(ProblemDocument, "validation"), (InferRequest, "validation")],
                ref_template="#/components/schemas/{model}",
            )[1]["$defs"]
            self._guard.describe(document)
            as_the_protocol_has_it(document)
            for router in self._routers:
                examples_whole(document, router)
            for schema in parameter_schemas(document):
                without_null(schema)
        return super().openapi()


def as_the_protocol_has_it(document: dict[str, Any]) -> None:
    """Under /v2 an error is no problem document, as `service.http.middleware.ProtocolErrors` sees to."""
    error = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
    for path, operations in document["paths"].items():
        for operation in operations.values() if path.startswith("/v2") else ():
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    response["content"] = {"application/json": {"schema": error}}


def examples_whole(document: dict[str, Any], router: APIRouter) -> None:
    """FastAPI takes nulls out of its document, and so fields that are always sent out of the examples of answers."""
    for route in router.routes:
        if not isinstance(route, APIRoute) or not route.include_in_schema:
            continue
        for method in route.methods or ():
            answers = document["paths"][route.path_format][method.lower()]["responses"]
            for status, told in route.responses.items():
                for media, content in told.get("content", {}).items():
                    if "example" in content:
                        answers[str(status)]["content"][media]["example"] = content["example"]


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
