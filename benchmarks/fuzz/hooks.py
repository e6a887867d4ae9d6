"""What schemathesis cannot make up: images. Loaded by it, not by us."""

from __future__ import annotations

import schemathesis
from hypothesis import strategies

from benchmarks.fuzz.parsers import image

KINDS = ("JPEG", "PNG", "WEBP")
WHOLE = {kind: image(kind, 24) for kind in KINDS}

for kind in KINDS:
    schemathesis.openapi.media_type(f"image/{kind.lower()}", strategies.just(WHOLE[kind]))
schemathesis.openapi.format("binary", strategies.sampled_from(list(WHOLE.values())))
