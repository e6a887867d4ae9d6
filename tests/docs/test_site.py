"""The documentation builds without a warning, asks nobody for anything, and says what the program says."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Browser, expect

from docs.hooks import on_config
from docs.reference import pages
from service.metrics import Metrics
from tests.service.web.chromium import opened

ROOT = Path(__file__).parents[2]
PATIENCE_MS = 20_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built pages; `strict` makes every warning an error."""
    place = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(place)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return place


class Loaded(HTMLParser):
    """What a browser fetches by itself for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if tag == "link" and told.get("rel") in ("canonical", "prev", "next"):
            return
        address = told.get("href" if tag == "link" else "src")
        if address and tag != "a":
            self.addresses.append(address)


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for path in [*site.rglob("*.html")]:
        loaded = Loaded()
        loaded.feed(path.read_text())
        assert loaded.addresses
        assert [each for each in loaded.addresses if re.match(r"(https?:)?//", each)] == []
    for path in site.rglob("*.css"):
        assert re.findall(r"url\(['\"]?(?:https?:)?//", path.read_text()) == []


@pytest.fixture
def served(site: Path) -> Iterator[str]:
    handler = partial(SimpleHTTPRequestHandler, directory=site)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/index.html"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("place", ["disk", "server"])
def test_the_search_needs_no_network(
    chromium: Browser, site: Path, place: str, request: pytest.FixtureRequest
) -> None:
    url = (site / "index.html").as_uri() if place == "disk" else request.getfixturevalue("served")
    with opened(chromium, url) as (page, errors):
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.keyboard.press("/")
        if place == "disk":  # the frame that stands for a worker answers once it has read its script
            page.wait_for_function("Boolean(document.querySelector('iframe')?.contentWindow.lunr)")
        page.keyboard.type("epsilon", delay=20)
        first = page.locator(".md-search-result__item a").first
        expect(first).to_have_attribute("href", re.compile(r"budgets\.html"), timeout=PATIENCE_MS)
        first.click()
        expect(page.locator("h1")).to_contain_text("Budgets")
        assert all(each.startswith(url.removesuffix("index.html")) for each in asked)
        assert errors == []


def test_equations_are_drawn_by_the_browser(site: Path) -> None:
    text = (site / "how-it-works.html").read_text()
    assert text.count("<math ") > 10
    assert "arithmatex" not in text
    assert "$$" not in text


def test_every_page_can_be_found(site: Path) -> None:
    home = (site / "index.html").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        address = page.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
        assert (site / address).exists()
        assert f'href="{address}"' in home, address


@pytest.mark.parametrize("written", [(), ("measured/continual.md", "measured/serving.md")])
def test_measured_pages_are_in_the_navigation_once_written(written: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "measured").mkdir()
    for name in written:
        (tmp_path / name).write_text("# Measured")
    found = on_config({"docs_dir": str(tmp_path), "nav": [{"HTTP reference": "api.md"}]})["nav"]
    assert found == [*([{"Measured": list(written)}] if written else []), {"HTTP reference": "api.md"}]


@pytest.mark.parametrize("name", [path.relative_to(ROOT).as_posix() for path, _ in pages()])
def test_what_the_program_knows_is_current(name: str) -> None:
    (text,) = [text for path, text in pages() if path == ROOT / name]
    assert (ROOT / name).read_text() == text, "run python -m docs.reference"


def test_what_is_defended_names_tests_that_exist() -> None:
    named = re.findall(r"`(\S*test_\S*)`", (ROOT / "docs" / "threat-model.md").read_text())
    assert named
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_every_metric_that_is_exposed_is_explained() -> None:
    text = (ROOT / "docs/operating.md").read_text()
    exposed = {metric.name for metric in Metrics().registry.collect()}
    told = {
        name.removesuffix("_total") for name in re.findall(r"^\| `(hippotune_\w+)` \|", text, re.MULTILINE)
    }
    assert told == exposed


@pytest.mark.parametrize("path", sorted((ROOT / "docs/pictures").glob("*.svg")), ids=lambda path: path.stem)
def test_pictures_have_words_and_a_dark_side(path: Path) -> None:
    drawing = ElementTree.parse(path).getroot()
    words = [child.text for child in drawing if child.tag.endswith(("title", "desc"))]
    assert len(words) == 2
    assert all(words)
    assert "prefers-color-scheme: dark" in path.read_text()
    assert path.name in (ROOT / "docs/how-it-works.md").read_text() + (ROOT / "docs/budgets.md").read_text()


def test_screenshots_are_small() -> None:
    for path in (ROOT / "docs/images").iterdir():
        assert path.stat().st_size < 150_000, path.name
