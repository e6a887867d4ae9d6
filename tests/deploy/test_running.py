"""The commands, settings, ports and health checks of docker-compose.yml, run against the real program."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from http import HTTPStatus
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import promql_parser
import pytest
import yaml
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from exchange.records import TaskState
from service.app import create_app
from service.config import ServiceConfig
from service.http.problems import REASONS
from service.metrics import FAMILIARITIES, STAGES
from service.server import DRAIN_S
from tests.deploy.conftest import ROOT, Running
from tests.deploy.queries import alerts, expressions, selectors
from tests.service.support import picture, wait_for

pytestmark = pytest.mark.slow

FROM_PROMETHEUS = {"instance", "job"}
"""Labels that Prometheus adds to what it scrapes."""


@pytest.fixture(scope="module")
def exposed(running: Running) -> dict[str, set[str]]:
    """Label names by sample name, of a server that has learned, answered and refused."""
    with running.client as client:
        samples = [(picture(seed), label) for seed, label in enumerate(4 * ["red", "blue"])]
        learned = client.wait(client.submit(samples, "colours"))
        # What one version counted goes with it.
        wait_for(lambda: client.classify(picture(0)).version == learned.version)
        assert client.classify(picture(0)).label in ("red", "blue")
    address, key = running.stage.address, {"X-API-Key": running.stage.key}
    refused = httpx.post(f"{address}/classify", content=b"x", headers={"Content-Type": "text/plain"} | key)
    assert refused.status_code == 415
    assert httpx.post(f"{address}/classify", content=b"x").status_code == 401

    def scraped() -> str:
        return httpx.get(f"{address}{scrape_job()['metrics_path']}").text

    # An answer is counted once it has been sent.
    wait_for(lambda: "hippotune_version_familiarity_bucket" in scraped())
    families = text_string_to_metric_families(scraped())
    return {s.name: set(s.labels) for s in chain.from_iterable(family.samples for family in families)}


def scrape_job() -> dict[str, Any]:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    (job,) = (job for job in config["scrape_configs"] if job["job_name"] == "hippotune")
    return dict(job)


def test_health_checks_tell_the_difference(running: Running) -> None:
    assert running.health == {"trainer": False, "server": False}, "before they were started"
    assert running.stage.healthy("trainer")
    assert running.stage.healthy("server")


def test_redis_keeps_what_it_was_told(running: Running) -> None:
    with Redis(port=running.stage.redis_port, decode_responses=True) as redis:
        wanted = {"appendonly": "yes", "appendfsync": "always", "save": "", "maxmemory-policy": "noeviction"}
        assert {name: redis.config_get(name)[name] for name in wanted} == wanted
        assert int(redis.config_get("maxmemory")["maxmemory"]) == 256 * 2**20


def test_every_metric_asked_for_is_exposed(exposed: dict[str, set[str]]) -> None:
    """By the names and the labels that dashboards and alerts use."""
    asked = [(where, selector) for where, text in expressions() for selector in selectors(text)]
    assert len(asked) > 30
    for where, selector in asked:
        if selector.name == "up":
            continue
        assert selector.name in exposed, where
        assert selector.labels <= exposed[selector.name] | FROM_PROMETHEUS, where


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return create_app(ServiceConfig("redis://127.0.0.1:1", tmp_path_factory.mktemp("store")))


def test_every_value_asked_for_can_occur(app: FastAPI) -> None:
    possible = {
        "route": set(app.openapi()["paths"]),
        "state": {state.value for state in TaskState},
        "stage": set(STAGES),
        "reason": set(REASONS.values()),
        "job": {"hippotune", "prometheus"},
        "code": {str(int(status)) for status in HTTPStatus},
        "le": {str(bound) for bound in FAMILIARITIES},
    }
    for where, text in expressions():
        for selector in selectors(text):
            for label, value in selector.equal.items():
                assert value in possible[label], where


def test_every_metric_has_its_place(exposed: dict[str, set[str]]) -> None:
    """What the server measures of itself is on the dashboard or in an alert."""
    asked = {selector.name for _, text in expressions() for selector in selectors(text)}
    parts = ("_bucket", "_sum", "_count", "_created")
    ours = {name.removesuffix(part) for name in exposed for part in parts if name.endswith(part)}
    ours |= {name for name in exposed if not name.endswith(parts)}
    for name in ours:
        assert any(word == name or word.removesuffix("_total").startswith(name) for word in asked), name


def test_alerts_explain_themselves() -> None:
    for rule in alerts():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]
        assert promql_parser.parse(rule["expr"])


def test_they_stop_within_their_grace(running: Running, services: dict[str, Any], exposed: object) -> None:
    """In the order compose stops them; the last test of this file, for it takes the stage down."""
    assert seconds(services["server"]["stop_grace_period"]) > DRAIN_S + 10
    for service in ("server", "trainer", "redis"):
        process = running.processes[service]
        process.send_signal(signal.SIGTERM)
        assert process.wait(seconds(services[service]["stop_grace_period"])) == 0, log(running, service)
        if service != "redis":
            assert not running.stage.healthy(service)
    assert list(appended(running.stage.folder / "redis"))


def seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


def log(running: Running, service: str) -> str:
    return (running.stage.folder / f"{service}.log").read_text()


def appended(data: Path) -> Iterator[Path]:
    return (file for file in data.rglob("*.aof") if file.stat().st_size)
