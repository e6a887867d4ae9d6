"""Asking about an image, and how it remembered, in a real Chromium."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from tests.exchange.working import take
from tests.service.support import Running, picture
from tests.service.web.chromium import opened

PATIENCE_MS = 20_000


def show(page: Page, name: str = "a.png", kind: str = "PNG") -> None:
    image = {"name": name, "mimeType": f"image/{kind.lower()}", "buffer": picture(kind=kind)}
    page.locator("#ask-file").set_input_files(image)


def answered(page: Page) -> None:
    expect(page.locator("#ask-bars li")).to_have_count(5, timeout=PATIENCE_MS)
    expect(page.locator("#recall figure")).to_have_count(2, timeout=PATIENCE_MS)


def is_slider(request: Request) -> bool:
    """Not one of those that show how it remembered, which follow a moment later."""
    return "/classify" in request.url and "explain" not in request.url


def budget_of(request: Request) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(request.url).query).items()}


def test_an_image_gets_bars_and_the_time_they_took(page: Page, server: Running) -> None:
    expect(page.locator("#ask-message")).to_have_text("It knows 6 classes. Show it something.")
    show(page)
    answered(page)
    expect(page.locator("#ask-time")).to_contain_text("ms there and back, 28 steps in 7 layers")
    expect(page.locator("#ask-time .legend li")).to_have_count(5)
    expect(page.locator("#ask-image")).to_be_visible()
    headers = {"Content-Type": "image/png"}
    best = server.client.post("/classify", content=picture(), headers=headers).json()["predictions"][0]
    expect(page.locator("#ask-bars li").first).to_contain_text(best["label"])


def test_a_format_the_server_does_not_read_is_turned_into_one(page: Page) -> None:
    with page.expect_request(lambda request: "/classify" in request.url) as sent:
        show(page, "a.bmp", "BMP")
    answered(page)
    assert sent.value.headers["content-type"] == "image/png"


@pytest.mark.parametrize(
    ("kind", "mime"), [("gif", "image/gif"), ("png", "image/png"), ("txt", "text/plain")]
)
def test_a_file_that_is_no_image_is_told_and_the_one_before_stays(page: Page, kind: str, mime: str) -> None:
    show(page)
    answered(page)
    shown = page.locator("#ask-image").get_attribute("src")
    broken = {"name": f"<i>a.{kind}", "mimeType": mime, "buffer": b"no image"}
    page.locator("#ask-file").set_input_files(broken)
    expect(page.locator("#ask-message")).to_have_text(f"<i>a.{kind} is no image that this browser can read.")
    expect(page.locator("#ask-image")).to_have_attribute("src", shown or "")


def test_an_image_can_be_dropped_and_pasted(page: Page) -> None:
    give = """([selector, kind, bytes]) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(bytes)], "a.png", { type: "image/png" }));
        const data = kind === "paste" ? { clipboardData: transfer } : { dataTransfer: transfer };
        const Kind = kind === "paste" ? ClipboardEvent : DragEvent;
        const event = new Kind(kind, { ...data, bubbles: true, cancelable: true });
        document.querySelector(selector).dispatchEvent(event);
    }"""
    for selector, kind in (("#ask-drop", "drop"), ("body", "paste")):
        with page.expect_response(lambda response: "/classify" in response.url) as answer:
            page.evaluate(give, [selector, kind, list(picture())])
        assert answer.value.ok
    answered(page)


def test_every_slider_asks_again_with_what_it_says(page: Page) -> None:
    show(page)
    answered(page)
    defaults = {"tmax": "4", "epsilon": "0", "topk": "5", "keep": "1"}
    asked = dict(defaults)
    for name, key, value, shown in (
        ("tmax", "ArrowLeft", "3", "3"),
        ("topk", "ArrowRight", "6", "6"),
        ("keep", "ArrowLeft", "0.95", "95 %"),
    ):
        asked[name] = value
        with page.expect_request(is_slider) as sent:
            page.locator(f"#{name}").press(key)
        assert budget_of(sent.value) == asked
        expect(page.locator(f"#{name}-value")).to_have_text(shown)
    expect(page.locator("#ask-time")).to_contain_text("21 steps in 7 layers")
    expect(page.locator("#epsilon-value")).to_have_text("off")
    with page.expect_request(is_slider) as sent:
        page.locator("#epsilon").press("End")
    assert float(budget_of(sent.value)["epsilon"]) > 0
    expect(page.locator(".mix.stopped").first).to_be_visible(timeout=PATIENCE_MS)
    with page.expect_request(is_slider) as sent:
        page.get_by_role("button", name="Back to the defaults").click()
    assert budget_of(sent.value) == defaults


def test_a_time_budget_lets_the_server_choose_the_detail(page: Page) -> None:
    show(page)
    answered(page)
    explained = lambda request: "explain=true" in request.url  # noqa: E731
    with page.expect_request(explained) as compared, page.expect_request(is_slider) as sent:
        page.get_by_label("Time budget_ms").fill("1")
    assert budget_of(sent.value)["budget_ms"] == "1"
    assert budget_of(sent.value)["keep"] == "1"
    expect(page.locator("#ask-time")).to_contain_text("50 % of the tokens kept")
    asked = budget_of(compared.value)
    assert (asked["keep"], asked.get("budget_ms")) == ("0.5", None), (
        "one step and many compare at equal detail"
    )
    page.get_by_label("Time budget_ms").fill("-1")
    with page.expect_request(is_slider) as sent:
        page.locator("#tmax").press("ArrowLeft")
    assert "budget_ms" not in budget_of(sent.value)


def test_an_answer_of_fewer_steps_is_asked_for_in_full_to_be_corrected(
    chromium: Browser, server: Running
) -> None:
    with opened(chromium, server.url) as (page, errors):
        show(page)
        answered(page)
        page.locator("#tmax").press("ArrowLeft")
        expect(page.locator("#ask-time")).to_contain_text("21 steps in 7 layers")
        page.get_by_label("Wrong? It is").fill("moon")
        page.get_by_role("button", name="Correct it").click()
        expect(page.locator("#correct-message")).to_contain_text("Noted as “moon”.")
        assert not page.locator("#correct-label").evaluate("field => field.matches(':user-invalid')")
    claim = take(server.queue)
    assert claim is not None
    assert (claim.corrects, [sample.label for sample in claim.samples]) == (True, ["moon"])
    server.queue.finish(claim)
    assert len(errors) == 1  # the browser's own, of the first try
    assert "422" in errors[0]


def test_one_step_stands_beside_many(page: Page) -> None:
    show(page)
    answered(page)
    one, many = page.locator("#recall figure").all()
    expect(one.locator("tbody tr")).to_have_count(7)
    expect(one.locator(".mix")).to_have_count(7)
    expect(many.locator(".mix")).to_have_count(28)
    expect(many.locator(".way svg")).to_have_count(7)
    expect(page.locator("#recall-legend li")).to_have_count(2)
    told = many.locator(".mix").first.get_attribute("aria-label") or ""
    assert sum(float(part.split()[-2]) for part in told.split(", ")) > 98
    assert "task task" in told  # of random tasks that nobody handed in


def test_a_cell_is_filled_to_its_end_where_slots_of_little_weight_are_left_out(page: Page) -> None:
    show(page)
    answered(page)
    cell = page.locator("#recall .mix").first
    expect(cell).to_be_visible()
    cell.evaluate("cell => [...cell.children].slice(1).forEach(slot => slot.remove())")
    slot = cell.locator("span")
    slot.evaluate("slot => { slot.style.transition = 'none'; slot.style.setProperty('--share', 0.5); }")
    assert cell.evaluate("cell => cell.clientWidth - cell.firstChild.offsetWidth") <= 1


def test_what_more_steps_changed_is_said_and_a_layer_can_be_looked_at_closely(
    page: Page, server: Running
) -> None:
    show(page)
    answered(page)
    ask = {"content": picture(), "headers": {"Content-Type": "image/png"}}
    one, many = (
        server.client.post("/classify", params={"tmax": tmax, "explain": "true"}, **ask).json()
        for tmax in (1, 4)
    )
    difference = page.locator("#recall-difference")
    expect(difference).to_contain_text("With 4 steps instead of 1")
    expect(difference).to_contain_text(many["predictions"][0]["label"])
    for figure, answer in zip(page.locator("#recall figure").all(), (one, many), strict=True):
        best = [prediction["label"] for prediction in answer["predictions"][:3]]
        assert [item.get_attribute("title") for item in figure.locator(".says li").all()] == best
    page.get_by_role("button", name="Layer 3 up close").press("Enter")
    expect(page.get_by_role("button", name="Layer 3 up close")).to_have_attribute("aria-pressed", "true")
    closeup, layer = page.locator("#closeup"), many["trace"][2]
    expect(closeup).to_contain_text("Layer 3 up close")
    expect(closeup.locator(".way circle")).to_have_count(4)
    for step, row in enumerate(closeup.locator("tbody tr").all()):
        expect(row.locator("li").first).to_contain_text(f"slot {layer['steps'][step][0]['slot']},")
        expect(row.locator("td").last).to_have_text(f"{layer['cosines'][step]:.2f}")
    expect(closeup.locator("tbody tr td").nth(1)).to_have_text("–")


def test_a_refused_request_is_told_in_the_servers_words(chromium: Browser, server: Running) -> None:
    with opened(chromium, server.url) as (page, errors):
        detail = "tmax is 9; it must lie in 1..4"
        document = json.dumps({"status": 422, "detail": detail})
        page.route("**/classify?*", lambda route: route.fulfill(status=422, body=document))
        show(page)
        expect(page.locator("#ask-message")).to_have_text(detail)
    assert all("422" in error for error in errors)


def test_an_image_that_is_refused_leaves_nothing_of_the_one_before(
    chromium: Browser, server: Running
) -> None:
    with opened(chromium, server.url) as (page, _):
        show(page)
        answered(page)
        page.route("**/classify?*", lambda route: route.fulfill(status=413, body='{"detail": "too large"}'))
        show(page, "b.png")
        expect(page.locator("#ask-message")).to_have_text("too large")
        expect(page.get_by_label("Wrong? It is")).to_be_hidden()
        expect(page.locator("#recall")).to_have_text(
            "Ask about an image above to see which memories answered."
        )
        page.unroute("**/classify?*")
        page.locator("#tmax").press("ArrowLeft")
        answered(page)
        expect(page.get_by_label("Wrong? It is")).to_be_visible()
