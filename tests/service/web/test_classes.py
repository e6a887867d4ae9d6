"""The classes that are known: found, renamed, merged and forgotten from the page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from exchange.records import LabelChange, Sample, TaskState
from service.config import ServiceConfig
from service.http.api_keys import Role, create
from tests.exchange.working import take
from tests.service.support import Running, picture, random_version, running
from tests.service.web.chromium import opened, teach
from tests.service.web.drawings import draw_folders
from tests.service.web.test_page import violations

PATIENCE_MS = 90_000
LABELS = ("bee", "cat", "a/b 50%?", "..", "lynx")


@pytest.fixture
def zoo(config: ServiceConfig) -> Iterator[Running]:
    """A server that knows odd labels, and no trainer: what is ordered waits."""
    with running(config) as server:
        pets = server.queue.submit("pets", [Sample(server.services.blobs.put(picture()), "cat")]).task.id
        server.queue.remove(pets)
        taught = {pets: (0, 1, 2), "older": (1, 3, 4)}
        server.serve(random_version(server.backbone, LABELS), images=(3, 12, 1, 7, 5), taught=taught)
        yield server


def row(page: Page, label: str) -> Locator:
    return page.locator("#known > li").filter(has=page.get_by_title(label, exact=True))


def orders(server: Running) -> list[LabelChange | None]:
    """What waits, the newest first."""
    return [task.change for task in server.queue.newest() if task.state == TaskState.QUEUED]


def test_what_is_known_is_listed_with_what_taught_it(chromium: Browser, zoo: Running) -> None:
    with opened(chromium, zoo.url) as (page, errors):
        names = page.locator("#known b")
        expect(names).to_have_text(sorted(LABELS))
        expect(row(page, "cat")).to_contain_text("12 images · pets, task older")
        expect(row(page, "bee")).to_contain_text("3 images · pets")
        expect(page.locator("#classes-count")).to_have_text("5 classes")
        page.get_by_label("Find a class").fill("B")
        expect(names).to_have_text(["a/b 50%?", "bee"])
        expect(page.locator("#classes-count")).to_have_text("2 classes")
        page.get_by_label("Find a class").fill("unicorn")
        expect(page.locator("#known")).to_have_text("No class has “unicorn” in its name.")
    assert errors == []


def test_many_classes_are_shown_by_and_by(chromium: Browser, config: ServiceConfig) -> None:
    labels = [f"class {number:03}" for number in range(150)]
    with running(config) as server, opened(chromium, server.url) as (page, errors):
        expect(page.locator("#known")).to_have_text("Nothing is known yet.")
        expect(page.get_by_label("Find a class")).to_be_hidden()
        server.serve(random_version(server.backbone, labels))
        rows = page.locator("#known > li")
        expect(rows).to_have_count(20)
        page.get_by_role("button", name="Show 100 more").click()
        expect(rows).to_have_count(120)
        page.get_by_role("button", name="Show 30 more").click()
        expect(rows).to_have_count(150)
        expect(page.locator("#classes-more")).to_be_hidden()
    assert errors == []


@pytest.mark.parametrize("label", LABELS)
def test_a_class_is_renamed_by_keyboard_whatever_its_name(
    chromium: Browser, zoo: Running, label: str
) -> None:
    with opened(chromium, zoo.url) as (page, errors):
        rename = page.get_by_role("button", name=f"Rename class {label}", exact=True)
        rename.press("Enter")
        field = page.get_by_label(f"New name of {label}", exact=True)
        expect(field).to_be_focused()
        page.keyboard.press("Escape")
        expect(field).to_have_count(0)
        expect(rename).to_be_focused()
        page.keyboard.press("Enter")
        page.keyboard.type(" quagga ")  # what was there is marked, and so replaced
        page.keyboard.press("Enter")
        expect(row(page, label)).to_contain_text("to be called quagga")
        expect(rename).to_have_count(0)
        expect(page.locator("#classes-message")).to_have_text(
            f"Ordered: rename: {label} -> quagga. Its progress is below."
        )
        assert orders(zoo) == [LabelChange(label, "quagga")]
        order = page.locator("#tasks li").filter(has_text=f"rename: {label} -> quagga")
        expect(order.locator(".state")).to_have_text("queued")
        expect(order).not_to_contain_text("0 images")
        order.get_by_role("button", name="Cancel").click()
        expect(rename).to_be_visible()
        assert orders(zoo) == []
    assert errors == []


def test_what_is_typed_outlives_what_happens_meanwhile(chromium: Browser, zoo: Running) -> None:
    with opened(chromium, zoo.url) as (page, errors):
        page.get_by_role("button", name="Rename class cat").click()
        field = page.get_by_label("New name of cat")
        field.press_sequentially("to")
        zoo.client.delete("/labels/lynx")
        expect(row(page, "lynx")).to_contain_text("to be forgotten")
        page.keyboard.type("m")
        expect(field).to_have_value("tom")
        page.get_by_role("button", name="Cancel", exact=True).click()
        expect(page.get_by_role("button", name="Rename class cat")).to_be_focused()
    assert errors == []


def test_two_classes_become_one_only_once_somebody_says_yes(chromium: Browser, zoo: Running) -> None:
    with opened(chromium, zoo.url) as (page, errors):
        page.get_by_role("button", name="Rename class lynx").click()
        page.get_by_label("New name of lynx").fill("cat")
        page.keyboard.press("Enter")
        expect(row(page, "lynx")).to_contain_text("“cat” is known already. The two become one class")
        expect(page.get_by_role("button", name="Keep both class lynx")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Rename class lynx")).to_be_visible()
        assert orders(zoo) == []
        page.get_by_role("button", name="Rename class lynx").click()
        page.get_by_label("New name of lynx").fill("cat")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Merge them class lynx").click()
        expect(row(page, "lynx")).to_contain_text("to be called cat")
        assert orders(zoo) == [LabelChange("lynx", "cat")]
    assert errors == []


def test_a_class_is_forgotten_only_once_somebody_says_yes(chromium: Browser, zoo: Running) -> None:
    with opened(chromium, zoo.url) as (page, errors):
        page.get_by_role("button", name="Forget class ..", exact=True).press("Enter")
        expect(row(page, "..")).to_contain_text("all other classes stay as they are")
        expect(page.get_by_role("button", name="Keep it class ..")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Forget class ..", exact=True)).to_be_focused()
        assert orders(zoo) == []
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Forget it class ..").click()
        expect(row(page, "..")).to_contain_text("to be forgotten")
        assert orders(zoo) == [LabelChange("..", None)]
    assert errors == []


def test_an_order_that_is_refused_says_why_beside_its_class(chromium: Browser, zoo: Running) -> None:
    with opened(chromium, zoo.url) as (page, _):
        page.get_by_role("button", name="Rename class cat").click()
        field = page.get_by_label("New name of cat")
        field.fill("\N{ZERO WIDTH SPACE}")
        field.press("Enter")
        expect(row(page, "cat").get_by_role("alert")).to_contain_text("printable characters")
        expect(field).to_be_visible()
        field.fill("")
        field.press("Enter")
        assert page.evaluate("document.querySelector('.renaming input:invalid') !== null")
    assert orders(zoo) == []


def test_an_order_that_failed_can_be_discarded_and_no_order_can_be_forgotten(
    chromium: Browser, zoo: Running
) -> None:
    zoo.client.delete("/labels/cat")
    claim = take(zoo.queue)
    assert claim is not None
    zoo.queue.fail(claim, "no class is called 'cat' any more")
    with opened(chromium, zoo.url) as (page, errors):
        order = page.locator("#tasks li").filter(has_text="forget: cat")
        expect(order.locator(".error")).to_have_text("no class is called 'cat' any more")
        expect(order.get_by_role("button")).to_have_text(["Discard"])
        order.get_by_role("button").click()
        expect(order.locator(".state")).to_have_text("cancelled")
        expect(order.get_by_role("button")).to_have_count(0)
    assert errors == []


def test_those_who_may_only_teach_are_told_so(chromium: Browser, config: ServiceConfig) -> None:
    secret, key = create("me", [Role.SUBMIT])
    with running(replace(config, api_keys=key.line())) as server:
        server.client.headers["X-API-Key"] = secret
        server.serve(random_version(server.backbone, LABELS))
        with opened(chromium, server.url) as (page, _):
            page.get_by_label("API key").fill(secret)
            page.get_by_role("button", name="Use it").click()
            page.get_by_role("button", name="Forget class cat").click()
            page.get_by_role("button", name="Forget it class cat").click()
            expect(row(page, "cat").get_by_role("alert")).to_contain_text("admin")
        assert orders(server) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_shut_out_of_a_change(chromium: Browser, zoo: Running, scheme: str) -> None:
    look = {"viewport": {"width": 320, "height": 800}, "color_scheme": scheme, "reduced_motion": "reduce"}
    zoo.client.delete("/labels/bee")
    with opened(chromium, zoo.url, **look) as (page, errors):
        for begin in ("Rename class lynx", "Forget class lynx"):
            page.get_by_role("button", name=begin).click()
            assert violations(page) == []
            assert page.evaluate("document.documentElement.scrollWidth") <= 320
            page.get_by_role(
                "button", name="Cancel" if "Rename" in begin else "Keep it class lynx", exact=True
            ).click()
    assert errors == []


@pytest.mark.slow
def test_a_class_is_renamed_and_another_forgotten(chromium: Browser, school: Running, tmp_path: Path) -> None:
    with opened(chromium, school.url) as (page, errors):
        teach(page, draw_folders(tmp_path / "sky", ("sun", "moon"), 8), "sky")
        page.get_by_role("button", name="Rename class sun").click(timeout=PATIENCE_MS)
        page.get_by_label("New name of sun").fill("star")
        page.keyboard.press("Enter")
        expect(page.locator("#known b")).to_have_text(["moon", "star"], timeout=PATIENCE_MS)
        expect(row(page, "star")).to_contain_text("sky")
        order = page.locator("#tasks li").filter(has_text="rename: sun -> star")
        expect(order).to_contain_text("carried out after", timeout=PATIENCE_MS)
        expect(order.get_by_role("button")).to_have_count(0)
        page.get_by_role("button", name="Forget class moon").click()
        page.get_by_role("button", name="Forget it class moon").click()
        expect(page.locator("#known b")).to_have_text(["star"], timeout=PATIENCE_MS)
        expect(page.locator("#status")).to_contain_text("1 class")
    assert errors == []
