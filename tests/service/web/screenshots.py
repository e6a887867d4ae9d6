"""The pictures of the page in docs/images: `python -m tests.service.web.screenshots URL DIRECTORY`.

A server that knows nothing yet is taught drawings first.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

from tests.service.web.chromium import browser, opened, teach
from tests.service.web.drawings import both, draw_folders

LESSONS = {
    "sky": ("sun", "moon"),
    "garden": ("flower", "leaf", "mushroom"),
    "coast": ("fish", "house", "boat"),
}
EACH = 40
PATIENCE_MS = 240_000
DESK = {"viewport": {"width": 1180, "height": 1290}}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 1.5, "has_touch": True}
LOOKS = {
    "page": (DESK, "#ask"),
    "page-dark": ({**DESK, "color_scheme": "dark"}, "#history"),
    "page-phone": (PHONE, "#memory"),
}


def main(url: str, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, browser() as chromium:
        with opened(chromium, url) as (page, _):
            expect(page.locator("#status")).not_to_have_text("Connecting…")
            if page.locator("#status").inner_text() == "nothing learned yet":
                educate(page, Path(scratch))
        for name, (look, part) in LOOKS.items():
            with opened(chromium, url, **look) as (page, _):
                ask(page)
                page.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
                page.evaluate(f"document.querySelector('{part}').scrollIntoView()")
                slim(page.screenshot(), directory / f"{name}.png")


def slim(png: bytes, path: Path) -> None:
    """The page has few colours: a palette halves the file and nobody sees it."""
    Image.open(io.BytesIO(png)).convert("RGB").quantize(
        256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
    ).save(path, optimize=True)


def educate(page: Page, scratch: Path) -> None:
    for learned, (name, kinds) in enumerate(LESSONS.items(), start=1):
        teach(page, draw_folders(scratch / name, kinds, EACH), name)
        done = page.locator("#tasks .state.consolidated")
        expect(done).to_have_count(learned, timeout=PATIENCE_MS)


def ask(page: Page) -> None:
    page.locator("#ask-file").set_input_files(
        {"name": "forest.png", "mimeType": "image/png", "buffer": both("mushroom", "house")}
    )
    expect(page.locator("#recall figure")).to_have_count(2, timeout=PATIENCE_MS)
    page.get_by_role("button", name="Layer 3 up close").click()
    page.locator("#speed").scroll_into_view_if_needed()
    page.get_by_role("button", name="Ask 100 times").click()
    expect(page.get_by_role("button", name="Ask 100 times")).to_be_enabled(timeout=PATIENCE_MS)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
