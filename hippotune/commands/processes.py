"""`up`, `serve`, `train`: the processes that make the service."""

from __future__ import annotations

import errno
import gc
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from ipaddress import ip_address
from typing import Annotated

import structlog
import typer

from exchange.children import UNWORKABLE
from exchange.shelf import Shelf
from hippotune import configs, logs
from hippotune.environment import slips
from hippotune.errors import unnumbered
from hippotune.flags import Json, with_settings
from hippotune.output import Exit, print_error
from hippotune.setting_types import Part, variable
from hippotune.settings import Settings
from hippotune.supervision import (
    Supervisor,
    ask_to_stop,
    end_with_stdin,
    end_with_terminal,
    hippotune,
    until_asked_to_stop,
)

log = structlog.get_logger()

Lifeline = Annotated[bool, typer.Option("--end-with-stdin", hidden=True)]


@with_settings(Part.COMMON, Part.SERVER, Part.TRAINER)
def up(settings: Settings, with_stdin: Lifeline = False, as_json: Json = False) -> None:
    """Start everything here: a private Redis (unless REDIS_URL names one), the trainer and the server."""
    logs.configure(settings.log_level, process="server")
    _tell_slips()
    with until_asked_to_stop(), ExitStack() as running:
        if with_stdin:
            end_with_stdin(ask_to_stop)
        door = running.enter_context(_listen(settings))
        redis_url = settings.redis_url or running.enter_context(_private_redis(settings))
        settings = _sharing_cores(settings)
        config = configs.service(settings, redis_url)
        environment = os.environ | settings.environment() | {variable("redis_url"): redis_url}
        trainer = Supervisor("trainer", hippotune("train", "--end-with-stdin"), environment, ask_to_stop)
        start_trainer = partial(running.enter_context, trainer)
        # With something learned the server first finds out whether it was on this backbone: a trainer beside it would
        # say so, too, and be started again and again.
        if fresh := not Shelf(settings.store / "versions").numbers():
            start_trainer()
        with _importing():
            from hippotune.serving import serve as run_server

        started = (lambda: None) if fresh else start_trainer
        run_server(config, settings.unready_s, door, as_json, started)
    if trainer.gave_up:  # and said why
        raise typer.Exit(Exit.FAILED)


@with_settings(Part.COMMON, Part.SERVER)
def serve(settings: Settings, as_json: Json = False) -> None:
    """Start one server against REDIS_URL and a store shared with the trainers."""
    logs.configure(settings.log_level, process="server")
    _tell_slips()
    redis_url = _shared_redis(settings)
    with until_asked_to_stop(), _listen(settings) as door:
        config = configs.service(settings, redis_url)
        with _importing():
            from hippotune.serving import serve as run_server

        run_server(config, settings.unready_s, door, as_json)


@with_settings(Part.COMMON, Part.TRAINER)
def train(
    settings: Settings,
    with_stdin: Lifeline = False,
) -> None:
    """Start one trainer against REDIS_URL and a store shared with the servers."""
    logs.configure(settings.log_level, process="trainer")
    if not with_stdin:  # else `up` did
        _tell_slips()
    redis_url = _shared_redis(settings)
    stop = threading.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda _sign, _frame: stop.set())
    end_with_terminal()
    if with_stdin:
        end_with_stdin(stop.set)
    with _importing():
        from trainer.worker import Worker

    try:
        worker = Worker.open(configs.trainer(settings, redis_url))
    except (ValueError, FileNotFoundError) as error:
        if not with_stdin:
            raise
        print_error(unnumbered(error))
        raise typer.Exit(UNWORKABLE) from None
    worker.run(stop)


@contextmanager
def _importing() -> Iterator[None]:
    """Searching for garbage again and again among all that torch and timm bring takes a tenth of the start."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _tell_slips() -> None:
    """Warn of variables that look like settings and are none."""
    for slip in slips(os.environ):
        log.warning("unknown variable", reason=slip)


def _sharing_cores(settings: Settings) -> Settings:
    """Half the cores each, unless told otherwise.

    Two processes that both take every core wait for each other's threads most of the time.
    """
    if settings.threads is not None:
        return settings
    from service.cpus import available_cpus

    return settings.model_copy(update={"threads": max(1, available_cpus() // 2)})


def _listen(settings: Settings) -> socket.socket:
    """The server's socket, bound before anything starts. Raises typer.BadParameter when it is taken."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        door = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]
        told = f"cannot listen on {settings.host}:{settings.port}: {reason}"
        if error.errno == errno.EADDRINUSE:
            told += "; --port 0 takes a free one"
        raise typer.BadParameter(told, param_hint="--host, --port") from None
    try:
        _require_keys(settings, door.getsockname()[0])
    except BaseException:
        door.close()
        raise
    return door


def _require_keys(settings: Settings, address: str) -> None:
    """Raise typer.BadParameter when others could reach an address that asks nobody for a key."""
    from service.http.api_keys import Keyring

    if ip_address(address).is_loopback or settings.insecure:
        return
    if not len(Keyring(settings.api_keys_file, settings.api_keys or "")):
        told = (
            f"{address} can be reached from other machines, so the server needs API keys: "
            "`hippotune keys new --role admin --name me --file keys` makes one, --api-keys-file keys reads it; "
            "--insecure serves everybody without"
        )
        raise typer.BadParameter(told, param_hint="--host")


def _shared_redis(settings: Settings) -> str:
    if settings.redis_url is None:
        told = "one part alone needs a Redis to share; `hippotune up` brings its own"
        raise typer.BadParameter(told, param_hint="--redis-url (or REDIS_URL)")
    return settings.redis_url


@contextmanager
def _private_redis(settings: Settings) -> Iterator[str]:
    from exchange.embedded import EmbeddedRedis

    with EmbeddedRedis(settings.store / "redis") as redis:
        yield redis.url
