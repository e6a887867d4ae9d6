"""When alerts fire, as Prometheus itself has it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tests.deploy.queries import ALERTS

PROMTOOL = shutil.which("promtool")

pytestmark = pytest.mark.skipif(PROMTOOL is None, reason="no promtool, which comes with Prometheus")


def fires(tmp_path: Path, alert: str, minute: int, series: Mapping[str, str]) -> bool:
    """Whether an alert does in a minute, where metrics had such values, one a minute from 0 on."""
    given = [{"series": name, "values": values} for name, values in series.items()]
    expected = {"eval_time": f"{minute}m", "alertname": alert}  # that it does not
    document = {
        "rule_files": [str(ALERTS)],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": given, "alert_rule_test": [expected]}],
    }
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump(document))
    ran = subprocess.run([str(PROMTOOL), "test", "rules", str(file)], capture_output=True, text=True)
    told = ran.stdout + ran.stderr
    assert ran.returncode == 0 or f'alertname="{alert}"' in told, told
    return ran.returncode != 0


def test_the_first_failure_of_all_is_told(tmp_path: Path) -> None:
    failed = {'hippotune_task_state{state="failed"}': "0x2 1x60"}
    assert not fires(tmp_path, "HippoTuneTaskFailed", 2, failed)
    assert fires(tmp_path, "HippoTuneTaskFailed", 5, failed)
    assert not fires(tmp_path, "HippoTuneTaskFailed", 30, failed)


def test_a_failure_is_not_told_again_by_a_server_that_starts_later(tmp_path: Path) -> None:
    failed = {
        'hippotune_task_state{state="failed",instance="a"}': "1x60",
        'hippotune_task_state{state="failed",instance="b"}': "_x30 1x30",
    }
    assert not fires(tmp_path, "HippoTuneTaskFailed", 32, failed)


def test_replicas_may_be_a_version_apart_where_versions_change_all_the_time(tmp_path: Path) -> None:
    behind = {"a": 0, "b": 1}
    versions = {
        f'hippotune_version_info{{version="{minute}",instance="{name}"}}': f"{'_ ' * (minute + late)}1 stale"
        for minute in range(40)
        for name, late in behind.items()
    }
    assert not fires(tmp_path, "HippoTuneReplicasDisagree", 30, versions)
    stuck = {'hippotune_version_info{version="3",instance="c"}': "_ _ _ 1x60"}
    assert fires(tmp_path, "HippoTuneReplicasDisagree", 30, versions | stuck)


def test_a_replica_that_stays_behind_is_told(tmp_path: Path) -> None:
    versions = {
        'hippotune_version_info{version="1",instance="a"}': "1x5 stale",
        'hippotune_version_info{version="2",instance="a"}': "_x6 1x60",
        'hippotune_version_info{version="1",instance="b"}': "1x60",
    }
    assert not fires(tmp_path, "HippoTuneReplicasDisagree", 10, versions)
    assert fires(tmp_path, "HippoTuneReplicasDisagree", 20, versions)


def test_tasks_may_wait_for_a_trainer_whose_memory_is_full(tmp_path: Path) -> None:
    waiting = {"hippotune_stream_lag": "3x60"}
    alive = {"hippotune_trainer_alive": "1x60"}
    full = {'hippotune_task_state{state="consolidating"}': "1x60"}
    assert not fires(tmp_path, "HippoTuneNobodyLearns", 30, waiting | alive | full)
    dead = {"hippotune_trainer_alive": "0x60"}
    assert fires(tmp_path, "HippoTuneNobodyLearns", 30, waiting | dead | full), "as it was left"
    idle = {'hippotune_task_state{state="consolidating"}': "0x60"}
    assert fires(tmp_path, "HippoTuneNobodyLearns", 30, waiting | alive | idle), "it takes none"


def test_healthy_growth_is_no_forgetting(tmp_path: Path) -> None:
    measured = {"hippotune_trainer_held_out_images": "300x60", "hippotune_trainer_forgetting": "0+0.005x60"}
    assert not fires(
        tmp_path, "HippoTuneForgets", 50, measured | {"hippotune_trainer_interference": "0.01x60"}
    )
    assert fires(
        tmp_path, "HippoTuneForgets", 32, measured | {"hippotune_trainer_interference": "0x30 0.08 0x29"}
    )
