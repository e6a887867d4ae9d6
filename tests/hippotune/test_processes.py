"""Children are started again when they die, and never outlive us."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from exchange.children import UNWORKABLE
from exchange.embedded import EmbeddedRedis
from hippotune.client import Client
from hippotune.demo.data import DemoTask, Limits, digits
from hippotune.supervision import Supervisor
from tests.hippotune.conftest import (
    ROOT,
    SMALL,
    Starter,
    Up,
    clean_environment,
    family,
    hippotune,
    learned_elsewhere,
    trainer_of,
)

NOTES_ITS_START = "import os, sys, time; open(sys.argv[1], 'a').write(f'{os.getpid()}\\n'); time.sleep(600)"

NOTES_ITS_END = (
    "import os, sys; open(sys.argv[1], 'a').write(f'{os.getpid()}\\n'); "
    "sys.exit(int(sys.argv[1 + len(open(sys.argv[1]).readlines())]))"
)
"""Its nth life ends with the nth code after the file's name."""


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def pids(file: Path) -> list[int]:
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def test_a_child_that_dies_comes_back_and_goes_with_us(tmp_path: Path) -> None:
    file = tmp_path / "starts"
    with Supervisor("child", [sys.executable, "-c", NOTES_ITS_START, str(file)], os.environ):
        until(lambda: len(pids(file)) == 1)
        os.kill(pids(file)[0], signal.SIGKILL)
        until(lambda: len(pids(file)) == 2)
        assert alive(pids(file)[1])
    assert not any(alive(pid) for pid in pids(file))


def test_a_deaf_child_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exchange.children.PATIENCE_S", 0.5)
    file = tmp_path / "starts"
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + NOTES_ITS_START
    with Supervisor("child", [sys.executable, "-c", deaf, str(file)], os.environ):
        until(lambda: len(pids(file)) == 1)
    assert not alive(pids(file)[0])


def test_a_child_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    file, command = tmp_path / "starts", tmp_path / "command"
    with capture_logs() as logs, Supervisor("child", [str(command), str(file)], os.environ):
        until(lambda: any(entry.get("reason") for entry in logs))
        script = tmp_path / "script"
        script.write_text('#!/bin/sh\necho $$ >> "$1"\nexec sleep 600\n')
        script.chmod(0o755)
        script.rename(command)
        until(lambda: len(pids(file)) == 1)
    assert not alive(pids(file)[0])


def test_a_child_whose_settings_cannot_work_is_started_once(tmp_path: Path) -> None:
    file, gave_up = tmp_path / "starts", threading.Event()
    command = [sys.executable, "-c", NOTES_ITS_END, str(file), str(UNWORKABLE)]
    with Supervisor("child", command, os.environ, gave_up.set) as child:
        assert gave_up.wait(30)
        assert child.gave_up
    assert len(pids(file)) == 1


def test_a_child_that_worked_once_is_started_however_it_ends_later(tmp_path: Path) -> None:
    file, gave_up = tmp_path / "starts", threading.Event()
    command = [sys.executable, "-c", NOTES_ITS_END, str(file), "1", *[str(UNWORKABLE)] * 9]
    with Supervisor("child", command, os.environ, gave_up.set):
        until(lambda: len(pids(file)) == 3)
    assert not gave_up.is_set()


def test_up_ends_when_its_trainer_cannot_work(tmp_path: Path) -> None:
    """It would take tasks that nobody ever learns."""
    result = hippotune("up", "--port", "0", "--layers", "1,99", "--store", tmp_path)
    assert result.returncode == 1
    told = [line for line in result.stderr.splitlines() if not line.startswith("{")]
    assert told == ["error: layers is (1, 99); bundled has blocks 1..9"]


def test_what_nohup_started_outlives_its_terminal() -> None:
    program = (
        "import signal; from hippotune.supervision import until_asked_to_stop\n"
        "with until_asked_to_stop():\n"
        "    for sign in (signal.SIGHUP, signal.SIGTERM, signal.SIGTERM):\n"
        "        signal.raise_signal(sign); print('goes on after', sign.name)\n"
        "print('ended')"
    )
    command = ["nohup", sys.executable, "-c", program]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert (ended.returncode, ended.stdout) == (0, "goes on after SIGHUP\nended\n")


def test_no_garbage_is_searched_for_at_the_end() -> None:
    """Of some hundred thousand objects of torch none is worth the seconds."""
    told_at_exit = (
        "import atexit, gc; atexit.register(lambda: print(len(gc.get_objects()), gc.get_freeze_count()))"
    )
    start = f"{told_at_exit}; from hippotune.__main__ import main; main()"
    command = [sys.executable, "-c", start, "train", "--help"]
    ended = subprocess.run(command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True)
    searched, frozen = map(int, ended.stdout.splitlines()[-1].split())
    assert searched < frozen / 100


def redis_of(process: subprocess.Popen[bytes], store: Path) -> int:
    """The process of its private Redis; 0 while there is none."""
    return next((pid for pid in family(process, store) if b"redis.sock" in command_of(pid)), 0)


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def check_ends(running: Up, *signs: signal.Signals) -> None:
    """One signal to `hippotune up` ends it and all that it started, without a word of trouble; others do no harm."""
    started = family(running.process, running.store)
    assert len(started) >= 3, "server, trainer and Redis"
    for sign in signs:
        os.kill(running.process.pid, sign)
        time.sleep(0.1)
    assert running.process.wait(30) == 0
    assert "Traceback" not in (running.store / "log").read_text()
    assert [pid for pid in started if alive(pid)] == []
    assert family(running.process, running.store) == []


