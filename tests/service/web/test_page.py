"""The page as a whole: what it may load, how it looks, how it is reached."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Error, Page, expect

from tests.service.conftest import LABELS
from tests.service.support import Running, wait_for
from tests.service.web.chromium import opened
from tests.service.web.test_ask import answered, show

PATIENCE_MS = 20_000


def test_the_page_and_its_files_forbid_everything_from_elsewhere(server: Running) -> None:
    for path in ("/", "/docs", "/web/js/app.js", "/web/base.css", "/web/icon.svg"):
        response = server.client.get(path)
        assert response.status_code == 200
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-cache"
    for path in ("/", "/docs"):
        text = server.client.get(path).text
        assert "http://" not in text
        assert "https://" not in text
    unknown = server.client.get("/web/none.js")
    assert unknown.status_code == 404
    assert unknown.headers["content-type"] == "application/problem+json"


def test_text_cannot_become_markup(chromium: Browser, server: Running) -> None:
    with opened(chromium, server.url) as (page, _), pytest.raises(Error, match="TrustedHTML"):
        page.evaluate("document.body.innerHTML = '<b>hello</b>'")


def test_nothing_is_loaded_from_elsewhere(chromium: Browser, server: Running) -> None:
    with opened(chromium, "about:blank") as (page, errors):
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(server.url)
        show(page)
        answered(page)
        assert all(url.startswith((server.url, "blob:")) for url in asked)
    assert errors == []


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_no_width_needs_to_be_scrolled_sideways(chromium: Browser, server: Running, width: int) -> None:
    with opened(chromium, server.url, viewport={"width": width, "height": 800}) as (page, errors):
        show(page)
        answered(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        bar = page.locator(".top").bounding_box()
        assert bar is not None
        assert bar["height"] < page.evaluate(
            "parseFloat(getComputedStyle(document.documentElement).scrollPaddingTop)"
        )
    assert errors == []


def test_dark_is_dark_and_light_is_light(chromium: Browser, server: Running) -> None:
    for scheme, low, high in (("light", 200, 255), ("dark", 0, 60)):
        with opened(chromium, server.url, color_scheme=scheme) as (page, _):
            colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert all(low <= int(part) <= high for part in colour[4:-1].split(","))


def test_the_keyboard_reaches_everything(page: Page) -> None:
    show(page)
    answered(page)
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert reached[0] == "Skip to the page"
    wanted = [
        "ask-file", "correct-label", "ask-correct", "budget-reset", "tmax", "epsilon", "topk", "keep", "budget_ms",
        "teach-folder-button", "teach-images-button", "classes-find", "speed-run",
    ]  # fmt: skip
    assert [name for name in reached if name in wanted][: len(wanted)] == wanted


def test_nobody_is_shut_out(chromium: Browser, server: Running) -> None:
    """axe-core: names, roles, contrast and the rest of WCAG 2.2 AA that a program can see."""
    for path in ("/", "/docs"):
        with opened(chromium, server.url + path, reduced_motion="reduce", color_scheme="light") as (page, _):
            if path == "/":
                show(page)
                answered(page)
            else:
                page.locator(".call > summary").first.click()
            assert violations(page) == []
            page.emulate_media(color_scheme="dark")
            assert violations(page, "color-contrast") == []


def violations(page: Page, *rules: str) -> list[tuple[str, list[str]]]:
    """What axe-core objects to, all rules if none is named, and where."""
    options = {"runOnly": list(rules)} if rules else None
    found = Axe().run(page, options=options).response["violations"]
    return [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]


def test_speed_is_drawn_from_what_was_really_asked(page: Page) -> None:
    show(page)
    answered(page)
    page.locator("#speed").scroll_into_view_if_needed()
    button = page.get_by_role("button", name="Ask 100 times")
    button.click()
    expect(button).to_be_enabled(timeout=6 * PATIENCE_MS)  # other work slows a hundred answers
    latency, throughput = page.locator(".chart").all()
    expect(latency).to_contain_text("95 % within")
    points = latency.locator(".line").get_attribute("points") or ""
    assert len(points.split()) == 100
    expect(throughput).to_contain_text("answers so far", timeout=PATIENCE_MS)


def test_what_it_asks_for_again_and_again_is_sent_once(chromium: Browser, server: Running) -> None:
    with opened(chromium, server.url) as (page, errors):
        expect(page.locator("#versions")).to_contain_text("6 classes")
        offered = page.locator("#known-labels option")
        expect(offered).to_have_count(len(LABELS))
        assert [option.get_attribute("value") for option in offered.all()] == list(LABELS)
        same = 'hippotune_request_duration_seconds_count{code="304",route="/versions"}'
        wait_for(lambda: same in server.client.get("/metrics").text)
        expect(page.locator("#versions")).to_contain_text("new: bee, cat")
    assert errors == []


def test_a_server_that_is_gone_is_told(chromium: Browser, server: Running) -> None:
    with opened(chromium, server.url) as (page, _):
        expect(page.locator("#status")).to_contain_text("6 classes")
        page.route("**/versions?*", lambda route: route.abort())
        expect(page.locator("#status")).to_have_text("The server cannot be reached.", timeout=PATIENCE_MS)
        page.unroute("**/versions?*")
        expect(page.locator("#status")).to_contain_text("6 classes", timeout=PATIENCE_MS)
