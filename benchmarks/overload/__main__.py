"""Ten times what the server can do: `python -m benchmarks.overload --out benchmarks/results/overload.json`.

Saturation is as many callers as the server admits, none of them refused: the most it answers a second, and the p99
that goes with it. Then, open loop, ten times that rate, whatever becomes of it; deadlines nobody can meet; a crowd
that asks on without pause, and how long the unluckiest waits; then, while one caller asks on, clients that send
nothing, half, or a byte a second; and SIGTERM with requests under way.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from benchmarks.machine import keep
from benchmarks.overload.load import BROKEN, Caller, Told, closed_loop, get, open_loop, post
from benchmarks.overload.rude import affordable, half_sent, idle
from benchmarks.running import Up, up

PLACES = 64
"""Images the server admits (--queue-images), hence callers at saturation."""
IDLE, HALF, CROWD = 10_000, 400, 400
TIMES = 10


def main(
    quick: Annotated[bool, typer.Option("--quick", help="A fifth of the time.")] = False,
    out: Annotated[Path | None, typer.Option(help="File for the figures.")] = None,
) -> None:
    """Measure, print, keep."""
    seconds = 4.0 if quick else 20.0
    options = ("--threads", "1", "--epochs", "0", "--queue-images", str(PLACES), "--runtime", "torch")
    with up(*options) as running:
        figures = asyncio.run(measured(running, seconds))
    keep({"command": "python -m benchmarks.overload" + (" --quick" if quick else ""), **figures}, out)


async def measured(running: Up, seconds: float) -> dict[str, Any]:
    """Everything, the server's end last."""
    request = post("/classify", running.image, running.key)
    callers = [Caller(running.address, request) for _ in range(PLACES)]
    await closed_loop(callers, 1.0)
    saturated = await closed_loop(callers, seconds)
    rate = TIMES * saturated.per_second()
    overloaded = await open_loop(running.address, request, rate, seconds)
    return {
        "places": PLACES,
        "saturation": told(saturated),
        "overload": {
            "offered_per_second": rate,
            **told(overloaded),
            "p99_ratio": overloaded.p99_ms() / saturated.p99_ms(),
            "goodput": overloaded.per_second() / saturated.per_second(),
            "refused_that_say_when": overloaded.told_when / max(1, overloaded.counts[429]),
        },
        "deadlines": await deadlines(running, seconds),
        "crowd": await crowd(running, seconds),
        "rude": await rude(running, request, seconds),
        "stopping": await stopping(running, callers),
    }


def told(load: Told) -> dict[str, Any]:
    return {"answers_per_second": load.per_second(), "p99_ms": load.p99_ms(), "statuses": load.counts}


async def deadlines(running: Up, seconds: float) -> dict[str, Any]:
    """Half the places ask for an answer within 1 ms, which only 504 is."""
    hasty = post("/classify?timeout_ms=1", running.image, running.key)
    callers = [Caller(running.address, hasty) for _ in range(PLACES // 2)]
    return {"statuses": (await closed_loop(callers, seconds / 4)).counts}


async def crowd(running: Up, seconds: float) -> dict[str, Any]:
    """Many connections ask for next to nothing, again as soon as they are answered, as health checks would."""
    load = await closed_loop(
        [Caller(running.address, get("/healthz", running.key)) for _ in range(CROWD)], seconds / 2
    )
    return {"connections": CROWD, **told(load), "longest_ms": 1000 * max(load.seconds[200])}


async def rude(running: Up, request: bytes, seconds: float) -> dict[str, Any]:
    """One caller asks on while others behave badly; alone first, to compare."""
    patient = [Caller(running.address, request)]
    figures = {"alone": told(await closed_loop(patient, seconds / 2))}
    wanted = affordable(IDLE)
    async with idle(running.address, wanted) as held:
        during = await closed_loop(patient, seconds)
        figures["idle"] = {"connections": held, "asked_for": IDLE, **told(during)}
    async with half_sent(running.address, running.key, HALF) as held:
        during = await closed_loop(patient, seconds)
        figures["half_sent_and_trickling"] = {"connections": held, **told(during)}
    return figures


async def stopping(running: Up, callers: list[Caller]) -> dict[str, Any]:
    """SIGTERM while every place is taken: what was sent before it is answered, and the process ends well."""
    under_way = Told()
    asked = [asyncio.ensure_future(caller.ask(under_way)) for caller in callers]
    while await admitted(running) + sum(under_way.counts.values()) < len(asked):
        await asyncio.sleep(0.01)
    already = sum(under_way.counts.values())
    running.process.send_signal(signal.SIGTERM)
    ready = Told()
    await asyncio.sleep(0.25)  # uvicorn looks for the signal ten times a second
    status = await Caller(running.address, get("/readyz", running.key)).ask(ready)
    await asyncio.gather(*asked)
    code = await asyncio.to_thread(running.process.wait, 60)
    return {
        "answered_before": already,
        "under_way": len(asked) - already,
        "statuses": under_way.counts,
        "lost": under_way.counts[BROKEN],
        "readyz_meanwhile": "refused" if status == BROKEN else status,
        "exit_code": code,
    }


async def admitted(running: Up) -> int:
    """Images the server has taken and not yet answered, as it says itself."""

    def read() -> int:
        text = httpx.get(f"{running.address}/metrics", headers={"X-API-Key": running.key}).text
        (line,) = (line for line in text.splitlines() if line.startswith("hippotune_queue_depth "))
        return int(float(line.split()[1]))

    return await asyncio.to_thread(read)


if __name__ == "__main__":
    typer.run(main)
