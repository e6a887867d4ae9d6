"""Headers that several routes take."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern="^[!-~]+$",
        description="Makes trying again safe: the same key and request give the same task; a new one "
        "once that was cancelled or is to be forgotten.",
    ),
]
KnownAnswer = Annotated[
    str | None, Header(description="The `ETag` of the answer that is known: 304 if it still is.")
]
