"""The HTTP application, assembled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import version

from anyio import CapacityLimiter, create_task_group, to_thread
from fastapi import FastAPI
from redis import Redis

from exchange.blobs import BlobStore
from exchange.connection import connect
from exchange.manifests import BackboneRecord
from exchange.queue import TaskQueue
from exchange.redis_keys import Keys
from exchange.registry import Registry
from exchange.relay import Relay
from exchange.tasks import TaskReader
from service.api.document import App
from service.config import ServiceConfig
from service.cpus import available_cpus
from service.engine.batching import Engine
from service.engine.loading import warm
from service.engine.memory import AnswerMemory, SharedMemory
from service.engine.pace import Pace
from service.engine.snapshot import Served
from service.engine.watcher import Watcher
from service.http.access import AccessLog
from service.http.api_keys import Keyring
from service.http.etags import KeptBodies
from service.http.guard import KeyGuard, OriginGuard
from service.http.handlers import install_handlers
from service.http.lifecycle import Lifecycle
from service.http.middleware import (
    FastPath,
    HeadRequests,
    Lingering,
    ProtocolErrors,
    RequestMetrics,
    route_of,
)
from service.http.receive import Bodies
from service.metrics import Metrics
from service.routes import classify, events, feedback, inference, labels, operations, page, tasks, versions
from service.runtimes.base import Runtime
from service.runtimes.load import load_runtime
from service.services import Services
from service.turns import InTurns

DESCRIPTION = (
    "Image classification that keeps learning. `POST /tasks` teaches it labelled images, `POST /classify` "
    "asks it, with a budget per request. Errors are problem documents (RFC 9457). Every answer carries `X-Request-ID`: "
    "the request's own, if that is printable and has at most 128 characters, else a new one."
)

PATIENT = 16
"""Calls that may wait for Redis at once; with one that answers, each takes a millisecond."""

LoadRuntime = Callable[[ServiceConfig, int], Runtime]


def create_app(config: ServiceConfig, load: LoadRuntime = load_runtime) -> FastAPI:
    """An app that loads its backbone and starts its threads with the server, and stops them with it.

    load: what makes the runtime, of the settings and a number of threads; benchmarks put other models there.
    Raises ValueError and OSError for API keys that cannot be read.
    """
    metrics, lifecycle = Metrics(), Lifecycle()
    keys = keyring(config)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with running(config, load, metrics, lifecycle) as app.state.services:
                yield
        except Exception as error:
            lifecycle.failure = error
            raise

    nouns = (classify, feedback, tasks, events, labels, versions, operations, inference, page)
    app = App(
        [noun.router for noun in nouns],
        OriginGuard if keys is None else KeyGuard,
        title="HippoTune",
        version=version("hippotune"),
        description=DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,  # the page has its own, which needs no network
        redoc_url=None,
        # Unused here, and looked up on every request unless all of it is off.
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},
    )
    app.state.lifecycle, app.state.metrics = lifecycle, metrics
    wrap(app, config, keys, metrics)
    install_handlers(app, metrics)
    app.mount("/web", page.files())
    return app


def keyring(config: ServiceConfig) -> Keyring | None:
    """The keys that requests need; None where they need none. Raises ValueError and OSError."""
    keys = Keyring(config.api_keys_file, config.api_keys)
    # A file that is still empty lets nobody in, not all.
    return keys if config.api_keys_file is not None or len(keys) else None


def wrap(app: FastAPI, config: ServiceConfig, keys: Keyring | None, metrics: Metrics) -> None:
    """What a request passes before it reaches a route; what is added last is passed first.

    keys: None where requests need none.
    """
    fast = {
        "/classify": route_of(classify.router, classify.classify),
        f"/v2/models/{config.model_name}/infer": route_of(inference.router, inference.infer),
    }
    app.add_middleware(FastPath, routes=fast, handlers=app.exception_handlers)
    app.add_middleware(HeadRequests)
    if keys is None:
        app.add_middleware(OriginGuard, insecure=config.insecure, metrics=metrics)
    else:
        app.add_middleware(KeyGuard, keys=keys, open_metrics=config.open_metrics, metrics=metrics)
    app.add_middleware(RequestMetrics, metrics=metrics, access=AccessLog(config.access_log))
    app.add_middleware(ProtocolErrors)
    app.add_middleware(Lingering)


@asynccontextmanager
async def running(
    config: ServiceConfig, load: LoadRuntime, metrics: Metrics, lifecycle: Lifecycle
) -> AsyncIterator[Services]:
    """Everything behind the routes, from a warm backbone on."""
    threads = config.threads or available_cpus()
    redis, looking = connect(config.redis_url), connect(config.redis_url, patient=False)
    runtime = await to_thread.run_sync(load, config, threads)
    services = assembled(config, runtime, redis, looking, threads, metrics, lifecycle)
    engine, watcher, memory = services.engine, services.watcher, services.memory
    engine.start()
    try:
        # Here alone: a store that is moved to another backbone later must not end who still answers from it.
        services.registry.shelf.check_backbone(BackboneRecord.of(runtime.identity))
        await to_thread.run_sync(warm_backbone, engine, runtime)
        watcher.start()
        memory.start()
        try:
            yield services
        finally:
            lifecycle.draining = True
            watcher.leave_off()  # before an export that it waits for is ended
            async with create_task_group() as ending:  # at once: the watcher may wait for an export to end
                for end in (memory.stop, watcher.stop, runtime.close):
                    ending.start_soon(to_thread.run_sync, end)
    finally:
        # Only what was started: a complaint about the rest would hide why the start failed.
        await to_thread.run_sync(engine.stop)
        await to_thread.run_sync(runtime.close)
        services.task_decoders.shutdown(cancel_futures=True)
        services.decoders.shutdown(cancel_futures=True)
        redis.close()
        looking.close()


def assembled(
    config: ServiceConfig,
    runtime: Runtime,
    redis: Redis,
    looking: Redis,
    threads: int,
    metrics: Metrics,
    lifecycle: Lifecycle,
) -> Services:
    """The parts of a server, none of them started.

    looking: a client of Redis without patience, for what reads alone and for threads that a shutdown waits for.
    """
    prefix, versions = config.queue.prefix, config.store / "versions"
    served, blobs = Served(), BlobStore(config.store / "blobs")
    engine = Engine(served, config.max_batch, config.queue_images, metrics, Pace())
    registry_view = Registry(looking, versions, prefix)
    answers = AnswerMemory(config.feedback_answers, config.feedback_ttl_s)
    decoders = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    return Services(
        config=config,
        metrics=metrics,
        lifecycle=lifecycle,
        threads=threads,
        runtime=runtime,
        served=served,
        engine=engine,
        watcher=Watcher(registry_view, runtime, engine, served, metrics),
        queue=TaskQueue(redis, blobs, config.queue),
        blobs=blobs,
        registry=Registry(redis, versions, prefix),
        queue_view=TaskReader(looking, Keys(prefix)),
        registry_view=registry_view,
        memory=SharedMemory(answers, Relay(looking, prefix)),
        bodies=Bodies(config.max_held_bytes),
        # The files of a form stay in memory while each is small, so that forms are counted as if all of it did.
        uploads=Bodies(2 * config.max_task_bytes),
        decoders=decoders,
        task_decoders=InTurns(decoders, max(1, threads - 1)),
        submissions=CapacityLimiter(config.max_submissions),
        streams=CapacityLimiter(config.max_event_streams),
        kept=KeptBodies(),
        patient=CapacityLimiter(PATIENT),
    )


def warm_backbone(engine: Engine, runtime: Runtime) -> None:
    """The first forward pass of a process is slow: have it before the first request."""
    checkpoint = runtime.empty()
    engine.call(lambda: warm(runtime.prepare(checkpoint), checkpoint, runtime.identity.px)).result()
