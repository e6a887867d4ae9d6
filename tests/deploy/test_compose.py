"""docker-compose.yml against the Compose schema, the settings of the program and the files it mounts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from hippotune.setting_types import Part
from hippotune.settings import Settings
from service.server import DRAIN_S
from tests.deploy.conftest import ROOT, VARIABLE, example_values, interpolate
from tests.hippotune.conftest import clean_environment

TEXT = (ROOT / "docker-compose.yml").read_text()
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
OURS = ("server", "trainer", "server-gpu", "trainer-gpu")
PARTS = {"serve": Part.SERVER, "train": Part.TRAINER}

Service = dict[str, Any]
Services = dict[str, Service]


def test_it_is_what_compose_reads(compose: dict[str, Any], tmp_path: Path) -> None:
    """Against the schema of the Compose specification, as written and as interpolated."""
    interpolated = tmp_path / "docker-compose.yml"
    interpolated.write_text(yaml.safe_dump(compose))
    for file in (ROOT / "docker-compose.yml", interpolated):
        result = subprocess.run(
            [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", file],
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stdout + result.stderr


def test_the_example_names_every_variable_and_its_default() -> None:
    defaults = {m["name"]: m["rest"] for m in VARIABLE.finditer(TEXT) if m["kind"] == "-"}
    needed = {m["name"] for m in VARIABLE.finditer(TEXT) if m["kind"] == "?"}
    example = example_values()
    assert set(example) == {*defaults, *needed, "COMPOSE_PROFILES"}
    assert {name: example[name] for name in defaults} == defaults
    assert {example[name] for name in needed} == {""}, "a password is chosen, not copied"
    assert example["COMPOSE_PROFILES"] == "cpu"


def test_no_server_starts_without_keys(services: Services, tmp_path: Path) -> None:
    """As the example is, the program itself says no."""
    for name in ("server", "server-gpu"):
        environment = {key: str(value) for key, value in services[name]["environment"].items()}
        assert (environment["HIPPOTUNE_API_KEYS"], environment["HIPPOTUNE_INSECURE"]) == ("", "false")
        result = subprocess.run(
            [sys.executable, "-m", "hippotune", *services[name]["command"]],
            env=clean_environment() | environment | {"HIPPOTUNE_STORE": str(tmp_path), "HIPPOTUNE_PORT": "0"},
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 2
        assert "needs API keys" in " ".join(result.stderr.split())


def test_nothing_starts_without_a_password() -> None:
    with pytest.raises(KeyError, match="GRAFANA_PASSWORD"):
        interpolate(TEXT, example_values())


def test_every_container_is_hardened(services: Services) -> None:
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert not service["user"].startswith("0"), name
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}, name
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"], name
        assert "privileged" not in service, name


def test_only_this_machine_reaches_the_ports(services: Services, compose: dict[str, Any]) -> None:
    for name, service in services.items():
        for port in service.get("ports", []):
            assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port), name
    assert compose["networks"]["backend"]["internal"]
    assert services["redis"]["networks"] == ["backend"]
    assert "ports" not in services["redis"]
    assert [name for name, service in services.items() if "backend" in service["networks"]] == [
        "redis",
        *OURS,
    ]


def test_a_service_runs_in_one_profile(services: Services) -> None:
    profiles = {name: service.get("profiles") for name, service in services.items() if name in OURS}
    assert profiles == {n: ["gpu"] if n.endswith("-gpu") else ["cpu"] for n in OURS}
    for name in ("server-gpu", "trainer-gpu"):
        (device,) = services[name]["deploy"]["resources"]["reservations"]["devices"]
        assert (device["driver"], device["capabilities"][0]) == ("nvidia", "gpu")
        cpu = services[name.removesuffix("-gpu")]
        assert services[name]["deploy"]["resources"]["limits"] == cpu["deploy"]["resources"]["limits"]
        assert services[name]["environment"] == cpu["environment"] | {"HIPPOTUNE_DEVICE": "cuda"}


@pytest.mark.parametrize("name", OURS)
def test_its_settings_are_settings(services: Services, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable is one that this command reads, and its value is taken as it stands; an empty one is none."""
    service = services[name]
    (command,) = service["command"]
    environment = {key: str(value) for key, value in service["environment"].items()}
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    settings = Settings()
    for key, value in environment.items():
        field = key.removeprefix("HIPPOTUNE_").lower()
        read = getattr(settings, field)
        assert ("" if read is None else str(read)).lower() == value.lower(), key
        assert {Part.COMMON, PARTS[command]} & set(Settings.model_fields[field].metadata), key
    limits = service["deploy"]["resources"]["limits"]
    assert settings.threads == int(limits["cpus"]), "as many threads as the container has CPUs"


def test_the_parts_agree(services: Services) -> None:
    """On what trainer and server share."""
    for server, trainer in (OURS[:2], OURS[2:]):
        ours, theirs = services[server], services[trainer]
        for key in ("REDIS_URL", "HIPPOTUNE_STORE", "HIPPOTUNE_BACKBONE"):
            assert ours["environment"][key] == theirs["environment"][key]
        assert ours["user"] == theirs["user"]
        assert ours["image"] == theirs["image"]
        assert ours["env_file"] == theirs["env_file"]
        assert {"store:/store", "models:/models"} <= {*ours["volumes"]} & {*theirs["volumes"]}


def test_ports_and_names_agree(services: Services) -> None:
    """Between what listens, what is published, what is asked for health and what Prometheus and Grafana ask."""
    server = services["server"]
    port = server["environment"]["HIPPOTUNE_PORT"]
    assert server["environment"]["HIPPOTUNE_HOST"] == "0.0.0.0"  # of its container
    assert f"EXPOSE {port}\n" in DOCKERFILE
    assert server["ports"][0].endswith(f":{port}")
    assert f"http://127.0.0.1:{port}/readyz" in server["healthcheck"]["test"][-1]
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in prometheus["scrape_configs"]}
    (found,) = jobs["hippotune"]["dns_sd_configs"]
    assert (found["names"], str(found["port"])) == (["server"], port)
    for name in ("server", "server-gpu"):
        assert services[name]["networks"]["edge"]["aliases"] == ["server"]
    own = services["prometheus"]["ports"][0].rpartition(":")[2]
    assert jobs["prometheus"]["static_configs"] == [{"targets": [f"localhost:{own}"]}]
    datasource = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())
    assert datasource["datasources"][0]["url"] == f"http://prometheus:{own}"
    assert (
        services["grafana"]["ports"][0].rpartition(":")[2] in services["grafana"]["healthcheck"]["test"][-1]
    )


def test_stopping_takes_longer_than_draining(services: Services) -> None:
    for name in ("server", "server-gpu"):
        assert int(services[name]["stop_grace_period"].removesuffix("s")) >= DRAIN_S + 10


def test_what_is_mounted_is_there(services: Services, compose: dict[str, Any]) -> None:
    mounts = [(n, v.split(":")) for n, service in services.items() for v in service.get("volumes", [])]
    for name, (source, target, *mode) in mounts:
        if source.startswith("./"):
            assert (ROOT / source).is_dir(), name
            assert mode == ["ro"], name
        else:
            assert source in compose["volumes"], name
        if name in OURS:
            assert f'"{target}"' in DOCKERFILE, name
    named = {source for _, (source, *_) in mounts if not source.startswith("./")}
    assert named == set(compose["volumes"])


def test_what_is_waited_for_exists(services: Services) -> None:
    for name, service in services.items():
        for other, condition in service.get("depends_on", {}).items():
            assert "profiles" not in services[other], name
            assert condition == {"condition": "service_healthy"}
