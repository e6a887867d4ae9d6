"""The pictures of the page in docs/images: `python -m tests.service.web.screenshots URL DIRECTORY`.

Of a server that `make demo` has taught digits; one that knows nothing yet is taught them through the page first. Asked
about is the held-out digit that it is least sure of among those it tells rightly and finds familiar.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

from hippotune.client import Client
from hippotune.demo.data import DemoTask, Limits, digits
from tests.service.web.chromium import browser, opened, teach

PATIENCE_MS = 240_000
USUAL = 0.05
"""Familiarity of what nobody would take for unknown."""
DESK = {"viewport": {"width": 1180, "height": 1290}}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 1.5, "has_touch": True}
LOOKS = {
    "page": (DESK, "#ask"),
    "page-dark": ({**DESK, "color_scheme": "dark"}, "#history"),
    "page-phone": (PHONE, "#memory"),
}


def main(url: str, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    tasks = digits(Limits(tasks=5))
    with tempfile.TemporaryDirectory() as scratch, browser() as chromium:
        with opened(chromium, url) as (page, _):
            expect(page.locator("#status")).not_to_have_text("Connecting…")
            if page.locator("#status").inner_text() == "nothing learned yet":
                educate(page, tasks, Path(scratch))
        image = hardest(url, tasks)
        for name, (look, part) in LOOKS.items():
            with opened(chromium, url, **look) as (page, _):
                ask(page, image)
                page.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
                page.evaluate(f"document.querySelector('{part}').scrollIntoView()")
                slim(page.screenshot(), directory / f"{name}.png")


def slim(png: bytes, path: Path) -> None:
    """The page has few colours: a palette halves the file and nobody sees it."""
    Image.open(io.BytesIO(png)).convert("RGB").quantize(
        256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
    ).save(path, optimize=True)


def educate(page: Page, tasks: list[DemoTask], scratch: Path) -> None:
    for learned, task in enumerate(tasks, start=1):
        for number, example in enumerate(task.train):
            path = scratch / task.name / example.label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(example.image)
        teach(page, scratch / task.name, task.name)
        done = page.locator("#tasks .state.consolidated")
        expect(done).to_have_count(learned, timeout=PATIENCE_MS)


def hardest(url: str, tasks: list[DemoTask]) -> bytes:
    """The held-out digit it is least sure of and still right about, of those that look usual to it."""
    with Client(url) as client:
        examples = [example for task in tasks for example in task.test]
        answers = [client.classify(example.image) for example in examples]
    right = [
        (answer.predictions[0].score, example.image)
        for answer, example in zip(answers, examples, strict=True)
        if answer.label == example.label and (answer.familiarity or 0) >= USUAL
    ]
    return min(right)[1]


def ask(page: Page, image: bytes) -> None:
    page.locator("#ask-file").set_input_files({"name": "digit.png", "mimeType": "image/png", "buffer": image})
    expect(page.locator("#recall figure")).to_have_count(2, timeout=PATIENCE_MS)
    page.get_by_role("button", name="Layer 3 up close").click()
    page.locator("#speed").scroll_into_view_if_needed()
    page.get_by_role("button", name="Ask 100 times").click()
    expect(page.get_by_role("button", name="Ask 100 times")).to_be_enabled(timeout=PATIENCE_MS)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
