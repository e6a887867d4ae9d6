"""What holds for every path: problem documents, methods, and paths that lead nowhere they should not."""

from __future__ import annotations

import httpx
import pytest

from tests.service.support import Running, picture, wait_for

PNG = {"Content-Type": "image/png"}


def problem(response: httpx.Response, status: int) -> dict[str, str]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert (document["status"], document["type"]) == (status, "about:blank")
    (error,) = document["errors"]
    assert error["allowed"] in document["detail"]
    return dict(error)


@pytest.mark.parametrize(
    "path",
    ["/nowhere", "/tasks/", "/classify/", "/Tasks", "/web", "/web/", "/%2e%2e/", "/redoc", "/%00"],
)
def test_paths_that_are_none(server: Running, path: str) -> None:
    assert problem(server.client.get(path), 404)["field"] == "path"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/classify", "POST"),
        ("/tasks", "GET, HEAD, POST"),
        ("/tasks/none", "DELETE, GET, HEAD"),
        ("/labels", "GET, HEAD"),
        ("/labels/cat", "DELETE, PATCH"),
        ("/labels/a/b", "DELETE, PATCH"),
        ("/versions/1/activate", "POST"),
        ("/healthz", "GET, HEAD"),
        ("/", "GET, HEAD"),
        ("/web/js/app.js", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "OPTIONS", "TRACE"])
def test_methods_that_a_path_does_not_take(server: Running, method: str, path: str, allowed: str) -> None:
    response = server.client.request(method, path)
    assert problem(response, 405)["allowed"] == f"be {allowed}"
    assert response.headers["allow"] == allowed


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/readyz", "/tasks", "/versions", "/metrics", "/openapi.json", "/docs"]
)
def test_head_is_get_without_a_body(server: Running, path: str) -> None:
    head, get = server.client.head(path), server.client.get(path)
    assert head.status_code == get.status_code == 200
    assert head.content == b""
    assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize("path", ["/", "/docs", "/web/base.css", "/labels", "/versions"])
def test_what_a_browser_has_is_not_sent_again(server: Running, path: str) -> None:
    etag = server.client.get(path).headers["etag"]
    again = server.client.get(path, headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert again.headers["cache-control"] == "no-cache"


def test_head_of_an_event_stream_ends(server: Running) -> None:
    task = server.client.post("/tasks", files={"files": ("a", picture())}, data={"labels": ["cat"]}).json()[
        "id"
    ]
    assert server.client.head(f"/tasks/{task}/events").status_code == 200
    assert server.client.get("/healthz").status_code == 200
    assert server.client.delete(f"/tasks/{task}").status_code == 200
    wait_for(lambda: server.services.streams.borrowed_tokens == 0)  # given back once its answer has ended


@pytest.mark.parametrize(
    "path",
    [
        "/web/../../config.py", "/web/%2e%2e/%2e%2e/config.py", "/web/..%2f..%2fconfig.py", "/web//etc/passwd",
        "/web/%2fetc%2fpasswd", "/web/js/%00", "/web/" + "a" * 5000, "/web/..\\..\\config.py",
        "/tasks/..%2f..%2fetc%2fpasswd", "/tasks/%00",
        "/tasks/" + "a" * 5000, "/tasks/%0d%0aSet-Cookie:a=b", "/tasks/%ff", "/versions/99", "//tasks",
    ],
)  # fmt: skip
def test_no_path_reaches_the_file_system(server: Running, path: str) -> None:
    response = server.client.get(httpx.URL(server.url).copy_with(raw_path=path.encode()))
    assert response.status_code == 404, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("number", ["0", "-1", "1e3", "../1", "%2e%2e", "99999999999999999999", "１", "1%00"])
def test_versions_are_numbers(server: Running, number: str) -> None:
    for method, path in (("GET", f"/versions/{number}"), ("POST", f"/versions/{number}/activate")):
        assert server.client.request(method, path).status_code in (404, 422)


def test_parameters_that_come_twice_or_oddly(server: Running) -> None:
    def ask(query: str) -> httpx.Response:
        return server.client.post(f"/classify?{query}", content=picture(), headers=PNG)

    assert problem(ask("tmax=1&tmax=2"), 422)["field"] == "tmax"
    assert problem(ask("timeout=1"), 422)["field"] == "timeout"
    assert ask("tmax=%31").json()["budget"]["tmax"] == 1
    assert problem(ask("tmax=%ff"), 422)["field"] == "tmax"
    assert problem(ask("labels=%00"), 422)["field"] == "labels"
    assert problem(ask("top=" + "9" * 5000), 422)["field"] == "top"
    assert ask("").status_code == ask("&&").status_code == 200


@pytest.mark.parametrize("kind", ["", ";", "image/png; charset=x", "IMAGE/PNG", "image/*"])
def test_media_types_are_read_as_they_are_meant(server: Running, kind: str) -> None:
    assert (
        server.client.post("/classify", content=picture(), headers={"Content-Type": kind}).status_code == 200
    )
