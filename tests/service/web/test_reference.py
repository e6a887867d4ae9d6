"""The API reference at /docs, in a real Chromium."""

from __future__ import annotations

from playwright.sync_api import Browser, expect

from tests.service.support import Running
from tests.service.web.chromium import opened


def test_every_call_of_the_api_document_is_told(chromium: Browser, server: Running) -> None:
    document = server.client.get("/openapi.json").json()
    with opened(chromium, server.url + "/docs") as (page, errors):
        told = page.locator(".call")
        calls = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
        expect(told).to_have_count(len(calls))
        summaries = [call.inner_text().split("\n") for call in told.locator("> summary").all()]
        assert {(words[0], words[1]) for words in summaries} == calls
        classify = told.filter(has=page.get_by_text("/classify", exact=True))
        classify.locator("> summary").click()
        for parameter in document["paths"]["/classify"]["post"]["parameters"]:
            expect(classify.get_by_role("rowheader", name=parameter["name"], exact=True)).to_be_visible()
        classify.get_by_text("Classification", exact=True).click()
        expect(classify.get_by_role("rowheader", name="predictions")).to_be_visible()
    assert errors == []


def test_its_title_stands_clear_of_the_bar_above(chromium: Browser, server: Running) -> None:
    with opened(chromium, server.url + "/docs") as (page, _):
        bar, title = page.locator("header").bounding_box(), page.locator("h1").bounding_box()
    assert bar is not None
    assert title is not None
    assert title["y"] - (bar["y"] + bar["height"]) > 16


def test_it_asks_nobody_else_and_fits_a_phone(chromium: Browser, server: Running) -> None:
    with opened(chromium, "about:blank", viewport={"width": 320, "height": 700}) as (page, errors):
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(server.url + "/docs")
        for summary in page.locator(".call > summary").all():
            summary.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        assert all(url.startswith(server.url) for url in asked)
    assert errors == []


def test_a_document_that_cannot_be_read_is_told(chromium: Browser, server: Running) -> None:
    with opened(chromium, "about:blank") as (page, _):
        page.route("**/openapi.json", lambda route: route.fulfill(status=503))
        page.goto(server.url + "/docs")
        expect(page.locator("#message")).to_have_text("The server answered 503.")
