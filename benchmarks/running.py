"""A server to measure: `hippotune up` as its own process, with a key, on an empty store."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hippotune import Client
from hippotune.demo.data import Limits, digits
from hippotune.processes import hippotune, stop
from service.keys import Role, create


@dataclass(frozen=True, slots=True)
class Up:
    """key: an admin's.  store: its folder, gone with it; holds its log too.  image: one of what was taught."""

    address: str
    key: str
    process: subprocess.Popen[bytes]
    store: Path
    image: bytes

    def client(self, retries: int = 0) -> Client:
        return Client(self.address, api_key=self.key, retries=retries)


@contextmanager
def up(*options: str) -> Iterator[Up]:
    """Everything, on a free port; it has learned two digits."""
    secret, key = create("benchmark", [Role.ADMIN])
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        command = hippotune("up", "--json", "--end-with-stdin", "--port", "0", "--store", folder, *options)
        with (store / "log").open("wb") as log:
            process = subprocess.Popen(
                command,
                env=os.environ | {"HIPPOTUNE_API_KEYS": key.line()},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, (store / "log").read_text()
            task = digits(Limits(tasks=5, train=6, test=1))[0]
            running = Up(json.loads(line)["address"], secret, process, store, task.train[0].image)
            with running.client(retries=5) as client:
                client.wait(
                    client.submit([(sample.image, sample.label) for sample in task.train], "zero and one")
                )
            yield running
        finally:
            stop(process)
            if process.stdout is not None:
                process.stdout.close()
