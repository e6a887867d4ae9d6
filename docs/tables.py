"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable


def body(head: tuple[str, ...], rows: Iterable[list[str]]) -> str:
    """A Markdown table alone."""
    return "\n".join(table(head, [*rows])).rstrip()


def table(head: tuple[str, ...], rows: list[list[str]]) -> list[str]:
    """A Markdown table and an empty line, nothing without rows."""
    if not rows:
        return []
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row) + " |" for row in cells),
        "",
    ]
