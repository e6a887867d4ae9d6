"""A page whose server wants a key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Browser, expect

from service.config import ServiceConfig
from service.http.api_keys import Role, create
from tests.service.support import Running, picture, random_version, running
from tests.service.web.chromium import opened
from tests.service.web.test_ask import answered, show

HOSTILE = "<img src=x onerror=\"document.title='taken'\">"


@pytest.fixture
def locked(config: ServiceConfig) -> Iterator[tuple[Running, str]]:
    secret, key = create("me", [Role.ADMIN])
    with running(replace(config, api_keys=key.line())) as server:
        server.serve(random_version(server.backbone, ("bee", "cat", "cow", "dog", HOSTILE)))
        server.client.headers["X-API-Key"] = secret
        yield server, secret


def test_it_asks_once_and_keeps_the_key_in_this_tab(chromium: Browser, locked: tuple[Running, str]) -> None:
    server, key = locked
    with opened(chromium, server.url) as (page, errors):
        field = page.get_by_label("API key")
        expect(field).to_be_visible()
        field.fill("wrong")
        field.press("Enter")
        expect(page.locator("#key-message")).to_contain_text("does not know")
        field.fill(key)
        for _ in range(3):  # a browser gives way at the last of these, whatever a page does about "cancel"
            page.keyboard.press("Escape")
        expect(field).to_be_visible()
        page.get_by_role("button", name="Use it").click()
        expect(field).to_be_hidden()
        expect(page.locator("#status")).to_contain_text("5 classes")
        show(page)
        answered(page)
        page.reload()
        expect(page.locator("#status")).to_contain_text("5 classes")
        expect(field).to_be_hidden()
        assert page.evaluate("localStorage.length") == 0
        assert page.evaluate("document.cookie") == ""
        assert key not in page.url
    assert all("401" in error for error in errors), errors


def test_a_label_that_is_markup_is_text(chromium: Browser, locked: tuple[Running, str]) -> None:
    server, key = locked
    task = {"files": {"files": ("a", picture())}, "data": {"labels": [HOSTILE]}}
    assert server.client.post(f"/tasks?name={HOSTILE}", **task).status_code == 202
    with opened(chromium, server.url) as (page, _):
        page.get_by_label("API key").fill(key)
        page.get_by_role("button", name="Use it").click()
        show(page)
        answered(page)
        expect(page.locator("#ask-bars")).to_contain_text(HOSTILE)
        expect(page.locator("#tasks")).to_contain_text(HOSTILE)
        expect(page.locator("#versions")).to_contain_text(HOSTILE)
        expect(page.locator("#known")).to_contain_text(HOSTILE)
        assert page.locator("img[src=x]").count() == 0
        assert page.title() == "HippoTune"