def test_a_killed_trainer_and_a_killed_redis_come_back(start: Starter, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with start(store) as running:
        trainer, redis = trainer_of(running.process, store), redis_of(running.process, store)
        assert all((trainer, redis)), "0 would be this process and all beside it"
        os.kill(trainer, signal.SIGKILL)
        os.kill(redis, signal.SIGKILL)
        until(lambda: trainer_of(running.process, store) not in (0, trainer))
        until(lambda: redis_of(running.process, store) not in (0, redis))
        with Client(running.address) as client:
            assert client.tasks() == []
        check_ends(running, signal.SIGTERM)


def test_trainer_and_redis_end_when_up_is_killed(start: Starter, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with start(store) as running:
        left = (trainer_of(running.process, store), redis_of(running.process, store))
        assert all(left), "0 would be this process and all beside it"
        running.process.kill()
        until(lambda: not any(map(alive, left)))


def test_a_part_alone_asks_for_its_redis(tmp_path: Path) -> None:
    for part in ("serve", "train"):
        result = hippotune(part, "--store", tmp_path)
        assert result.returncode == 2
        assert "REDIS_URL" in result.stderr


def test_a_part_that_cannot_start_says_why_and_ends(tmp_path: Path) -> None:
    def start(case: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        return hippotune(*case, "--redis-url", "redis://127.0.0.1:1", "--store", tmp_path)

    cases = {
        ("serve", "--port", "0", "--backbone", "nonsense"): "timm knows no model named 'nonsense'",
        ("train", "--weights", "/no.safetensors"): "weights is /no.safetensors; there is no such file",
    }
    with ThreadPoolExecutor() as together:
        for told, asked in zip(cases.values(), together.map(start, cases), strict=True):
            assert asked.returncode == 1
            assert told in " ".join(asked.stderr.split())
            assert "Traceback" not in asked.stderr


def test_a_store_of_another_backbone_ends_it_at_once_and_names_both(tmp_path: Path) -> None:
    learned_elsewhere(tmp_path)
    alone = ("--redis-url", "redis://127.0.0.1:1")

    def start(command: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        return hippotune(*command, "--store", tmp_path)

    commands = (("up", "--port", "0"), ("train", *alone))  # `up` serves in its own process, as `serve` does
    with ThreadPoolExecutor() as together:
        for asked in together.map(start, commands):
            assert asked.returncode == 1
            (told,) = [line for line in asked.stderr.splitlines() if line.startswith("error: ")]
            assert "was learned on vit_small at 96 px (weights abababababab)" in told
            assert "not on bundled at 64 px (weights " in told
            advice = "take another folder with --store, or that backbone with --backbone, --px and --weights"
            assert advice in asked.stderr
            assert "Traceback" not in asked.stderr


def test_up_goes_on_with_what_it_learned_however_it_was_ended(
    start: Starter, tasks: list[DemoTask], tmp_path: Path
) -> None:
    """The trainer of a store that is not new starts after the server, and learns as ever. Ctrl-C ends all of them, even
    twice, and so does a closed terminal."""
    impatient, closed = (signal.SIGINT, signal.SIGINT), (signal.SIGHUP,)
    for number, (task, signs) in enumerate(zip(tasks, (impatient, closed), strict=False)):
        with start(tmp_path / "store") as running:
            with Client(running.address) as client:
                client.wait(client.submit([(e.image, e.label) for e in task.train], f"task {number}"))
                answered = client.versions()[0].labels
            check_ends(running, *signs)
    assert sorted(answered) == ["0", "1", "2", "3"]


def test_a_taken_port_is_told_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = hippotune("up", "--store", tmp_path, "--port", str(port))
    assert result.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use; --port 0 takes" in result.stderr


def test_the_parts_share_a_redis_and_a_store(
    start: Starter, backbone: tuple[str, ...], tmp_path: Path
) -> None:
    """`serve` and `train` by hand against one Redis do what `up` does, and end with their terminal as it does."""
    shared = ("--store", str(tmp_path), *backbone, "--px", "32", "--threads", "1")
    with EmbeddedRedis(tmp_path / "redis") as redis:
        environment = clean_environment() | {"REDIS_URL": redis.url}
        command = [sys.executable, "-m", "hippotune"]
        training = ("--store", str(tmp_path), *backbone, *SMALL)
        trainer = subprocess.Popen([*command, "train", *training], cwd=ROOT, env=environment)
        server = subprocess.Popen(
            [*command, "serve", "--json", "--port", "0", *shared],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
        )
        try:
            assert server.stdout is not None
            address = json.loads(server.stdout.readline())["address"]
            task = digits(Limits(tasks=5, train=3, test=1))[0]
            with Client(address) as client:
                client.wait(client.submit([(e.image, e.label) for e in task.train], "shared"))
                assert client.classify(task.test[0].image).label in ("0", "1")
        finally:
            for process in (server, trainer):
                process.send_signal(signal.SIGHUP)
            codes = [process.wait(30) for process in (server, trainer)]
            server.stdout.close()
    assert codes == [0, 0]
