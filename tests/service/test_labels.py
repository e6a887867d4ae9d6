"""/labels: what is known is listed, and orders to rename or forget a class are accepted as tasks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from exchange.records import LabelChange, TaskChange, TaskState
from service.config import ServiceConfig
from tests.exchange.working import take
from tests.service.conftest import LABELS
from tests.service.support import Running, cancel_queued, picture, problem, random_version, running

ODD = ("50% off/sale?", "a/b", "Äpfel", "cow, brown", "zebra")


@pytest.fixture(scope="module")
def taught_labels(server: Running) -> Iterator[Running]:
    """The shared server with labels that are hard to put into a path, and who taught them."""
    taught = {"t1": (0, 1, 4), "t2": (1, 2, 3)}
    server.serve(random_version(server.backbone, ODD), images=(3, 5, 7, 9, 11), taught=taught)
    yield server
    server.serve(random_version(server.backbone, LABELS))


@pytest.fixture
def labelled(taught_labels: Running) -> Iterator[Running]:
    yield taught_labels
    cancel_queued(taught_labels.queue)


def at(label: str) -> str:
    return f"/labels/{quote(label, safe='')}"


def listed(server: Running, **query: Any) -> list[str]:
    return [each["label"] for each in server.client.get("/labels", params=query).json()["labels"]]


def test_labels_are_listed_with_what_taught_them(labelled: Running) -> None:
    answer = labelled.client.get("/labels").json()
    assert (answer["version"], answer["count"]) == (labelled.registry.current(), 5)
    assert answer["labels"] == [
        {"label": "50% off/sale?", "images": 3, "tasks": ["t1"]},
        {"label": "a/b", "images": 5, "tasks": ["t1", "t2"]},
        {"label": "cow, brown", "images": 9, "tasks": ["t2"]},
        {"label": "zebra", "images": 11, "tasks": ["t1"]},
        {"label": "Äpfel", "images": 7, "tasks": ["t2"]},
    ]


def test_labels_are_found_by_a_part_and_read_page_by_page(labelled: Running) -> None:
    assert listed(labelled, contains="ÄPF") == listed(labelled, contains="a\u0308pf") == ["Äpfel"]
    found = labelled.client.get("/labels", params={"contains": "B", "limit": 1}).json()
    assert (found["count"], found["labels"][0]["label"]) == (3, "a/b")
    pages, after = [], ""
    while page := listed(labelled, limit=2, after=after):
        pages.append(page)
        after = page[-1]
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [label for page in pages for label in page] == sorted(ODD)
    assert listed(labelled, after="cow") == ["cow, brown", "zebra", "Äpfel"], "whether it is a label or not"


def test_labels_of_an_older_version_may_not_say_what_taught_them(labelled: Running) -> None:
    older = labelled.client.get("/labels", params={"version": 1}).json()
    assert older["version"] == 1
    assert older["labels"][0] == {"label": "bee", "images": None, "tasks": None}
    assert labelled.client.get("/labels", params={"version": 99}).status_code == 404


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 10_001}, {"version": 0}, {"filter": "a"}])
def test_what_a_list_cannot_be_is_refused(labelled: Running, query: dict[str, Any]) -> None:
    response = labelled.client.get("/labels", params=query)
    assert response.status_code == 422
    assert next(iter(query)) in response.json()["detail"]


def test_a_list_that_is_known_is_not_sent_again(labelled: Running) -> None:
    first = labelled.client.get("/labels")
    named = {"If-None-Match": first.headers["etag"]}
    again = labelled.client.get("/labels", headers=named)
    assert (again.status_code, again.content) == (304, b"")
    assert labelled.client.get("/labels", params={"limit": 2}, headers=named).status_code == 200
    assert first.headers["cache-control"] == "no-cache"


def test_nothing_is_known_before_the_first_version(config: ServiceConfig) -> None:
    with running(config) as server:
        assert server.client.get("/labels").json() == {"version": None, "count": 0, "labels": []}
        assert server.client.delete("/labels/cat").status_code == 404


def test_an_order_to_rename_is_a_task_that_can_be_followed_and_cancelled(labelled: Running) -> None:
    response = labelled.client.patch("/labels/zebra", json={"label": " quagga "})
    assert response.status_code == 202, response.text
    order = response.json()
    assert response.headers["location"] == f"/tasks/{order['id']}"
    assert (order["state"], order["images"], order["labels"]) == ("queued", 0, ["quagga", "zebra"])
    assert order["change"] == {"label": "zebra", "becomes": "quagga"}
    assert labelled.client.get(response.headers["location"]).json() == order
    assert labelled.client.get("/tasks").json()["tasks"][0] == order
    assert labelled.queue.get(order["id"]).change == LabelChange("zebra", "quagga")
    cancelled = labelled.client.delete(f"/tasks/{order['id']}")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")


@pytest.mark.parametrize("label", ODD)
def test_any_label_can_be_named_in_a_path(labelled: Running, label: str) -> None:
    response = labelled.client.delete(at(label))
    assert response.status_code == 202, response.text
    assert response.json()["change"] == {"label": label, "becomes": None}


def test_a_label_may_be_written_in_other_code_points(labelled: Running) -> None:
    response = labelled.client.delete(at("A\u0308pfel"))
    assert response.json()["change"]["label"] == "Äpfel"


def test_what_no_class_is_called_cannot_be_changed(labelled: Running) -> None:
    problem(labelled.client.delete("/labels/cat"), 404, "label", "be one that GET /labels lists")
    problem(labelled.client.patch("/labels/cat", json={"label": "dog"}), 404, "label", "be one that")
    assert labelled.client.delete("/labels/").status_code == 422


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"label": "zebra"}', "label is 'zebra'; it must be another than the class has"),
        (b'{"label": "  zebra "}', "it must be another than the class has"),
        (b'{"label": ""}', "label is ''; it must have 1 to"),
        (b"{}", "label is missing; it must be given"),
        (b'{"label": "a", "becomes": "b"}', "becomes is 'b'; it must be left out"),
        (b'{"label": null}', "label is missing"),
        (b"not json", "body is 'not json'; it must be JSON"),
    ],
)
def test_a_name_that_is_none_is_refused(labelled: Running, body: bytes, told: str) -> None:
    response = labelled.client.patch("/labels/zebra", content=body)
    assert response.status_code == 422, response.text
    assert told in response.json()["detail"]
    assert labelled.queue.depth() == 0


def test_the_same_order_with_the_same_key_is_the_same_task_even_once_it_is_done(labelled: Running) -> None:
    key = {"Idempotency-Key": "zebra"}
    body = {"label": "quagga"}
    first = labelled.client.patch("/labels/zebra", json=body, headers=key).json()
    assert labelled.client.patch("/labels/zebra", json=body, headers=key).json() == first
    assert labelled.client.patch("/labels/zebra", json={"label": "okapi"}, headers=key).status_code == 422
    assert labelled.client.delete("/labels/zebra", headers=key).status_code == 422
    claim = take(labelled.queue)
    assert claim is not None
    labelled.queue.report(claim, TaskChange(TaskState.CONSOLIDATED, progress=1.0))
    labelled.queue.finish(claim)
    done = labelled.client.patch("/labels/zebra", json=body, headers=key)
    assert (done.status_code, done.json()["id"], done.json()["state"]) == (202, first["id"], "consolidated")
    undone = labelled.client.delete(f"/tasks/{first['id']}")
    assert undone.status_code == 409
    assert "activate an older version to undo it" in undone.json()["detail"]


def test_an_order_that_failed_is_not_tried_again_by_those_who_may_only_teach(labelled: Running) -> None:
    order = labelled.client.delete("/labels/zebra").json()["id"]
    claim = take(labelled.queue)
    assert claim is not None
    labelled.queue.fail(claim, "no class is called 'zebra' any more")
    response = labelled.client.post(f"/tasks/{order}/retry")
    assert response.status_code == 409
    assert "give it anew" in response.json()["detail"]


def test_a_full_queue_takes_no_order(config: ServiceConfig) -> None:
    with running(config) as server:
        server.serve(random_version(server.backbone, ("cat", "dog")))
        for _ in range(config.queue.capacity):
            assert server.client.delete("/labels/cat").status_code == 202
        response = server.client.delete("/labels/cat")
        assert response.status_code == 429
        assert "retry-after" in response.headers
        files = {"files": ("a", picture())}
        assert server.client.post("/tasks", files=files, data={"labels": ["cat"]}).status_code == 429
