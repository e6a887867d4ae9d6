"""A real browser: Debian's Chromium under Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

PATIENCE_MS = 20_000
"""For what a page is expected to show, on a machine that has other work."""

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def find_chromium() -> str | None:
    return shutil.which("chromium")


@contextmanager
def browser() -> Iterator[Browser]:
    """Raises playwright's Error when Chromium cannot be started."""
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        yield started
        started.close()


@contextmanager
def opened(started: Browser, url: str, **context: Any) -> Iterator[tuple[Page, list[str]]]:
    """The page, and what its console said that was an error."""
    errors: list[str] = []
    window = started.new_context(**{"viewport": {"width": 1280, "height": 900}, **context})
    page = window.new_page()
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    yield page, errors
    window.close()


def teach(page: Page, folder: Path, name: str) -> None:
    """Choose a folder of classes and hand it in."""
    page.locator("#teach-folder").set_input_files(folder)
    page.get_by_label("Task name").fill(name)
    page.locator("#teach-submit").click()
