"""`python -m hippotune` is the `hippotune` command."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Entry point. Quiet at a Ctrl-C while the rest is imported, which takes half a second."""
    usual = signal.getsignal(signal.SIGINT)
    if usual is signal.default_int_handler:  # a shell's background job hears none
        # Not raised: what is imported may catch it, or make another error of it.
        signal.signal(signal.SIGINT, lambda _sign, _frame: os._exit(128 + signal.SIGINT))
    from hippotune.main import main as run

    signal.signal(signal.SIGINT, usual)
    run()


if __name__ == "__main__":
    main()
