"""Teaching, tasks and versions, against a real trainer in a real Chromium."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from exchange.records import Sample, TaskChange, TaskState
from service.config import ServiceConfig
from tests.exchange.working import take
from tests.service.support import Running, picture, running
from tests.service.web.chromium import opened, teach
from tests.service.web.drawings import draw_folders, drawing

PATIENCE_MS = 90_000
HOSTILE = "<script>document.title='owned'</script>"


def drop(page: Page, target: Locator, path: Path) -> None:
    """Drag a folder of this machine onto an element, as the window system would."""
    box = target.bounding_box()
    assert box is not None
    data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    at = {"x": box["x"] + 20, "y": box["y"] + 20, "data": data}
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, **at})


def teach_two_drawings(page: Page, folder: Path) -> None:
    """The first task, from the empty page to a version that answers."""
    expect(page.locator("#status")).to_have_text("nothing learned yet")
    expect(page.locator("#ask-message")).to_contain_text("It knows nothing yet.")
    expect(page.locator("#tasks")).to_have_text("Nothing taught yet.")
    teach(page, draw_folders(folder, ("sun", "moon"), 8), "sky")
    expect(page.locator("#tasks li")).to_contain_text("sky")
    expect(page.locator("#tasks .state")).to_have_text("consolidated", timeout=PATIENCE_MS)
    expect(page.locator("#status")).to_have_text(re.compile("version [0-9]+, 2 classes"), timeout=PATIENCE_MS)


def ask_about_a_sun(page: Page) -> None:
    """An image is answered, and the accuracy so far is told to eyes and ears."""
    shown = {"name": "a.png", "mimeType": "image/png", "buffer": drawing("sun", 50)}
    page.locator("#ask-file").set_input_files(shown)
    expect(page.locator("#ask-bars li")).to_have_count(2)
    expect(page.locator("#recall-legend li")).to_contain_text("sky")
    expect(page.locator("#matrix tbody tr")).to_have_count(1)
    accuracy = page.locator("#matrix .sum").first.inner_text()
    spoken = page.locator("#curve svg").get_attribute("aria-label") or ""
    assert f"average accuracy {accuracy}, forgetting 0\N{NO-BREAK SPACE}%, on " in spoken
    assert re.search("on [0-9]+ held-out images?$", spoken)


def teach_what_was_asked(page: Page, name: str) -> None:
    """The image in the answer becomes a task; its label is shown as text, whatever it is."""
    page.get_by_role("button", name="Teach it this image").click()
    label = page.locator("#teach-groups input")
    expect(label).to_be_focused()
    expect(page.locator("#teach-submit")).to_be_disabled()
    label.fill(name)
    page.locator("#teach-submit").click()
    expect(page.locator("#tasks li").first).to_contain_text(name)
    expect(page.locator("#tasks .state.consolidated")).to_have_count(2, timeout=PATIENCE_MS)
    expect(page.locator("#ask-bars")).to_contain_text(name, timeout=PATIENCE_MS)
    assert page.title() == "HippoTune"
    assert page.locator("body script").count() == 0


def correct_to_moon(page: Page) -> None:
    page.get_by_label("Wrong? It is").fill("moon")
    page.get_by_role("button", name="Correct it").click()
    expect(page.locator("#correct-message")).to_contain_text("Noted as “moon”.")
    expect(page.locator("#tasks li").first).to_contain_text("moon")
    expect(page.locator("#tasks .state.consolidated")).to_have_count(3, timeout=PATIENCE_MS)


def forget(page: Page, name: str) -> None:
    page.get_by_role("button", name=f"Forget {name}").click()
    page.get_by_role("button", name=f"Forget it {name}").click()
    expect(page.locator("#tasks .state.forgotten")).to_have_count(1, timeout=PATIENCE_MS)
    expect(page.locator("#ask-bars")).not_to_contain_text(name, timeout=PATIENCE_MS)


def bring_back_and_forget_again(page: Page, name: str) -> None:
    """Going back to a version that knows a task brings it back, and the way to forget it with it."""
    last_that_knows_it = "Answer with version 6"
    page.get_by_role("button", name=last_that_knows_it, exact=True).click()
    expect(page.get_by_role("button", name=f"Forget {name}")).to_be_visible(timeout=PATIENCE_MS)
    forget(page, name)
    expect(page.get_by_role("button", name=f"Forget {name}")).to_have_count(0, timeout=PATIENCE_MS)


def roll_back(page: Page) -> None:
    page.get_by_role("button", name="Answer with version 1", exact=True).click()
    expect(page.locator("[aria-current] b")).to_have_text("v1", timeout=PATIENCE_MS)
    expect(page.locator("#ask-bars li")).to_have_count(2)


@pytest.mark.slow
def test_from_nothing_to_a_consolidated_version_and_back(
    chromium: Browser, school: Running, tmp_path: Path
) -> None:
    with opened(chromium, school.url) as (page, errors):
        teach_two_drawings(page, tmp_path / "sky")
        ask_about_a_sun(page)
        teach_what_was_asked(page, HOSTILE)
        correct_to_moon(page)
        forget(page, HOSTILE)
        bring_back_and_forget_again(page, HOSTILE)
        roll_back(page)
    assert errors == []


def test_what_is_handed_in_again_is_told(chromium: Browser, school: Running, tmp_path: Path) -> None:
    with opened(chromium, school.url) as (page, errors):
        teach_two_drawings(page, tmp_path / "sky")
        teach(page, tmp_path / "sky", "sky again")
        expect(page.locator("#tasks li").first).to_contain_text("16 of them not new", timeout=PATIENCE_MS)
        (tmp_path / "sky" / "sun").rename(tmp_path / "sky" / "star")
        teach(page, tmp_path / "sky", "star")
        expect(page.locator("#tasks li").first).to_contain_text(
            "8 with another label, too", timeout=PATIENCE_MS
        )
    assert errors == []


def test_a_dropped_folder_becomes_a_group_a_class(chromium: Browser, server: Running, tmp_path: Path) -> None:
    root = draw_folders(tmp_path / "classes", ("fish", "boat"), 3)
    (root / "fish" / "notes.txt").write_text("no image")
    with opened(chromium, server.url) as (page, errors):
        target = page.locator("#teach-drop")
        target.scroll_into_view_if_needed()
        drop(page, target, root)
        rows = page.locator("#teach-groups li")
        expect(rows).to_have_count(2)
        assert {row.locator("input").input_value() for row in rows.all()} == {"fish", "boat"}
        expect(page.locator("#teach-message")).to_have_text("1 file left out: no images.")
        expect(page.locator("#teach-submit")).to_have_text("Teach 6 images")
        page.get_by_role("button", name="Leave out fish").click()
        expect(page.locator("#teach-submit")).to_have_text("Teach 3 images")
    assert errors == []


def test_trying_again_after_an_error_sends_the_same_key(chromium: Browser, server: Running) -> None:
    with opened(chromium, server.url) as (page, _):
        image = {"name": "a.png", "mimeType": "image/png", "buffer": picture()}
        page.locator("#teach-images").set_input_files(image)
        page.locator("#teach-groups input").fill("cat")
        keys = []
        for _ in range(2):
            page.route("**/tasks", lambda route: route.fulfill(status=429, body='{"detail": "full"}'))
            with page.expect_request(lambda request: request.method == "POST") as sent:
                page.locator("#teach-submit").click()
            keys.append(sent.value.headers["idempotency-key"])
            expect(page.locator("#teach-message")).to_have_text("full")
        assert keys[0] == keys[1]


def test_what_is_added_while_a_task_is_sent_waits_for_the_next(
    chromium: Browser, config: ServiceConfig
) -> None:
    def choose(page: Page, label: str) -> None:
        image = {"name": f"{label}.png", "mimeType": "image/png", "buffer": picture()}
        page.locator("#teach-images").set_input_files(image)
        page.locator("#teach-groups li:last-child input").fill(label)

    with running(config) as server, opened(chromium, server.url) as (page, errors):
        held: list[Route] = []
        page.route("**/tasks", lambda route: held.append(route))
        choose(page, "cat")
        with page.expect_request(lambda request: request.method == "POST"):
            page.locator("#teach-submit").click()
        choose(page, "dog")
        expect(page.locator("#teach-submit")).to_be_disabled()
        held[0].continue_()
        expect(page.locator("#teach-message")).to_contain_text("is handed in and safe")
        expect(page.locator("#teach-submit")).to_have_text("Teach 1 image")
        expect(page.locator("#teach-groups input")).to_have_value("dog")
        page.unroute("**/tasks")
        page.locator("#teach-submit").click()
        expect(page.locator("#tasks li")).to_have_count(2)
        assert [task["labels"] for task in server.client.get("/tasks").json()["tasks"]] == [["dog"], ["cat"]]
    assert errors == []


def test_the_keyboard_stays_with_a_task_whose_buttons_change(
    chromium: Browser, config: ServiceConfig
) -> None:
    with running(config) as server, opened(chromium, server.url) as (page, errors):
        for name in ("first", "second"):
            submitted = server.queue.submit(name, [Sample(server.services.blobs.put(picture()), "cat")])
            server.queue.update(submitted.task.id, TaskChange(state=TaskState.CONSOLIDATED))
        page.get_by_role("button", name="Forget first").press("Enter")
        expect(page.get_by_role("button", name="Keep it first")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Forget first")).to_be_focused()
        expect(page.get_by_role("button", name="Forget second")).to_be_visible()
    assert errors == []


def test_a_failed_task_says_why_and_a_queued_one_can_be_cancelled(chromium: Browser, server: Running) -> None:
    blob = server.services.blobs.put(picture())
    server.queue.submit("broken", [Sample(blob, "cat")])
    claim = take(server.queue)
    assert claim is not None
    server.queue.fail(claim, "could not read <b>it</b>")
    server.queue.submit("waiting", [Sample(blob, "dog")])
    with opened(chromium, server.url) as (page, errors):
        failed = page.locator("#tasks li").filter(has_text="broken")
        expect(failed.locator(".state")).to_have_text("failed")
        expect(failed.locator(".error")).to_have_text("could not read <b>it</b>")
        waiting = page.locator("#tasks li").filter(has_text="waiting")
        page.get_by_role("button", name="Dead letters 1").click()
        expect(waiting).to_have_count(0)
        expect(failed).to_have_count(1)
        page.get_by_role("button", name="All 2").click()
        failed.get_by_role("button", name="Try again").click()
        expect(failed.locator(".state")).to_have_text("queued")
        waiting.get_by_role("button", name="Cancel").click()
        expect(waiting.locator(".state")).to_have_text("cancelled")
    assert errors == []


def test_a_stream_of_a_task_that_has_ended_is_not_opened_again_and_again(server: Running, page: Page) -> None:
    task = server.queue.submit("pets", [Sample(server.services.blobs.put(picture()), "cat")]).task.id
    server.queue.remove(task)
    follow = """async id => {
        const states = [];
        const stream = (await import("./web/js/api.js")).follow(id, task => states.push(task.state));
        while (!stream.closed) await new Promise(resume => setTimeout(resume, 50));
        return states;
    }"""
    assert page.evaluate(follow, task) == ["queued", "cancelled"]
