"""What MkDocs is told beyond mkdocs.yml: files to include, equations as MathML, measured pages in the navigation."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

EQUATION = re.compile(r'<(span|div) class="arithmatex">\\([\[(])(.*?)\\[\])]</\1>', re.DOTALL)
"""What pymdownx.arithmatex leaves of $...$ and $$...$$."""

INCLUDED = re.compile(r'^--8<-- "(.+)"$', re.MULTILINE)
"""A file of the repository that is a page here, too."""


def on_config(config: Any) -> Any:
    """Pages that benchmarks write, and others that no entry of the navigation names, come before the reference."""
    docs = Path(config["docs_dir"])
    named = set(re.findall(r"'([\w/-]+\.md)'", str(config["nav"])))
    measured = sorted(path.relative_to(docs).as_posix() for path in docs.glob("measured/*.md"))
    others = sorted(path.name for path in docs.glob("*.md") if path.name not in named)
    place = next(i for i, entry in enumerate(config["nav"]) if "HTTP reference" in entry)
    config["nav"][place:place] = [*others, *([{"Measured": measured}] if measured else [])]
    return config


def on_page_markdown(markdown: str, config: Any, **_: Any) -> str:
    """A file from elsewhere links to these pages by their folder."""
    root = Path(config["config_file_path"]).parent
    return INCLUDED.sub(
        lambda found: re.sub(r"\]\((\.\./)?docs/", "](", (root / found[1]).read_text()), markdown
    )


def on_page_content(content: str, **_: Any) -> str:
    """Equations need no script and no network: browsers draw MathML themselves."""
    return EQUATION.sub(
        lambda found: convert(html.unescape(found[3]), display="block" if found[1] == "div" else "inline"),
        content,
    )
