"""That the async client leaves the event loop to others while it reads and packs."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hippotune import AsyncClient, Unreachable
from hippotune.packing import as_archive

PNG = b"\x89PNG\r\n\x1a\n"
NOBODY = "http://127.0.0.1:9"


def classify_many(client: AsyncClient, image: Path) -> Awaitable[object]:
    return client.classify_many([image])


def submit_pairs(client: AsyncClient, image: Path) -> Awaitable[object]:
    return client.submit([(image, "0")])


@pytest.mark.timeout(60)
@pytest.mark.parametrize("send", [AsyncClient.classify, classify_many, submit_pairs])
def test_others_run_while_the_async_twin_reads_a_file(
    send: Callable[[AsyncClient, Path], Awaitable[object]], tmp_path: Path
) -> None:
    """A pipe can be read once somebody writes to it: here another coroutine, if it is let."""
    pipe = tmp_path / "digit.png"
    os.mkfifo(pipe)

    async def both() -> None:
        async with AsyncClient(NOBODY, retries=0) as nobody:
            sending = asyncio.ensure_future(send(nobody, pipe))
            await asyncio.sleep(0)
            assert not sending.done()
            await asyncio.to_thread(pipe.write_bytes, PNG)
            with pytest.raises(Unreachable):
                await sending

    asyncio.run(both())


@dataclass(frozen=True)
class HeldUp:
    """`as_archive`, held up before it packs and before it tidies up."""

    may_pack: threading.Event = field(default_factory=threading.Event)
    packed: list[Path] = field(default_factory=list)
    leaving: threading.Event = field(default_factory=threading.Event)
    may_leave: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def as_archive(self, source: Path) -> Iterator[tuple[Path, str]]:
        assert self.may_pack.wait(60)
        with as_archive(source) as (archive, media):
            self.packed.append(archive)
            yield archive, media
            self.leaving.set()
            assert self.may_leave.wait(60)


@pytest.fixture
def held_up(monkeypatch: pytest.MonkeyPatch) -> HeldUp:
    held_up = HeldUp()
    monkeypatch.setattr("hippotune.async_client.as_archive", held_up.as_archive)
    return held_up


def test_others_run_while_the_async_twin_packs(tree: Path, held_up: HeldUp) -> None:
    async def both() -> None:
        async with AsyncClient(NOBODY, retries=0) as nobody:
            sending = asyncio.ensure_future(nobody.submit(tree))
            await asyncio.sleep(0)
            held_up.may_pack.set()
            await asyncio.to_thread(held_up.leaving.wait, 60)
            held_up.may_leave.set()
            with pytest.raises(Unreachable):
                await sending

    asyncio.run(both())
    assert [archive.exists() for archive in held_up.packed] == [False]


def test_what_is_packed_for_nobody_goes(tree: Path, held_up: HeldUp) -> None:
    async def cancelled() -> None:
        async with AsyncClient(NOBODY, retries=0) as nobody:
            sending = asyncio.ensure_future(nobody.submit(tree))
            await asyncio.sleep(0)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            held_up.may_pack.set()

    asyncio.run(cancelled())  # ends once its threads have
    assert [archive.exists() for archive in held_up.packed] == [False]
