"""A server to measure: `hippotune up` as its own process, with a key, on an empty store."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hippotune import Client
from hippotune.demo.data import Limits, digits
from hippotune.supervision import everything
from service.http.api_keys import Role, create


@dataclass(frozen=True, slots=True)
class Up:
    """key: an admin's.  image: one of what was taught."""

    address: str
    key: str
    process: subprocess.Popen[bytes]
    image: bytes

    def client(self, retries: int = 0) -> Client:
        return Client(self.address, api_key=self.key, retries=retries)


@contextmanager
def up(*options: str) -> Iterator[Up]:
    """Everything, on a free port; it has learned two digits."""
    secret, key = create("benchmark", [Role.ADMIN])
    environment = os.environ | {"HIPPOTUNE_API_KEYS": key.line()}
    with (
        tempfile.TemporaryDirectory() as folder,
        everything(Path(folder), "--port", "0", *options, environment=environment) as (address, process),
    ):
        task = digits(Limits(tasks=5, train=6, test=1))[0]
        running = Up(address, secret, process, task.train[0].image)
        with running.client(retries=5) as client:
            client.wait(
                client.submit([(sample.image, sample.label) for sample in task.train], "zero and one")
            )
        yield running
