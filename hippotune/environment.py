"""Variables of the environment that look like settings and are none: mostly slips of the pen, which nobody reads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from hippotune.setting_types import PREFIX
from hippotune.settings import Settings

OTHERS = frozenset({"IMAGE", "TAG"})
"""Read by docker-compose.yml; `set -a; . ./.env` hands them to every command."""
SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT)(_|$)|_PORT_\d+_(TCP|UDP)(_|$)")
"""What Kubernetes and Docker add of a service whose name begins with ours."""
LINKED = ("tcp://", "udp://")
"""What their HIPPOTUNE_..._PORT holds."""


def slips(environment: Mapping[str, str]) -> Iterator[str]:
    """What to say about each HIPPOTUNE_ variable that no command reads, with the name that comes nearest."""
    known = {name.upper() for name in Settings.model_fields}
    for variable, value in sorted(environment.items()):
        name = variable.upper().removeprefix(PREFIX)
        ours = variable.upper().startswith(PREFIX) and name not in known | OTHERS
        if not ours or SERVICE_LINK.search(name) or value.startswith(LINKED):
            continue
        nearest = get_close_matches(name, known, n=1)
        meant = f"; is {PREFIX}{nearest[0]} meant?" if nearest else ""
        yield f"{variable} is no setting and changes nothing{meant}"
