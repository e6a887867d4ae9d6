"""Whom the alerts about requests speak of."""

from __future__ import annotations

import numpy as np
import pytest

from service.app import create_app
from service.config import ServiceConfig
from service.metrics import Metrics
from tests.deploy.queries import Selector, alerts, dashboard, selectors

NOT_ASKED_BY_CALLERS = (
    "/",
    "/docs",
    "/healthz",
    "/metrics",
    "/readyz",
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
)


def watched(name: str) -> tuple[Selector, Selector]:
    """What an alert counts, and of what it is a share."""
    (text,) = [rule["expr"] for rule in alerts() if rule["alert"] == name]
    counted, whole = selectors(text)
    return counted, whole


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Those that callers use."""
    paths = create_app(ServiceConfig("redis://127.0.0.1:1", tmp_path_factory.mktemp("store"))).openapi()[
        "paths"
    ]
    return set(paths) - set(NOT_ASKED_BY_CALLERS)


def test_errors_are_the_servers_own(routes: set[str]) -> None:
    failed, asked = watched("HippoTuneErrors")
    for route in routes:
        assert all(asked.takes(route=route, code=code) for code in ("200", "400", "500", "504")), route
        taken = [code for code in ("200", "400", "500", "503", "504") if failed.takes(route=route, code=code)]
        assert taken == ["500", "503"], "a caller may set a deadline that cannot be met"
    for route in (*NOT_ASKED_BY_CALLERS, "unmatched"):
        assert not asked.takes(route=route, code="200"), route
        assert not failed.takes(route=route, code="503"), route


def test_missed_deadlines_are_told_apart() -> None:
    missed, asked = watched("HippoTuneDeadlines")
    assert asked == watched("HippoTuneErrors")[1]
    assert [code for code in ("500", "503", "504") if missed.takes(route="/classify", code=code)] == ["504"]


def test_the_dashboard_shows_the_share_that_the_alert_watches() -> None:
    (panel,) = [panel for panel in dashboard()["panels"] if panel["title"] == "Failing requests"]
    (target,) = panel["targets"]
    assert tuple(selectors(target["expr"])) == watched("HippoTuneErrors")


def test_strange_images_are_seen_however_often_the_version_changes() -> None:
    metrics = Metrics()
    for version in range(1, 4):
        metrics.served(version)
        metrics.version_answered(version, np.ones(5, np.float32), np.zeros(5, np.float32), 0.1)
    metrics.served(4)
    strange, all_of_them = watched("HippoTuneUnfamiliarImages")
    read = metrics.registry.get_sample_value
    assert read(strange.name, strange.equal) == read(all_of_them.name) == 15


def test_the_dashboard_shows_the_strange_images_that_the_alert_watches() -> None:
    (panel,) = [panel for panel in dashboard()["panels"] if panel["title"].startswith("Images like none")]
    shown = [tuple(selectors(target["expr"])) for target in panel["targets"]]
    assert watched("HippoTuneUnfamiliarImages") in shown
