"""Parts of a page that a program writes: between `<!-- KIND: NAME -->` and `<!-- end -->`."""

from __future__ import annotations

import re
from collections.abc import Mapping

REGION = re.compile(r"(<!-- (\w+): ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def filled(text: str, kind: str, bodies: Mapping[str, str]) -> str:
    """Text with each region `<!-- kind: name -->` holding the body of that name. Raises KeyError for unknown ones."""

    def fill(found: re.Match[str]) -> str:
        opening, its_kind, name, _, closing = found.groups()
        return found[0] if its_kind != kind else f"{opening}\n{bodies[name]}\n\n{closing}"

    return REGION.sub(fill, text)
