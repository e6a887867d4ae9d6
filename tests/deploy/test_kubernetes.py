"""deploy/kubernetes against docker-compose.yml, the settings of the program and the paths that it answers."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from hippotune.setting_types import Part
from hippotune.settings import Settings
from service.http.guard import OPEN
from service.routes.operations import router
from service.server import DRAIN_S
from tests.deploy.conftest import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
OBJECTS: list[dict[str, Any]] = [
    thing for file in KUSTOMIZATION["resources"] for thing in yaml.safe_load_all((FOLDER / file).read_text())
]
WORKLOADS = {
    thing["metadata"]["name"].removeprefix("hippotune-"): thing
    for thing in OBJECTS
    if "template" in thing["spec"]
}
PODS = {name: thing["spec"]["template"]["spec"] for name, thing in WORKLOADS.items()}
CONTAINERS = {name: pod["containers"][0] for name, pod in PODS.items()}
(GENERATED,) = KUSTOMIZATION["configMapGenerator"]
SHARED = dict(line.split("=", 1) for line in GENERATED["literals"])
OURS = {"server": Part.SERVER, "trainer": Part.TRAINER}

Services = dict[str, dict[str, Any]]


def named(kind: str) -> dict[str, dict[str, Any]]:
    """The objects of a kind by their names."""
    return {thing["metadata"]["name"]: thing for thing in OBJECTS if thing["kind"] == kind}


def variables(name: str) -> dict[str, str | None]:
    """What a container's environment sets; None for what the cluster fills in."""
    own = {entry["name"]: entry.get("value") for entry in CONTAINERS[name]["env"]}
    assert CONTAINERS[name]["envFrom"] == [{"configMapRef": {"name": GENERATED["name"]}}]
    return SHARED | own


def test_every_file_is_applied() -> None:
    assert {file.name for file in FOLDER.iterdir()} == {"kustomization.yaml", *KUSTOMIZATION["resources"]}
    assert set(WORKLOADS) == {"redis", *OURS}
    assert all("namespace" not in thing["metadata"] for thing in OBJECTS), "it is the caller's to choose"


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_container_is_that_of_compose(services: Services, name: str) -> None:
    theirs, ours, pod = services[name], CONTAINERS[name], PODS[name]
    (built,) = KUSTOMIZATION["images"]
    image = f"{built['newName']}:{built['newTag']}" if ours["image"] == built["name"] else ours["image"]
    assert image == theirs["image"]
    assert ours["args"] == theirs["command"]
    assert f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" == theirs["user"]
    assert pod["terminationGracePeriodSeconds"] == int(theirs["stop_grace_period"].removesuffix("s"))
    limits = theirs["deploy"]["resources"]["limits"]
    assert ours["resources"]["limits"] == {"cpu": limits["cpus"], "memory": f"{limits['memory'].upper()}i"}
    places = [entry.split(":")[-1] for entry in theirs["volumes"]]
    places += [entry.partition(":")[0] for entry in theirs["tmpfs"]]
    assert sorted(mount["mountPath"] for mount in ours["volumeMounts"]) == sorted(places)


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_pod_is_hardened(name: str) -> None:
    """As the Pod Security Standard `restricted` has it, and with a root file system that is read-only."""
    pod, container = PODS[name], CONTAINERS[name]
    assert len(pod["containers"]) == 1
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False, "a Service called hippotune would set HIPPOTUNE_PORT"


@pytest.mark.parametrize("name", OURS)
def test_its_settings_are_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {key: value for key, value in variables(name).items() if value is not None}
    for key, value in given.items():
        monkeypatch.setenv(key, value)
    settings = Settings()
    for key in variables(name):
        field = key.removeprefix("HIPPOTUNE_").lower()
        assert {Part.COMMON, OURS[name]} & set(Settings.model_fields[field].metadata), key
        assert key not in given or field in settings.model_fields_set, key


@pytest.mark.parametrize("name", OURS)
def test_its_settings_are_those_of_compose(services: Services, name: str) -> None:
    theirs = {key: str(value) for key, value in services[name]["environment"].items()}
    ours = variables(name)
    assert set(ours) - set(theirs) == ({"HIPPOTUNE_UNREADY_S"} if name == "server" else set())
    assert set(theirs) <= set(ours)
    differ = {key for key, value in theirs.items() if ours[key] != value}
    keys = {"HIPPOTUNE_API_KEYS"} if name == "server" else set()
    assert differ == {"REDIS_URL", "HIPPOTUNE_THREADS"} | keys
    threads = next(entry for entry in CONTAINERS[name]["env"] if entry["name"] == "HIPPOTUNE_THREADS")
    assert threads["valueFrom"] == {"resourceFieldRef": {"resource": "limits.cpu"}}


