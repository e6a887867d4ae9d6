"""Promises that must hold when processes die: real processes, real SIGKILL, a real server."""

import os
import signal
import subprocess
import sys
import time

import pytest

from exchange.blobs import BlobStore
from exchange.connection import connect
from exchange.embedded import EmbeddedRedis
from exchange.errors import VersionNotFound
from exchange.queue import QueueConfig
from exchange.records import TaskChange, TaskState
from exchange.registry import Registry
from exchange.work import WorkQueue
from tests.exchange.working import take

WORKER = """
import sys, time
from pathlib import Path
from exchange.blobs import BlobStore
from exchange.connection import connect
from exchange.lease import Lease
from exchange.queue import QueueConfig
from exchange.work import WorkQueue

url, store, name = sys.argv[1:]
redis = connect(url)
queue = WorkQueue(redis, BlobStore(Path(store) / "blobs"), QueueConfig())
claim = queue.claim(name, 10_000, Lease(redis).acquire())
print(claim.task.id, flush=True)
time.sleep(1000)
"""

PUBLISHER = """
import sys, time
from pathlib import Path
from exchange.connection import connect
from exchange.manifests import BackboneRecord, Draft
from exchange.registry import Registry

url, store = sys.argv[1:]
registry = Registry(connect(url), Path(store) / "versions")
while True:
    current = registry.current()
    draft = Draft("consolidated", current, BackboneRecord("vit", 1, "a"), ("cat",), (), (), slots=0, metrics={})
    registry.publish(draft, {"serving": lambda path: path.write_bytes(bytes(200_000))})
    print("published", flush=True)
"""


def start(program, *arguments):
    return subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True)


def test_a_killed_workers_task_goes_to_the_next(redis_server, queue, samples, next_term, tmp_path):
    task = queue.submit("pets", samples).task
    with start(WORKER, redis_server.url, str(tmp_path), "doomed") as worker:
        assert worker.stdout.readline().strip() == task.id
        worker.kill()
    claim = queue.claim("heir", 0, next_term())
    assert (claim.task.id, claim.deliveries) == (task.id, 2)
    queue.report(claim, TaskChange(state=TaskState.CONSOLIDATED))
    queue.finish(claim)
    assert queue.depth() == 0


def test_a_killed_server_forgets_no_accepted_task(tmp_path, blobs, samples):
    server = EmbeddedRedis(tmp_path / "redis")
    server.start()
    with connect(server.url) as client:
        queue = WorkQueue(client, blobs, QueueConfig())
        accepted = [queue.submit(f"t{i}", samples, f"key{i}").task.id for i in range(20)]
        claim = take(queue)
        os.kill(server.pid, signal.SIGKILL)
        server.stop()
        with server:
            assert {task.id for task in queue.newest()} == set(accepted)
            assert (queue.depth(), queue.lag()) == (20, 19)
            assert queue.submit("t3", samples, "key3").task.id == accepted[3]
            queue.finish(claim)
            rest = [take(queue).task.id for _ in range(19)]
            assert sorted([claim.task.id, *rest]) == sorted(accepted)
            assert take(queue) is None


def test_a_killed_publisher_leaves_every_visible_version_whole(redis_server, redis, tmp_path):
    registry = Registry(redis, tmp_path / "versions")
    for life in range(3):
        with start(PUBLISHER, redis_server.url, str(tmp_path)) as publisher:
            assert publisher.stdout.readline() == "published\n"
            time.sleep(0.05 + 0.037 * life)
            publisher.kill()
        versions = registry.manifests()
        assert registry.current() == (versions[0].version if versions else None)
        for manifest in versions:
            registry.shelf.verify(manifest.version, "serving")
        assert len({manifest.parent for manifest in versions}) == len(versions), "one line of descent"
    assert versions
    for number in registry.shelf.numbers() - {manifest.version for manifest in versions}:
        with pytest.raises(VersionNotFound):
            registry.activate(number)


def test_blobs_survive_the_death_of_who_stored_them(tmp_path):
    program = (
        "import os, sys; from pathlib import Path; from exchange.blobs import BlobStore\n"
        "store = BlobStore(Path(sys.argv[1]))\n"
        "while True: print(store.put(os.urandom(50_000)), flush=True)"
    )
    with start(program, str(tmp_path)) as writer:
        names = [writer.stdout.readline().strip() for _ in range(2)]
        time.sleep(0.1)  # into the midst of another
        writer.kill()
        names += writer.stdout.read().split()
    store = BlobStore(tmp_path)
    acknowledged = [name for name in names if len(name) == 64]
    assert len(acknowledged) >= 2
    for name in acknowledged:
        store.get(name)
    for path in tmp_path.glob("??/[!.]*"):
        store.get(path.parent.name + path.name)
