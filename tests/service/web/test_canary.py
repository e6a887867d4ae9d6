"""The canary: started, watched, widened, ended and promoted from the page."""

from __future__ import annotations

from playwright.sync_api import Browser, Page, expect

from service.config import ServiceConfig
from tests.service.conftest import LABELS
from tests.service.support import Running, picture, random_version, running, wait_for
from tests.service.web.chromium import opened

PNG = {"Content-Type": "image/png"}
IMAGES = 24


def counted(page: Page) -> dict[str, list[str]]:
    """The rows of the comparison: version -> images, failed, compute, sureness."""
    rows = page.locator("#canary tbody tr").all()
    return {row.locator("th").inner_text(): row.locator("td").all_inner_texts() for row in rows}


def ask_all(server: Running) -> dict[str, str]:
    """Answers by version, as the page counts them."""
    versions = [
        server.client.post("/classify", content=picture(seed), headers=PNG).json()["version"]
        for seed in range(IMAGES)
    ]
    return {f"v{version}": str(versions.count(version)) for version in set(versions)}


def test_a_canary_from_the_page(chromium: Browser, config: ServiceConfig) -> None:
    with running(config) as server:
        new, old = (
            server.serve(random_version(server.backbone, LABELS, seed=seed)).version for seed in (1, 2)
        )
        with opened(chromium, server.url) as (page, errors):
            card = page.locator("#canary")
            expect(card).to_be_hidden()
            page.get_by_role("button", name=f"Canary: try version {new} on 10 % of the requests").press(
                "Enter"
            )
            expect(card).to_contain_text(f"v{new} is the canary")
            canary = lambda: server.client.get("/versions").json()["canary"]  # noqa: E731
            assert (canary()["version"], canary()["share"]) == (new, 0.1)

            card.get_by_role("combobox").select_option("50 %")
            wait_for(lambda: canary()["share"] == 0.5 and server.services.served.canary is not None)
            wait_for(lambda: server.services.served.canary.share == 0.5)
            answered = ask_all(server)
            assert set(answered) == {f"v{new}", f"v{old}"}
            for version, images in answered.items():
                row = card.locator("tbody tr").filter(has=page.locator(f"th:text-is('{version}')"))
                expect(row.locator("td").first).to_have_text(images)
            for _, failed, compute, sureness in counted(page).values():
                assert failed == "0"
                assert float(compute.split()[0]) > 0
                assert 0 < float(sureness.split()[0]) <= 100

            card.get_by_role("button", name="End the canary").click()
            expect(card).to_be_hidden()
            wait_for(lambda: server.services.served.canary is None)
            assert set(ask_all(server)) == {f"v{old}"}

            page.get_by_role("button", name=f"Canary: try version {new} on").click()
            card.get_by_role("button", name=f"Promote v{new}").click()
            expect(card).to_be_hidden()
            expect(page.locator("#status")).to_contain_text(f"version {new}")
            assert set(ask_all(server)) == {f"v{new}"}
            assert errors == []


def test_the_open_menu_of_shares_outlives_a_redraw(chromium: Browser, config: ServiceConfig) -> None:
    with running(config) as server:
        new, _ = (server.serve(random_version(server.backbone, LABELS, seed=seed)).version for seed in (1, 2))
        server.registry.set_canary(new, 0.1)
        with opened(chromium, server.url) as (page, errors):
            card = page.locator("#canary")
            expect(card.get_by_role("combobox")).to_have_value("0.1")
            option = card.locator("option", has_text="50 %").element_handle()
            server.registry.set_canary(new, 0.25)
            expect(card.get_by_role("combobox")).to_have_value("0.25")
            assert option.evaluate("each => each.isConnected")
            assert errors == []


def test_a_canary_that_cannot_answer_says_why(chromium: Browser, config: ServiceConfig) -> None:
    with running(config) as server:
        good = server.serve(random_version(server.backbone, LABELS)).version
        broken = random_version(server.backbone, LABELS, seed=3)
        broken.head.weight[0, 0] = float("nan")
        bad = server.publish(broken).version
        server.registry.activate(good)
        server.registry.set_canary(bad, 0.25)
        with opened(chromium, server.url) as (page, errors):
            expect(page.locator("#canary .error")).to_contain_text("a tensor holds NaN")
            expect(page.locator("#canary select")).to_have_value("0.25")
            assert errors == []
