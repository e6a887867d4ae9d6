"""What a shell offers behind a command: asks the server, and offers nothing where none answers at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import typer

from hippotune.client import Client
from hippotune.errors import HippoTuneError
from hippotune.output import counted
from hippotune.settings import Settings

PATIENCE_S = 1.0

Offer = tuple[str, str]
"""What is typed, and what a shell with room for it says beside."""


def tasks(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """Ids of tasks."""
    return _asked(ctx, incomplete, lambda client: ((t.id, f"{t.name}, {t.state}") for t in client.tasks()))


def versions(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """Numbers of versions."""

    def offers(client: Client) -> Iterable[Offer]:
        for version in client.versions(labels=False):
            yield str(version.version), f"{version.kind}, {version.label_count} labels"

    return _asked(ctx, incomplete, offers)


def labels(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """Labels that the version which answers knows."""

    def offers(client: Client) -> Iterable[Offer]:
        for known in client.labels(incomplete):
            yield known.label, "" if known.images is None else counted(known.images, "image")

    return _asked(ctx, incomplete, offers)


def _asked(ctx: typer.Context, incomplete: str, offers: Callable[[Client], Iterable[Offer]]) -> list[Offer]:
    """The offers that begin with what was typed. `--url` and `--api-key` count if they were typed before."""
    typed = {name: ctx.params[name] for name in ("url", "api_key") if ctx.params.get(name)}
    try:
        settings = Settings(**typed)
        with Client(settings.url, api_key=settings.api_key, timeout=PATIENCE_S, retries=0) as client:
            return [offer for offer in offers(client) if offer[0].startswith(incomplete)]
    except (HippoTuneError, ValueError):  # a setting or a key that cannot be one is a ValueError
        return []
