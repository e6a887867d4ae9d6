"""The caller counts what really happens, and a server under test is ours with another model in it."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer

pytest.importorskip("onnxruntime", reason="the onnx runtime comes with the extras cpu and gpu")

from benchmarks.serving.__main__ import kept
from benchmarks.serving.asked import ASKED, rows
from benchmarks.serving.beside import against, typical
from benchmarks.serving.changing import curves
from benchmarks.serving.client import Caller, Load, Measured, rate
from benchmarks.serving.page import page, plots
from benchmarks.serving.scene import Scene, child, free_port, multipart, photographs, tensors
from benchmarks.serving.subjects import Effort, Versions, ours
from exchange.embedded import EmbeddedRedis
from model.preprocess import decode
from service.answering.inference_tensors import parse
from tests.service.support import weights_file

WORK_S = 0.02


class Handler(BaseHTTPRequestHandler):
    """Works for a while on one request at a time; /full refuses."""

    protocol_version = "HTTP/1.1"
    busy = threading.Lock()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        with self.busy:
            time.sleep(WORK_S)
        body = b'{"timings_ms": {"compute": 20.0}}'
        self.send_response(503 if self.path == "/full" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quietly."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def measured(port: int, *paths: str, **how: Any) -> Measured:
    bodies = [base64.b64encode(b"x").decode()]
    load = Load("127.0.0.1", port, paths or ("/",), bodies, "image/jpeg", warm_up_s=0.1, seconds=0.5, **how)

    async def run() -> Measured:
        found = await Caller(load).run()
        await asyncio.sleep(0)  # closed transports close their sockets in the next turn of the loop
        return found

    return asyncio.run(run())


def test_a_closed_loop_keeps_every_connection_busy(port: int) -> None:
    found = measured(port, connections=3, compute=True)
    assert found.failed == 0
    assert 3 <= found.answered <= 0.5 / WORK_S + 1
    assert min(found.latencies_ms) >= 1000 * WORK_S
    assert [round(a - b) for a, b in zip(found.latencies_ms, found.overheads_ms, strict=True)] == [
        20
    ] * found.answered


def test_refusals_are_counted_and_not_timed(port: int) -> None:
    found = measured(port, "/", "/full")
    assert found.failed > 0
    assert abs(found.failed - found.answered) <= 1
    assert len(found.latencies_ms) == found.answered


def test_an_open_loop_counts_the_wait_for_a_server_that_is_too_slow(port: int) -> None:
    found = measured(port, connections=64, rate=4 / WORK_S)
    assert max(found.latencies_ms) > 3 * 1000 * WORK_S
    assert found.answered > 0.5 / WORK_S + 1  # all that were due, however late


def test_the_rate_of_answers_does_not_hang_on_where_the_window_cuts_a_batch() -> None:
    batches = [0.3 * turn for turn in range(7)]
    for shift in (0.0, 0.1, 0.2):
        times = [time + shift for time in batches for _ in range(16) if time + shift < 1.5]
        assert rate(times, 1.5) == pytest.approx(16 / 0.3)
    assert rate([1.0, 1.001, 1.002], 2.0) == 1.5
    assert rate([], 2.0) == 0


def test_a_server_that_is_gone_is_a_failure() -> None:
    found = measured(free_port())
    assert found.answered == 0
    assert found.failed > 0


def test_the_images_sent_are_what_they_are_said_to_be() -> None:
    photo, ((ready,), header) = photographs(1)[0], tensors(32, 1)
    assert decode(photo, 64, 10**6).shape == (3, 64, 64)
    assert parse(ready, header, 1, 32)[1].shape == (1, 3, 32, 32)
    body, kind = multipart(photo, "file")
    assert photo in body
    assert kind.startswith("multipart/form-data; boundary=")


@pytest.mark.slow
def test_our_server_answers_with_the_model_it_is_given(tmp_path: Path) -> None:
    weights = weights_file(tmp_path / "vit.safetensors")
    with EmbeddedRedis(tmp_path / "redis") as redis:
        scene = Scene(
            backbone="test_vit2", weights=str(weights), px=32, model="nothing", runtime="torch",
            threads=1, max_batch=4, slots=5, classes=8, graphs=str(tmp_path), store=str(tmp_path / "store"),
            redis_url=redis.url,
        )  # fmt: skip
        versions = Versions(scene)
        published = versions.publish(versions.checkpoint(5, 8))
        with ours(scene, "nothing") as server:
            answer = httpx.post(
                f"http://127.0.0.1:{server.port}/classify", content=photographs(1)[0], timeout=30
            ).json()
    assert answer["version"] == published.version
    assert [one["score"] for one in answer["predictions"]] == [pytest.approx(1 / 8)] * 5


def summary(per_second: float, p50: float, p99: float) -> dict[str, float]:
    return {
        "per_second": per_second,
        "answered": 10,
        "failed": 0,
        "latency_p50_ms": p50,
        "latency_p99_ms": p99,
    }


SERVERS = {
    "hippotune": {"saturated": summary(60, 1, 2), "load_50%": summary(30, 20, 50)},
    "litserve": {"saturated": summary(50, 1, 2), "load_50%": summary(30, 25, 40)},
    "bentoml": {"failed": "no photograph was answered"},
    "ray": {"saturated": summary(40, 1, 2), "load_50%": summary(30, 30, 60)},
}


def test_ours_is_set_against_the_best_of_those_that_answered() -> None:
    found = against(SERVERS, Effort(1, 1, 1, (1,), shares=(0.5,)))
    assert found == {
        "saturated_over_best": 1.2,
        "latency_p50_over_best": 0.8,
        "latency_p99_over_best": 1.25,
    }
    assert against({**SERVERS, "hippotune": {"failed": "so"}}, Effort(1, 1, 1, (1,), shares=(0.5,))) == {}


def test_of_several_rounds_the_median_is_told_and_requests_are_added_up() -> None:
    rounds = [
        {"load_50%": {"per_second": 1.0, "answered": 2, "failed": n, "latency_p99_ms": p99}}
        for n, p99 in ((0, 9), (1, 5), (0, 80))
    ]
    assert typical(rounds) == {
        "load_50%": {"per_second": 1.0, "answered": 6, "failed": 1, "latency_p99_ms": 9}
    }


def test_the_page_says_where_another_server_is_better(tmp_path: Path) -> None:
    where = {"machine": {"processor": "a CPU", "load": 0.25}, "threads": 2, "date": "2026-01-01"}
    serving = {
        **where,
        "command": "python -m benchmarks.serving",
        "backbone": "deit",
        "same": {"servers": SERVERS, "saturated_over_best": 1.2, "latency_p99_over_best": 1.25},
    }
    text = page(serving)
    assert "| hippotune | 60 | 20.0 / 50.0 | 0 |" in text
    assert "bentoml did not answer" in text
    assert "Better than hippotune: litserve's p99 at load 50%." in text
    assert "| >= 1 | 1.2 | yes |" in text
    assert "| <= 1 | 1.25 | no |" in text
    plots(serving, tmp_path)
    assert "litserve p99" in (tmp_path / "serving-same.svg").read_text()


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    assert list(rows({})) == []
    (row,) = rows({"alone": {"overhead_p50_ms": 1.2}})
    assert row[1:] == ("<= 1.5", "1.2", "yes")
    assert len({asked.path for asked in ASKED}) == len(ASKED)


def test_growth_is_told_with_slots_for_every_task_and_as_the_defaults_learn() -> None:
    found = curves({(10, 10): [10.0, 12.0], (10, 1000): [11.0, 12.0], (1000, 1000): [15.0, 18.0]})
    assert found["tasks_1"] == {"latency_p50_ms": 11.0, "over_1": 1.0}
    assert found["tasks_100"] == {"latency_p50_ms": 16.5, "over_1": 1.5}
    settled = found["as_the_defaults_learn"]
    assert list(settled) == ["tasks_1", "tasks_100"]
    assert settled["tasks_100"]["over_1"] == pytest.approx(1.05)
    where = {"machine": {"processor": "a CPU", "load": 0.25}, "threads": 2, "date": "2026-01-01"}
    text = page({**where, "command": "it", "backbone": "deit", "scale": found})
    assert "| 100 | 16.5 | 1.50x | 11.5 | 1.05x |" in text


def test_a_run_that_was_cut_keeps_its_parts_and_only_those_of_its_setting(tmp_path: Path) -> None:
    file = tmp_path / "serving.json"
    assert kept(file, {"threads": 2}) == {}
    file.write_text(json.dumps({"threads": 2, "date": "2026-01-01", "alone": {"requests": 7}}))
    assert kept(file, {"threads": 2}) == {"alone": {"requests": 7}}
    with pytest.raises(typer.BadParameter, match="another threads"):
        kept(file, {"threads": 4})


def test_a_server_that_dies_says_why() -> None:
    scene = Scene("none", None, None, "nothing", "onnx", 1, 1, 1, 1, "", "")
    with (
        pytest.raises(RuntimeError, match=r"benchmarks\.serving\.nowhere did not start: .*No module named"),
        child(scene, "benchmarks.serving.nowhere"),
    ):
        pass


def test_the_page_says_what_was_measured_and_no_more() -> None:
    where = {"machine": {"processor": "a CPU", "load": 0.25}, "threads": 2, "date": "2026-01-01"}
    serving = {
        **where,
        "command": "python -m benchmarks.serving",
        "backbone": "deit at 224 px",
        "throughput": {"batch": 16, "connections": 32, "images_per_second": {"bare": 61.5, "jpeg": 1059.6}},
        "concurrency": {"256_px": {"4_connections": summary(90, 7.46, 9)}},
    }
    text = page(serving)
    assert "|  | the bare runtime | JPEG |\n|---|---|---|\n| images/s | 62 | 1,060 |" in text
    assert "| 4 | 90 | 7.5 / 9.0 |\n\n0 requests failed of 10." in text
    assert "a CPU, 2 threads, load 0.2 when it ended" in text
    assert "Swaps" not in text
    assert "budgets" not in text
