"""GET /versions: what answers, and every version there is to go back or forward to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from starlette.responses import Response

from exchange.manifests import Manifest
from model.merging import LEAST_KEEP
from service.api.records import BudgetView, CanaryView, RefusalView, VersionList, VersionView
from service.http.etags import answer_named, etag_of
from service.services import Services

NEW_LABELS = 10
"""Labels of a version that are listed as new."""


def answer(services: Services, labels: bool, release: str, if_none_match: str | None) -> Response:
    """The list as JSON; 304 where the client has it. Raises ExchangeUnavailable and VersionUnreadable.

    Pages ask for it every few seconds, and it may be megabytes: of thousands of labels in each of twenty versions. So
    all that decides it, down to which versions are listed, is looked at each time, and the rest only when that changed.
    labels: with all that each version knows.  release: of this server; a newer one may write more.
    """
    registry = services.registry_view
    listed = VersionList(
        current=registry.current(),
        serving=services.serving_version,
        canary=canary_view(services),
        runtime=services.runtime_name,
        budget=serving_budget(services),
        refused=[RefusalView(version=r.version, reason=r.reason) for r in services.watcher.refusals],
        versions=[],
    ).model_dump()
    manifests = registry.manifests()
    etag = etag_of(
        release, labels, listed, [(manifest.version, manifest.created_at) for manifest in manifests]
    )

    def body() -> bytes:
        return services.kept.body(("versions", labels), etag, lambda: written(listed, manifests, labels))

    return answer_named(etag, if_none_match, body)


def written(listed: dict[str, Any], manifests: Sequence[Manifest], labels: bool) -> bytes:
    """A `VersionList` as JSON. Of so many labels pydantic would make a copy each."""
    versions = [
        {
            **entry(manifest, predecessor(manifest, manifests)),
            **({} if labels else {"labels": []}),
            "current": manifest.version == listed["current"],
            "serving": manifest.version == listed["serving"],
        }
        for manifest in manifests
    ]
    return orjson.dumps({**listed, "versions": versions})


def entry(manifest: Manifest, before: Manifest | None) -> dict[str, Any]:
    """A `ListedVersion`, but for what the pointer decides."""
    known = set(before.labels) if before else set()
    new = [label for label in manifest.labels if label not in known]
    told = {name: getattr(manifest, name) for name in VersionView.model_fields if hasattr(manifest, name)}
    counts = {"label_count": len(manifest.labels), "new_label_count": len(new)}
    return {**told, **counts, "new_labels": new[:NEW_LABELS]}


def predecessor(manifest: Manifest, manifests: Sequence[Manifest]) -> Manifest | None:
    """Of manifests, newest first, the one to tell what is new in another."""
    older = [other for other in manifests if other.version < manifest.version]
    return next((other for other in older if other.version == manifest.parent), next(iter(older), None))


def canary_view(services: Services) -> CanaryView | None:
    canary, loaded = services.registry_view.canary(), services.served.canary
    if canary is None:
        return None
    answering = loaded is not None and loaded.snapshot.version == canary.version
    return CanaryView(version=canary.version, share=canary.share, answering=answering)


def serving_budget(services: Services) -> BudgetView | None:
    snapshot = services.served.snapshot
    if snapshot is None:
        return None
    default = snapshot.loop.budget
    return BudgetView(
        tmax=snapshot.loop.tmax,
        topk=snapshot.most_slots,
        default_tmax=default.tmax,
        default_epsilon=default.epsilon,
        default_topk=default.topk,
        default_keep=default.keep,
        least_keep=LEAST_KEEP,
    )
