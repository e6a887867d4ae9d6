"""`hippotune doctor` against real and broken surroundings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from exchange.embedded import EmbeddedRedis
from hippotune import doctor
from hippotune.doctor import Verdict
from hippotune.settings import Settings
from tests.hippotune.conftest import ROOT, hippotune, learned_elsewhere
from tests.hippotune.test_client_mistakes import stub


def findings(result: subprocess.CompletedProcess[str]) -> dict[str, dict[str, str]]:
    return {finding["name"]: finding for finding in json.loads(result.stdout)}


def test_a_machine_that_is_well(
    backbone: tuple[str, ...], tmp_path: Path, redis_server: EmbeddedRedis
) -> None:
    settings = (
        "--store",
        tmp_path,
        "--url",
        "http://127.0.0.1:9",
        "--redis-url",
        redis_server.url,
        "--px",
        "32",
    )
    result = hippotune("doctor", "--json", *settings, *backbone)
    assert result.returncode == 0, result.stderr
    found = findings(result)
    assert "torch " in found["packages"]["found"]
    assert found["torchvision"]["verdict"] == "ok"
    assert "GiB free" in found["store"]["found"]
    assert redis_server.url in found["redis"]["found"]
    assert "32 px, 64 channels, 8 blocks" in found["backbone"]["found"]
    assert " in " in found["runtime"]["found"]
    assert "no server answers" in found["server"]["found"]


def test_json_is_alone_on_stdout_whatever_is_logged() -> None:
    code = """if True:
        import sys, structlog
        from hippotune import doctor, main
        def examine(settings):
            structlog.get_logger().info("runtime chosen")
            structlog.get_logger().warning("torch stays")
            yield doctor.Finding("runtime", doctor.Verdict.OK, "torch")
        doctor.examine = examine
        sys.argv = ["hippotune", "doctor", "--json"]
        main.main()
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert list(findings(result)) == ["runtime"]
    assert "torch stays" in result.stderr
    assert "runtime chosen" not in result.stderr


def test_what_keeps_the_service_from_running_fails(tmp_path: Path) -> None:
    wrong = (
        "--redis-url",
        "redis://127.0.0.1:9",
        "--backbone",
        "no_such_model",
        "--url",
        "http://127.0.0.1:9",
    )
    result = hippotune("doctor", "--store", tmp_path, *wrong)
    assert result.returncode == 1
    assert "not well: redis, backbone" in result.stderr
    assert "timm knows no model named 'no_such_model'" in result.stdout


def test_a_redis_that_drops_tasks_is_wrong(redis_server: EmbeddedRedis, redis: object) -> None:
    redis.config_set("maxmemory-policy", "allkeys-lru")  # type: ignore[attr-defined]
    try:
        finding = doctor.redis(Settings(redis_url=redis_server.url))
    finally:
        redis.config_set("maxmemory-policy", "noeviction")  # type: ignore[attr-defined]
    assert finding.verdict == Verdict.WRONG
    assert "noeviction" in finding.advice
    assert doctor.redis(Settings(redis_url=redis_server.url)).verdict != Verdict.WRONG


def test_threads_beyond_the_processors_are_noted() -> None:
    finding = doctor.cpus(Settings(threads=1000))
    assert (finding.verdict, "1000 threads" in finding.found) == (Verdict.NOTE, True)


def test_what_is_timed_is_the_loop_of_the_settings(backbone: tuple[str, ...], tmp_path: Path) -> None:
    _, name, _, weights = backbone

    def runtime(layers: str) -> doctor.Finding:
        *_, found = doctor.speed(
            Settings(backbone=name, weights=weights, px=32, store=tmp_path, layers=layers)
        )
        return found

    assert runtime("1,3").verdict == Verdict.OK
    assert "layers is (1, 9)" in runtime("1,9").found


def test_a_store_of_another_backbone_is_wrong(tmp_path: Path) -> None:
    learned_elsewhere(tmp_path)
    found = next(doctor.speed(Settings(store=tmp_path)))
    assert (found.name, found.verdict) == ("backbone", Verdict.WRONG)
    assert "was learned on vit_small at 96 px" in found.found


def test_a_store_that_cannot_be_written_is_wrong() -> None:
    finding = doctor.store(Path("/proc/store"))
    assert finding.verdict == Verdict.WRONG
    assert "/proc cannot be written" in finding.found


def test_the_device_told_is_the_one_that_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A machine with a GPU that nothing may use, as `--device cpu` asks: nvidia-smi alone makes doctor look for one.
    (tmp_path / "nvidia-smi").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    named = doctor.device(Settings(device="cpu"))
    assert (named.verdict, named.found.split()[0], named.advice) == (Verdict.OK, "cpu", "")
    assert doctor.device(Settings(device="meta")).found == "meta"
    for absent in ("abacus", "cuda:99"):
        finding = doctor.device(Settings(device=absent))
        assert finding.verdict == Verdict.WRONG
        assert f"device is {absent!r}, which cannot be used here" in finding.found


def test_a_torch_that_cannot_be_imported_is_told_like_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("torch", "service.runtimes.torch"):
        monkeypatch.setitem(sys.modules, module, None)
    found = list(doctor.examine(Settings(store=tmp_path, url="http://127.0.0.1:9")))
    wrong = {finding.name for finding in found if finding.verdict == Verdict.WRONG}
    assert {"device", "backbone"} <= wrong


def test_what_answers_and_is_no_server_of_ours_is_not_offered_a_key() -> None:
    with stub(b"<html>\n</html>", status=404) as url:
        found = doctor.server(Settings(url=url))
    assert "is no HippoTune server" in found.found
    assert (found.verdict, "\n" in found.found, found.advice) == (Verdict.NOTE, False, "--url names another")
