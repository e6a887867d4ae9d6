"""Who may do what, over a real socket; and what a web page from elsewhere may not."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from exchange.queue import QueueConfig
from model.spec import BackboneSpec
from service.config import ServiceConfig
from service.http.api_keys import Role, create
from service.http.guard import allowed_roles
from tests.service.support import Running, picture, random_version, running

PNG = {"Content-Type": "image/png"}
CHANGING = ("activate", "delete", "forget", "rename", "other method")
TASK = {"files": {"files": ("a", picture())}, "data": {"labels": ["cat"]}}


@pytest.fixture(scope="module")
def secrets() -> dict[str, tuple[str, str]]:
    """Key and line by role."""
    made = {role.value: create(role.value, [role]) for role in Role}
    return {role: (secret, key.line()) for role, (secret, key) in made.items()}


@pytest.fixture(scope="module")
def locked(
    secrets: dict[str, tuple[str, str]],
    redis_url: str,
    backbone: BackboneSpec,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:
    """A server with one key of each role."""
    store = tmp_path_factory.mktemp("locked")
    queue, lines = QueueConfig(prefix=store.name), " ".join(line for _, line in secrets.values())
    config = ServiceConfig(redis_url, store, backbone, queue, runtime="torch", threads=1, api_keys=lines)
    with running(config) as server:
        server.serve(random_version(server.backbone, ("cat", "dog")))
        yield server


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def calls(server: Running, key: dict[str, str]) -> dict[str, int]:
    """Status of each kind of request with this key."""
    client, version = server.client, server.registry.current()
    return {
        "classify": client.post("/classify", content=picture(), headers=PNG | key).status_code,
        "submit": client.post("/tasks", **TASK, headers=key).status_code,
        "activate": client.post(f"/versions/{version}/activate", headers=key).status_code,
        "delete": client.delete("/tasks/none", headers=key).status_code,
        "forget": client.delete("/labels/none", headers=key).status_code,
        "rename": client.patch("/labels/none", json={"label": "some"}, headers=key).status_code,
        "labels": client.get("/labels", headers=key).status_code,
        "read": client.get("/tasks", headers=key).status_code,
        "events": client.get("/tasks/none/events", headers=key).status_code,
        "metrics": client.get("/metrics", headers=key).status_code,
        "nowhere": client.get("/nowhere", headers=key).status_code,
        "other method": client.put("/classify", headers=key).status_code,
    }


@pytest.mark.parametrize(
    ("role", "may"),
    [
        ("classify", {"classify": 200, "submit": 403} | dict.fromkeys(CHANGING, 403)),
        ("submit", {"classify": 403, "submit": 202} | dict.fromkeys(CHANGING, 403)),
        (
            "admin",
            {"classify": 200, "submit": 202, "activate": 200, "other method": 405}
            | dict.fromkeys(("delete", "forget", "rename"), 404),
        ),
    ],
)
def test_each_role_may_what_it_is_for(
    locked: Running, secrets: dict[str, tuple[str, str]], role: str, may: dict[str, int]
) -> None:
    reading = {"read": 200, "labels": 200, "events": 404, "metrics": 200, "nowhere": 404}
    key, _ = secrets[role]
    assert calls(locked, bearer(key)) == may | reading
    assert calls(locked, {"X-API-Key": key}) == may | reading


@pytest.mark.parametrize(
    "header",
    [
        {},
        bearer("ht_guessed"),
        {"X-API-Key": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic YTpi"},
        {"X-API-Key": "ä".encode("latin-1")},
    ],
    ids=["none", "wrong", "empty", "no token", "basic", "not ascii"],
)
def test_without_a_key_nothing_but_health_and_the_page(locked: Running, header: dict[str, str]) -> None:
    queued = locked.queue.newest()
    assert set(calls(locked, header).values()) == {401}
    assert locked.queue.newest() == queued
    response = locked.client.get("/tasks", headers=header)
    assert response.headers["www-authenticate"].startswith('Bearer realm="hippotune"')
    assert response.headers["content-type"] == "application/problem+json"
    (error,) = response.json()["errors"]
    assert error["field"] == "Authorization"
    assert "X-API-Key" in error["allowed"]
    for path in ("/healthz", "/readyz", "/", "/docs", "/openapi.json", "/web/js/app.js"):
        assert locked.client.get(path, headers=header).status_code == 200, path


def test_a_role_that_does_not_suffice_is_told_which_does(
    locked: Running, secrets: dict[str, tuple[str, str]]
) -> None:
    response = locked.client.post("/versions/1/activate", headers=bearer(secrets["submit"][0]))
    assert response.status_code == 403
    assert response.json()["detail"] == "role is 'submit'; it must be admin"
    text = locked.client.get("/metrics", headers=bearer(secrets["admin"][0])).text
    assert 'hippotune_rejected_total{reason="forbidden"}' in text


def test_the_hash_of_a_key_opens_nothing(locked: Running, secrets: dict[str, tuple[str, str]]) -> None:
    digest = secrets["admin"][1].rpartition(":")[2]
    assert locked.client.get("/tasks", headers=bearer(digest)).status_code == 401


def test_no_key_is_ever_logged(
    locked: Running, secrets: dict[str, tuple[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for secret, _ in secrets.values():
        calls(locked, bearer(secret))
        locked.client.post("/classify", content=b"\xff\xd8\xffbroken", headers=bearer(secret))
    calls(locked, bearer("ht_a-guess-that-is-wrong"))
    text = caplog.text + repr([record.__dict__ for record in caplog.records])
    assert text
    for secret in (*(secret for secret, _ in secrets.values()), "a-guess-that-is-wrong"):
        assert secret not in text


def test_the_api_document_tells_which_calls_need_a_key(locked: Running) -> None:
    document = locked.client.get("/openapi.json").json()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "header"}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            needed = allowed_roles(method.upper(), path) is not None
            assert bool(operation["security"]) == needed, path
            assert {"401", "403"} <= operation["responses"].keys() or not needed, path


def test_where_no_key_is_needed_the_api_document_asks_for_none(server: Running) -> None:
    document = server.client.get("/openapi.json").json()
    assert "securitySchemes" not in document["components"]
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert not {"security", "x-role"} & operation.keys(), path
            assert "401" not in operation["responses"], path
            assert "403" in operation["responses"], "of a page from elsewhere"


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "10.0.0.1"]
)
def test_without_keys_only_this_machines_names_lead_here(server: Running, host: str) -> None:
    """A page that points a name of its own to 127.0.0.1 gets nothing, not even by reading."""
    for method, path in (("GET", "/tasks"), ("POST", "/classify"), ("GET", "/")):
        response = server.client.request(method, path, headers={"Host": host})
        assert response.status_code == 403
        assert response.json()["errors"][0]["field"] == "Host"


def test_without_keys_no_page_from_elsewhere_changes_anything(server: Running) -> None:
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1"):
        response = httpx.post(f"{server.url}/tasks", **TASK, headers={"Origin": origin})
        assert response.status_code == 403, origin
        assert response.json()["errors"][0]["field"] == "Origin"
    assert server.queue.newest() == []
    ours = server.client.post("/classify", content=picture(), headers=PNG | {"Origin": server.url})
    assert ours.status_code == 200


def test_insecure_answers_to_any_name(config: ServiceConfig) -> None:
    with running(replace(config, insecure=True)) as server:
        assert server.client.get("/tasks", headers={"Host": "hippotune.lan"}).status_code == 200


def test_a_key_file_that_is_still_empty_lets_nobody_in(config: ServiceConfig, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# none yet\n")
    with running(replace(config, api_keys_file=tmp_path / "keys")) as server:
        assert server.client.get("/versions").status_code == 401
        assert server.client.get("/healthz").status_code == 200
