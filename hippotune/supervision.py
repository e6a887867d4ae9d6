"""Processes that belong together: started, watched and stopped as one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from exchange.children import Keeper, stop
from hippotune.errors import HippoTuneError

LONGEST_PAUSE_S = 30.0


class Supervisor:
    """Keeps one child process running for as long as the context lasts.

    The child gets its own session, so that a Ctrl-C in the terminal reaches only us and we decide the order
    of stopping, and a pipe as stdin that nobody writes to: it ends when we do, however we end.

    hopeless: called when its settings cannot work; see `Keeper`.  gave_up: whether they cannot.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        hopeless: Callable[[], object] = lambda: None,
    ) -> None:
        self._command, self._environment, self._hopeless = command, environment, hopeless
        self._keeper = Keeper(name, self._spawn, LONGEST_PAUSE_S, hopeless=self._give_up)
        self.gave_up = False

    def __enter__(self) -> Self:
        self._keeper.keep()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keeper.stop()

    def _give_up(self) -> None:
        self.gave_up = True
        self._hopeless()

    def _spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603  # our own command, no shell
            self._command, env=dict(self._environment), stdin=subprocess.PIPE, start_new_session=True
        )


def hippotune(*arguments: str) -> list[str]:
    """The command line of one of our own commands, in this Python."""
    return [sys.executable, "-m", "hippotune", *arguments]


@contextmanager
def everything(
    store: Path, *options: str, environment: Mapping[str, str] = os.environ
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Runs `hippotune up` on a store: its address and process. Its log is `up.log` there.

    It ends with us, and never by a Ctrl-C that is meant for us. Raises HippoTuneError when it does not start.
    """
    store.mkdir(parents=True, exist_ok=True)
    log = store / "up.log"
    command = hippotune("up", "--json", "--end-with-stdin", "--store", str(store), *options)
    with log.open("wb") as errors:
        child = subprocess.Popen(  # noqa: S603  # our own command, no shell
            command,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    try:
        line = child.stdout.readline() if child.stdout else b""
        if not line:
            child.wait()
            lines = log.read_text(errors="replace").strip().splitlines()
            told = [line for line in lines if not line.startswith("{")]  # the others are its log
            raise HippoTuneError("`hippotune up` did not start:\n" + "\n".join((told or lines)[-8:]))
        yield json.loads(line)["address"], child
    finally:
        stop(child)
        if child.stdout is not None:
            child.stdout.close()


def end_with_stdin(end: Callable[[], None]) -> None:
    """Call `end` once stdin is closed, which is when the process that holds its other end is gone."""

    def wait() -> None:
        with suppress(OSError):
            while os.read(0, 1024):
                pass
        end()

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


def ask_to_stop() -> None:
    """End this process as a SIGTERM from elsewhere would."""
    os.kill(os.getpid(), signal.SIGTERM)


def end_with_terminal() -> None:
    """Take SIGHUP, which a terminal sends when it is closed, for a SIGTERM; unless it is ignored, as `nohup` has it.

    A SIGTERM is really raised: the server that runs meanwhile has a handler of its own for it, and none for SIGHUP.
    """
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda _sign, _frame: signal.raise_signal(signal.SIGTERM))


@contextmanager
def until_asked_to_stop() -> Iterator[None]:
    """Leave the context at the first SIGINT, SIGTERM or SIGHUP; further ones do not disturb the cleaning up."""
    asked = (signal.SIGINT, signal.SIGTERM)

    def leave(_sign: int, _frame: FrameType | None) -> None:
        for sign in asked:
            signal.signal(sign, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {sign: signal.signal(sign, leave) for sign in asked}
    before[signal.SIGHUP] = signal.getsignal(signal.SIGHUP)
    end_with_terminal()
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)
