"""The server as all that a process does."""

from __future__ import annotations

import gc
import socket
import threading
from pathlib import Path

import httpx
from fastapi import FastAPI

from exchange.queue import QueueConfig
from model.deliberation import LoopConfig
from model.spec import BackboneSpec
from service.config import ServiceConfig
from service.http.lifecycle import Lifecycle
from service.metrics import Metrics
from service.server import OwnProcessServer
from tests.service.support import picture, random_version, running, wait_for


def test_what_start_up_left_is_never_searched_for_garbage_again() -> None:
    app = FastAPI()
    app.state.lifecycle, app.state.metrics = Lifecycle(), Metrics()
    server = OwnProcessServer(app, host="127.0.0.1", port=0, idle_s=5)
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


def test_no_body_waits_for_its_head_to_be_acknowledged() -> None:
    app = FastAPI()
    app.state.lifecycle, app.state.metrics = Lifecycle(), Metrics()
    server = OwnProcessServer(app, host="127.0.0.1", port=0, idle_s=3600)
    with socket.create_server(("127.0.0.1", 0)) as door:  # as `hippotune up` makes it
        thread = threading.Thread(target=server.run, args=([door],))
        thread.start()
        try:
            wait_for(lambda: server.started)
            with httpx.Client(base_url=f"http://127.0.0.1:{door.getsockname()[1]}") as client:
                client.get("/nowhere")
                [connection] = server.server_state.connections
                taken = connection.transport.get_extra_info("socket")
                assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        finally:
            server.should_exit = True
            thread.join()
            gc.unfreeze()


def test_no_connection_holds_what_came_of_a_body_that_was_refused() -> None:
    app = FastAPI()
    app.state.lifecycle, app.state.metrics = Lifecycle(), Metrics()
    server = OwnProcessServer(app, host="127.0.0.1", port=0, idle_s=3600)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            assert client.post("/nowhere", content=bytes(50_000)).status_code == 404
            [connection] = server.server_state.connections
            wait_for(lambda: connection.cycle.response_complete)  # the client may read it before
            assert not connection.cycle.body
    finally:
        server.should_exit = True
        thread.join()
        gc.unfreeze()


def test_it_starts_on_a_backbone_that_has_fewer_blocks_than_the_default_loop(
    redis_url: str, little: BackboneSpec, tmp_path: Path
) -> None:
    queue = QueueConfig(prefix=tmp_path.name)
    config = ServiceConfig(redis_url, tmp_path / "store", little, queue, runtime="torch", threads=1)
    with running(config) as server:
        server.serve(random_version(server.backbone, "abc", loop=LoopConfig(layers=(1, 2, 3))))
        answer = server.client.post("/classify", content=picture(), headers={"Content-Type": "image/png"})
        assert answer.json()["budget"]["tmax"] == LoopConfig().tmax