def test_no_server_starts_without_keys() -> None:
    told = next(entry for entry in CONTAINERS["server"]["env"] if entry["name"] == "HIPPOTUNE_API_KEYS")
    assert "optional" not in told["valueFrom"]["secretKeyRef"]
    assert variables("server")["HIPPOTUNE_INSECURE"] == "false"
    secret = told["valueFrom"]["secretKeyRef"]
    page = (ROOT / "deploy" / "README.md").read_text()
    assert f"create secret generic {secret['name']} --from-literal={secret['key']}=" in page


def test_probes_ask_what_is_answered_without_a_key() -> None:
    server = CONTAINERS["server"]
    (port,) = server["ports"]
    assert str(port["containerPort"]) == variables("server")["HIPPOTUNE_PORT"]
    asked = {kind: server[kind]["httpGet"] for kind in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert all(ask["port"] == port["name"] for ask in asked.values())
    assert {kind: ask["path"] for kind, ask in asked.items()} == {
        "startupProbe": "/healthz",
        "readinessProbe": "/readyz",
        "livenessProbe": "/healthz",
    }
    assert {ask["path"] for ask in asked.values()} <= OPEN & {route.path for route in router.routes}


def test_the_other_probes_are_those_of_compose(services: Services) -> None:
    """Neither is for liveness: both also fail while Redis is away or loads its file."""
    _, *trainer = services["trainer"]["healthcheck"]["test"]
    _, redis = services["redis"]["healthcheck"]["test"]
    assert CONTAINERS["trainer"]["readinessProbe"]["exec"]["command"] == trainer
    assert CONTAINERS["redis"]["readinessProbe"]["exec"]["command"] == ["sh", "-c", redis]
    assert all("livenessProbe" not in CONTAINERS[name] for name in ("trainer", "redis"))


def test_a_server_is_given_the_time_it_drains_for() -> None:
    unready_s = float(variables("server")["HIPPOTUNE_UNREADY_S"] or 0)
    assert PODS["server"]["terminationGracePeriodSeconds"] >= unready_s + DRAIN_S + 10


def test_names_and_ports_agree() -> None:
    for name, thing in WORKLOADS.items():
        labels = thing["spec"]["template"]["metadata"]["labels"]
        assert thing["spec"]["selector"]["matchLabels"] == labels == {"app": f"hippotune-{name}"}
    for name, service in named("Service").items():
        assert service["spec"]["selector"] == {"app": name}
        (port,) = service["spec"]["ports"]
        (own,) = CONTAINERS[name.removeprefix("hippotune-")]["ports"]
        assert (port["targetPort"], port["port"]) == (own["name"], own["containerPort"])
    (redis,) = CONTAINERS["redis"]["ports"]
    assert SHARED["REDIS_URL"] == f"redis://hippotune-redis:{redis['containerPort']}/0"


def test_a_stateful_set_has_a_headless_service() -> None:
    """As Kubernetes wants it. Such a Service translates no port; that both numbers are one is tried above."""
    services = named("Service").items()
    headless = {name for name, service in services if service["spec"].get("clusterIP") == "None"}
    assert headless == {thing["spec"]["serviceName"] for thing in named("StatefulSet").values()}


def test_what_is_mounted_is_there() -> None:
    claims = named("PersistentVolumeClaim")
    for name, pod in PODS.items():
        there = {volume["name"]: volume for volume in pod["volumes"]}
        there |= {
            claim["metadata"]["name"]: claim
            for claim in WORKLOADS[name]["spec"].get("volumeClaimTemplates", [])
        }
        assert {mount["name"] for mount in CONTAINERS[name]["volumeMounts"]} == set(there)
        named_claims = [
            v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v
        ]
        assert set(named_claims) == (set(claims) if name in OURS else set())


def test_only_server_and_trainer_reach_redis() -> None:
    (policy,) = named("NetworkPolicy").values()
    assert policy["spec"]["podSelector"]["matchLabels"] == {"app": "hippotune-redis"}
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in policy["spec"], "none is allowed"
    (rule,) = policy["spec"]["ingress"]
    (peer,) = rule["from"]
    (who,) = peer["podSelector"]["matchExpressions"]
    assert who == {"key": "app", "operator": "In", "values": [f"hippotune-{name}" for name in OURS]}
