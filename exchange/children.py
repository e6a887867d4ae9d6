"""Child processes that run for as long as we do."""

import os
import subprocess
import threading
import time
from collections.abc import Callable

import structlog

FIRST_PAUSE_S = 0.5
STEADY_S = 60.0
"""A child that ran this long was fine; its next death starts at the first pause again."""
PATIENCE_S = 20.0
"""How long a child may take to stop before it is killed."""
UNWORKABLE = os.EX_CONFIG
"""Exit code of a child whose settings cannot work: it would end so however often it is started."""

log = structlog.get_logger()


class Keeper:
    """Starts a child again whenever it ends by itself, after pauses that double up to `longest_pause_s` seconds.

    spawn: starts it; may raise OSError, and is then called again after a pause.
    last_words: what the log is told of one that ended.
    hopeless: called when the first one ends as UNWORKABLE, which is then not started again. A later one is: what the
    first could work with may come back.
    """

    def __init__(
        self,
        name: str,
        spawn: Callable[[], subprocess.Popen[bytes]],
        longest_pause_s: float,
        last_words: Callable[[], str] = lambda: "",
        hopeless: Callable[[], object] | None = None,
    ) -> None:
        self._name, self._spawn, self._last_words, self._hopeless = name, spawn, last_words, hopeless
        self._longest_pause_s = longest_pause_s
        self._child: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._keep, name=f"keep-{name}", daemon=True)

    @property
    def pid(self) -> int | None:
        """Process id of the child that was started last; None before the first."""
        return self._child.pid if self._child else None

    def start(self) -> subprocess.Popen[bytes]:
        """Start the child, for those who want to see it come up before they `keep` it. Raises OSError."""
        if self._child is not None and self._child.stdin is not None:
            self._child.stdin.close()
        self._child = self._spawn()
        return self._child

    def keep(self) -> None:
        """From now on, in a thread, until `stop`; started there unless it runs."""
        self._thread.start()

    def stop(self) -> None:
        """Returns once the child is gone."""
        with self._lock:
            self._stopping.set()
        if self._child is not None:
            stop(self._child)
        if self._thread.is_alive():
            self._thread.join()

    def _keep(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            why = self._run()
            if self._stopping.is_set():
                return
            if self._hopeless is not None and why.get("code") == UNWORKABLE:
                self._hopeless()
                return
            if "code" in why:
                self._hopeless = None
            if time.monotonic() - began > STEADY_S:
                pause_s = FIRST_PAUSE_S
            log.error("a process does not run, starting it", process=self._name, pause_s=pause_s, **why)
            self._stopping.wait(pause_s)
            pause_s = min(2 * pause_s, self._longest_pause_s)

    def _run(self) -> dict[str, object]:
        """Run the child to its end, and tell why it does not run any more."""
        try:
            child = self._running()
        except OSError as error:  # too many processes, say, which passes
            return {"reason": str(error)}
        return {} if child is None else {"code": child.wait(), "said": self._last_words()}

    def _running(self) -> subprocess.Popen[bytes] | None:
        """The child, started unless it runs; None when it is to stop. Raises OSError."""
        with self._lock:
            if self._stopping.is_set():
                return None
            if self._child is None or self._child.poll() is not None:
                self.start()
            return self._child


def stop(child: subprocess.Popen[bytes]) -> None:
    """Ask a child to stop, and kill it if it does not. Returns once it is gone."""
    child.terminate()
    try:
        child.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    if child.stdin is not None:
        child.stdin.close()
