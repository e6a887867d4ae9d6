"""uvicorn, stopping in the right order: not ready first, then no new connections, then what is under way."""

from __future__ import annotations

import asyncio
import socket

import uvicorn
from fastapi import FastAPI

IDLE_S = 5
DRAIN_S = 30
MAX_CONNECTIONS = 10_000


class DrainingServer(uvicorn.Server):
    """Tells the app before connections are closed, so that /readyz turns first and event streams end."""

    def __init__(self, app: FastAPI, *, host: str, port: int, ready_s: float = 0.0) -> None:
        """ready_s: seconds to stay open but not ready once asked to stop, for a load balancer to notice."""
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=IDLE_S,
                timeout_graceful_shutdown=DRAIN_S,
                limit_concurrency=MAX_CONNECTIONS,
            )
        )
        self._lifecycle = app.state.lifecycle
        self._ready_s = ready_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._lifecycle.draining = True
        await asyncio.sleep(self._ready_s)
        await super().shutdown(sockets)
