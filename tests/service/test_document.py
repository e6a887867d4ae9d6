"""The API document says what the server does: every answer described, and examples such as it really gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.service.support import Running, picture

PNG = {"Content-Type": "image/png"}
UNLESS_ASKED = {"trace"}
"""Null, and left out of an example, unless a request asks for it."""


@pytest.fixture(scope="module")
def document(server: Running) -> dict[str, Any]:
    return dict(server.client.get("/openapi.json").json())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def test_every_answer_and_parameter_is_described(document: dict[str, Any]) -> None:
    for call, operation in operations(document):
        for status, response in operation["responses"].items():
            assert response["description"] not in ("", "Successful Response"), (call, status)
        for parameter in operation.get("parameters", ()):
            assert parameter.get("description"), (call, parameter["name"])
    for name, schema in document["components"]["schemas"].items():
        for field, told in schema.get("properties", {}).items():
            assert told.get("description"), (name, field)


def example(document: dict[str, Any], call: str, status: str = "200") -> Any:
    """The one of a call's first media type."""
    method, path = call.lower().split(" ")
    return next(iter(document["paths"][path][method]["responses"][status]["content"].values()))["example"]


def test_every_success_has_an_example(document: dict[str, Any]) -> None:
    for call, operation in operations(document):
        for status, response in operation["responses"].items():
            if int(status) < 300 and status != "204":  # which has no content
                assert any("example" in content for content in response["content"].values()), (call, status)


@pytest.mark.parametrize(
    "path",
    [
        "/healthz", "/readyz", "/labels", "/versions", "/versions/{version}", "/v2", "/v2/health/live",
        "/v2/health/ready", "/v2/models/{model}", "/v2/models/{model}/ready", "/v2/models/{model}/versions/{version}",
    ],
)  # fmt: skip
def test_what_is_read_looks_like_its_example(server: Running, document: dict[str, Any], path: str) -> None:
    real = server.client.get(path.format(model="hippotune", version=server.registry.current())).json()
    alike(real, example(document, f"GET {path}"))


def test_what_is_asked_and_taught_looks_like_its_example(server: Running, document: dict[str, Any]) -> None:
    client = server.client
    answer = client.post("/classify", content=picture(), headers=PNG).json()
    alike(answer, example(document, "POST /classify"))
    sized = {"Inference-Header-Content-Length": "0"}
    tensors = client.post("/v2/models/hippotune/infer", content=picture(), headers=sized)
    alike(tensors.json(), example(document, "POST /v2/models/{model}/infer"))
    corrected = client.post("/feedback", json={"id": answer["id"], "label": "cat"})
    alike(located(corrected), example(document, "POST /feedback", "202"))
    task = client.post("/tasks", files={"files": ("a", picture())}, data={"labels": ["cat"]})
    alike(located(task), example(document, "POST /tasks", "202"))
    alike(client.get("/tasks").json(), example(document, "GET /tasks"))
    renamed = client.patch("/labels/cat", json={"label": "tomcat"})
    alike(located(renamed), example(document, "PATCH /labels/{label}", "202"))
    forgotten = client.delete("/labels/dog")
    alike(located(forgotten), example(document, "DELETE /labels/{label}", "202"))
    for each in (task, corrected, renamed, forgotten):
        alike(client.delete(each.headers["location"]).json(), example(document, "DELETE /tasks/{id}"))


def located(response: httpx.Response) -> Any:
    assert response.status_code == 202
    assert response.headers["location"] == f"/tasks/{response.json()['id']}"
    return response.json()


def alike(real: Any, shown: Any) -> None:
    """The same fields, all the way down; numbers and names are their own."""
    if isinstance(shown, dict):
        assert set(shown) - set(real) == set(), "an example with what is never sent"
        assert set(real) - set(shown) <= UNLESS_ASKED, "an example without what is sent"
        for name, value in shown.items():
            if name not in ("metrics", "files") and None not in (real[name], value):
                alike(real[name], value)
    elif isinstance(shown, list) and shown and real:
        alike(real[0], shown[0])
    elif not isinstance(shown, list):
        assert isinstance(real, type(shown) if isinstance(shown, bool | str) else int | float)


def test_generated_clients_call_each_operation_by_a_short_name(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert {"classify", "create_task", "list_tasks", "activate_version", "infer"} < set(names)
    assert len(set(names)) == len(names)
    assert all(len(name.split("_")) <= 3 for name in names)
