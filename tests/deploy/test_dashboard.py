"""Grafana finds its data and its dashboard, and every panel has its place."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import yaml

from tests.deploy.conftest import ROOT
from tests.deploy.queries import dashboard

PROVISIONING = ROOT / "deploy/grafana/provisioning"


def test_every_panel_asks_the_provisioned_source() -> None:
    (source,) = yaml.safe_load((PROVISIONING / "datasources/prometheus.yml").read_text())["datasources"]
    wanted = {"type": source["type"], "uid": source["uid"]}
    for panel in dashboard()["panels"]:
        if panel["type"] != "row":
            assert panel["datasource"] == wanted, panel["title"]
            assert panel["targets"], panel["title"]
            assert all(target["datasource"] == wanted for target in panel["targets"]), panel["title"]


def test_panels_do_not_cover_each_other() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24, panel["title"]
    for one, other in combinations(panels, 2):
        assert apart(one["gridPos"], other["gridPos"]), (one["title"], other["title"])


def apart(one: dict[str, int], other: dict[str, int]) -> bool:
    return any(
        a[axis] + a[size] <= b[axis]
        for axis, size in (("x", "w"), ("y", "h"))
        for a, b in ((one, other), (other, one))
    )


def test_grafana_is_told_where_it_lies(services: dict[str, dict[str, Any]]) -> None:
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards/hippotune.yml").read_text())["providers"]
    folder = provider["options"]["path"]
    volumes = services["grafana"]["volumes"]
    assert f"./deploy/grafana/dashboards:{folder}:ro" in volumes
    assert "./deploy/grafana/provisioning:/etc/grafana/provisioning:ro" in volumes
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{folder}/hippotune.json"


def test_prometheus_is_told_its_rules(services: dict[str, dict[str, Any]]) -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    for file in config["rule_files"]:
        assert (ROOT / "deploy/prometheus" / file).is_file()
    assert "./deploy/prometheus:/etc/prometheus:ro" in services["prometheus"]["volumes"]
    assert "--config.file=/etc/prometheus/prometheus.yml" in services["prometheus"]["command"]
