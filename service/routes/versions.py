"""/versions: the history, what each version knows, and which one answers."""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Path, Query, Request, Response

from exchange.manifests import SERVING, BackboneRecord, Manifest
from exchange.registry import Registry
from service.api import examples, history
from service.api.records import VersionList, VersionView
from service.http.headers import KnownAnswer
from service.http.problems import Problem, documented
from service.http.query import only
from service.http.receive import refuse_body
from service.services import Services, TheServices

router = APIRouter(prefix="/versions", tags=["versions"])

Number = Annotated[int, Path(ge=1, le=2**53, description="A version's number.")]
Share = Annotated[
    float | None,
    Query(
        ge=0, le=1, allow_inf_nan=False, description="Share of requests, chosen by a hash of their images."
    ),
]
WithLabels = Annotated[
    bool,
    Query(description="With the `labels` of each version; else they are empty, and counted all the same."),
]


@router.get(
    "",
    dependencies=[Depends(only("labels"))],
    summary="All versions",
    response_model=VersionList,
    responses={
        **examples.answered("What answers, and the history.", examples.VERSIONS, headers=examples.ETAG),
        304: {"description": "It is what `If-None-Match` names."},
        **documented(422, 503),
    },
)
async def list_versions(
    request: Request, services: TheServices, labels: WithLabels = True, if_none_match: KnownAnswer = None
) -> Response:
    """Who asks again and again should name the answer they have, as browsers do by themselves.

    With thousands of labels the list has megabytes: leave them out with `labels=false`, and read those of one version
    at `/versions/{version}`.
    """
    release: str = request.app.version
    return await to_thread.run_sync(history.answer, services, labels, release, if_none_match)


@router.get(
    "/{version}",
    summary="One version",
    responses={
        **examples.answered("What it was learned on and what it knows.", examples.VERSION),
        **documented(404, 409, 422, 503),
    },
)
async def get_version(version: Number, services: TheServices) -> VersionView:
    return await to_thread.run_sync(look_up, services, version)


@router.post(
    "/{version}/activate",
    summary="Roll back or forward",
    responses={
        **examples.answered("The pointer moved, or the canary's share was set.", examples.VERSION),
        **documented(404, 408, 409, 413, 415, 422, 503),
    },
    dependencies=[Depends(only("canary"))],
)
async def activate_version(
    request: Request, version: Number, services: TheServices, canary: Share = None
) -> VersionView:
    """Moves the pointer; with `canary`, only lets the version answer a share of the requests beside the one served.

    Every server follows within moments and says so in `serving` and `canary`. A canary is promoted by activating it
    without a share, and ends with a share of 0: then the answer is 409 where another version is the canary.
    """
    await refuse_body(request, services.config.read_timeout_s)
    return await to_thread.run_sync(point_to, services, version, canary, limiter=services.patient)


def look_up(services: Services, version: int) -> VersionView:
    """Raises ExchangeUnavailable soon, and VersionError."""
    return shown(services, services.registry_view, services.manifest(version))


def shown(services: Services, registry: Registry, manifest: Manifest) -> VersionView:
    return VersionView.of(manifest, registry.current(), services.serving_version)


def point_to(services: Services, version: int, share: float | None) -> VersionView:
    """Move the pointer to a version that this server could serve, or let that answer a share of the requests.

    Raises Problem, NotCanary and VersionError.
    """
    if share == 0:
        return end_canary(services, version)
    require_fitting(services, services.registry.manifest(version))
    services.registry.shelf.verify(version, SERVING)
    if share is None:
        services.registry.activate(version)
    else:
        services.registry.set_canary(version, share)
    return shown(services, services.registry, services.manifest(version))


def end_canary(services: Services, version: int) -> VersionView:
    """Whatever became of its files: one that was loaded before answers without them.

    Raises NotCanary, VersionNotFound, and once it has ended VersionError, where nothing tells of it.
    """
    loaded = services.served.loaded(version)
    services.registry.set_canary(version, 0)
    return shown(services, services.registry, loaded.manifest if loaded else services.manifest(version))


def require_fitting(services: Services, manifest: Manifest) -> None:
    """Raise Problem 409 when a version was learned on another backbone."""
    here = BackboneRecord.of(services.runtime.identity)
    if here != manifest.backbone:
        told = f"version {manifest.version} was learned on {manifest.backbone}; this server runs {here}"
        raise Problem(409, told)
