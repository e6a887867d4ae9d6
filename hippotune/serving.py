"""The server as a process: on a socket bound beforehand, saying where it is once it answers."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from fastapi import FastAPI
from rich.console import Console
from rich.markup import escape

from hippotune.output import print_json
from service.app import create_app
from service.config import ServiceConfig
from service.server import OwnProcessServer


class AnnouncingServer(OwnProcessServer):
    """Prints its address when it has started, as the first line of JSON on stdout or as a line to read."""

    def __init__(
        self,
        app: FastAPI,
        host: str,
        port: int,
        idle_s: float,
        unready_s: float,
        as_json: bool,
        started: Callable[[], object],
    ) -> None:
        super().__init__(app, host=host, port=port, idle_s=idle_s, unready_s=unready_s)
        self._as_json, self._started = as_json, started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started()
        address = f"http://{self.config.host}:{self.config.port}"
        if self._as_json:
            print_json({"address": address, "pid": os.getpid()})
        else:
            Console().print(f"HippoTune is at [bold]{escape(address)}[/bold]  (Ctrl-C stops it)")


def serve(
    config: ServiceConfig,
    unready_s: float,
    door: socket.socket,
    as_json: bool,
    started: Callable[[], object] = lambda: None,
) -> None:
    """Serve until asked to stop. started: called once it answers."""
    host, port = door.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    app = create_app(config)
    AnnouncingServer(app, shown, port, config.idle_s, unready_s, as_json, started).run(sockets=[door])
