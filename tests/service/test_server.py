"""The server as all that a process does."""

from __future__ import annotations

import gc
import threading

import httpx
from fastapi import FastAPI

from service.lifecycle import Lifecycle
from service.metrics import Metrics
from service.server import OwnProcessServer
from tests.service.support import wait_for


def test_what_start_up_left_is_never_searched_for_garbage_again() -> None:
    app = FastAPI()
    app.state.lifecycle, app.state.metrics = Lifecycle(), Metrics()
    server = OwnProcessServer(app, host="127.0.0.1", port=0)
    thread = threading.Thread(target=server.run)
    before = gc.get_freeze_count()
    thread.start()
    try:
        wait_for(lambda: server.started and gc.get_freeze_count() > before)
        port = server.servers[0].sockets[0].getsockname()[1]
        assert httpx.get(f"http://127.0.0.1:{port}/nowhere").status_code == 404
    finally:
        server.should_exit = True
        thread.join()
        gc.unfreeze()
