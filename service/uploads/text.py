"""Labels and names as people write them: what is taken, and how it is kept."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from service.http.problems import refused

MAX_LABEL = 200
TURNING = r"\u202a-\u202e\u2066-\u2069"
"""Marks that turn the order in which text is read: two labels would look the same."""
UNPRINTABLE = rf"\x00-\x1f\x7f-\x9f\u2028\u2029{TURNING}"
INVISIBLE = r"\xad\u061c\u180e\u200b-\u200f\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb"
"""Those of Unicode's category Cf that scripts and emoji of today use."""
PRINTABLE = rf"^[^{UNPRINTABLE}]*[^\s{UNPRINTABLE}{INVISIBLE}][^{UNPRINTABLE}]*$"
SCHEMA: dict[str, Any] = {"minLength": 1, "maxLength": MAX_LABEL, "pattern": PRINTABLE}
"""What `check_text` takes, for the API document; it trims and normalises besides."""
BYTE_ORDER_MARK = "\ufeff"  # spreadsheets put it before the first cell
TEXT = f"have 1 to {MAX_LABEL} printable characters"


def check_text(field: str, text: str) -> str:
    """A label or name as people write them: normalised (NFC), trimmed. Raises Problem.

    Characters that nobody sees (Cf) may stand among others, where scripts and emoji need them, but are no label; nor
    may they turn the order in which it is read.
    """
    clean = unicodedata.normalize("NFC", text.removeprefix(BYTE_ORDER_MARK)).strip()
    kinds = {unicodedata.category(char) for char in clean}
    unfit = kinds & {"Cc", "Zl", "Zp"} or re.search(f"[{TURNING}]", clean)
    if "Cs" in kinds:  # bytes of an archive's names that are none
        raise refused(field, text, "be in UTF-8")
    if unfit or kinds <= {"Cf", "Zs"} or len(clean) > MAX_LABEL:
        raise refused(field, text, TEXT)
    return clean
