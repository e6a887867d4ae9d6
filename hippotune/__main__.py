"""`python -m hippotune` is the `hippotune` command."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Entry point. Quiet at a Ctrl-C while the rest is imported, which takes half a second."""
    usual = signal.getsignal(signal.SIGINT)
    if usual is signal.default_int_handler:  # a shell's background job hears none
        # Not raised: what is imported may catch it, or make another error of it.
        signal.signal(signal.SIGINT, lambda _sign, _frame: os._exit(128 + signal.SIGINT))
    try:
        from hippotune.main import main as run
    except ModuleNotFoundError as error:  # the client alone was installed, which needs less
        sys.exit(f"error: the command line needs {error.name}, which comes with `pip install` of the whole")

    signal.signal(signal.SIGINT, usual)
    run()


if __name__ == "__main__":
    main()
