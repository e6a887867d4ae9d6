"""A real `hippotune up` for the tests of this folder: its own Redis, trainer and server, on a free port."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from exchange.manifests import BackboneRecord, Draft, Manifest
from exchange.shelf import Shelf
from hippotune.client import Client
from hippotune.demo.data import DemoTask, Limits, digits

ROOT = Path(__file__).parents[2]
WAIT_S = 120
SMALL = (
    "--px",
    "32",
    "--epochs",
    "1",
    "--least-steps",
    "1",
    "--least-images",
    "0",
    "--layers",
    "1,3",
    "--slots",
    "2",
    "--topk",
    "2",
    "--threads",
    "1",
    "--keep-versions",
    "1000",  # what a server learned first is still there, however many tests share it
)


@dataclass(frozen=True)
class Up:
    """A running `hippotune up`."""

    process: subprocess.Popen[bytes]
    address: str
    store: Path


def clean_environment() -> dict[str, str]:
    """Ours without any setting of the product, but for one: exporting graphs would only take time from the tests."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("HIPPOTUNE_")}
    return {name: value for name, value in ours.items() if name != "REDIS_URL"} | {
        "HIPPOTUNE_RUNTIME": "torch"
    }


def hippotune(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "hippotune", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=150,
        cwd=ROOT,
        env=clean_environment() | {"COLUMNS": "300"},
    )


def family(process: subprocess.Popen[Any], store: Path) -> list[int]:
    """Pids of every process whose command line or working directory names `store`, and of `process` itself."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
            told = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            cwd = str((entry / "cwd").readlink())
        except OSError:
            continue
        ours = os.fsencode(store) in told or cwd.startswith(str(store)) or int(entry.name) == process.pid
        if ours and state != "Z" and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def process_of(process: subprocess.Popen[Any], store: Path, command: str) -> int:
    """Pid of the one of its family that runs `hippotune COMMAND`, 0 while there is none."""
    for pid in family(process, store):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if command.encode() in words:
            return pid
    return 0


def trainer_of(process: subprocess.Popen[Any], store: Path) -> int:
    """Pid of the trainer, 0 while there is none."""
    return process_of(process, store, "train")


def settle(running: Up) -> None:
    """Until nothing is being learned, whatever tests before left to be."""
    deadline = time.monotonic() + WAIT_S
    with Client(running.address) as client:
        while not all(task.ended for task in client.tasks()):
            assert time.monotonic() < deadline, "still learning"
            time.sleep(0.05)


def learned_elsewhere(store: Path) -> None:
    """A version in a store, learned on a backbone that is not ours."""
    shelf = Shelf(store / "versions")
    with shelf.staging(1) as staging:
        files = shelf.write(1, {"serving": lambda path: path.write_bytes(b"any")}, staging)
        elsewhere = BackboneRecord("vit_small", 96, "ab" * 32)
        draft = Draft("consolidated", None, elsewhere, ("ant",), ("t",), (), slots=0, metrics={})
        shelf.write_manifest(Manifest.of(draft, 1, 0.0, files), staging)


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Flags of a tiny transformer with random weights: nothing here is about accuracy."""
    path = tmp_path_factory.mktemp("backbone") / "weights.safetensors"
    torch.manual_seed(0)
    save_file(timm.create_model("test_vit2").state_dict(), path)
    return ("--backbone", "test_vit2", "--weights", str(path))


@pytest.fixture(scope="session", autouse=True)
def _terminal() -> None:
    """Let what tests start hear of a closed terminal, even if they were themselves started by nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


Starter = Callable[[Path], "contextmanager[Up]"]


@pytest.fixture(scope="session")
def start(backbone: tuple[str, ...]) -> Starter:
    """Start `hippotune up` on a store; killed with all its children if a test leaves it behind."""

    @contextmanager
    def starting(store: Path) -> Iterator[Up]:
        store.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "hippotune", "up", "--json", "--port", "0", "--store", str(store)]
        with (store / "log").open("wb") as log:
            process = subprocess.Popen(
                [*command, *backbone, *SMALL],
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env=clean_environment(),
                start_new_session=True,
            )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line, (store / "log").read_text()
            yield Up(process, json.loads(line)["address"], store)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            finally:
                for pid in family(process, store):
                    os.kill(pid, signal.SIGKILL)
                process.stdout.close()

    return starting


@pytest.fixture(scope="session")
def tasks() -> list[DemoTask]:
    """Five tasks of a few real digits."""
    return digits(Limits(tasks=5, train=6, test=3))


@pytest.fixture(scope="session")
def shared(start: Starter, tasks: list[DemoTask], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A running service that has learned "0" and "1", and then whatever tests had it learn."""
    with start(tmp_path_factory.mktemp("store")) as running:
        with Client(running.address) as client:
            client.wait(client.submit([(e.image, e.label) for e in tasks[0].train], "zero and one"))
        yield running


@pytest.fixture(scope="module")
def server(shared: Up) -> Up:
    """The shared service, which learns nothing that other files had it learn: its versions are those of this one."""
    settle(shared)
    return shared


@pytest.fixture
def client(server: Up) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three files in folders, by their names images."""
    for name in ("cats/1.jpg", "cats/2.PNG", "dogs/old/3.webp"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "tree"
