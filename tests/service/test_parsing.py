"""Made-up input to whatever parses it: a refusal or an answer, nothing else; and what must not be there at all."""

from __future__ import annotations

import ast
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks.fuzz.parsers import Target, attempt, targets
from model import preprocess
from service.http.problems import Problem
from service.uploads.decode import decode, most_scans, scans
from tests.service.support import many_scans

TARGETS = targets()
TOO_SLOW = HealthCheck.too_slow
ROOMS = ("model", "exchange", "trainer", "service", "hippotune")
ROOT = Path(__file__).parents[2]


def damaged(seed: bytes) -> st.SearchStrategy[bytes]:
    """An input that was whole, with a piece replaced."""
    places = st.tuples(st.integers(0, len(seed)), st.integers(0, 40), st.binary(max_size=40))
    return places.map(lambda place: seed[: place[0]] + place[2] + seed[place[0] + place[1] :])


def inputs(target: Target) -> st.SearchStrategy[bytes]:
    return st.one_of(st.binary(max_size=300), *map(damaged, target.seeds))


@pytest.mark.parametrize("name", TARGETS)
def test_made_up_input_is_refused_or_taken(name: str) -> None:
    target = TARGETS[name]

    # The same each time: `benchmarks.fuzz` looks for what is new. And however long a busy machine takes.
    @settings(
        max_examples=150, deadline=None, database=None, derandomize=True, suppress_health_check=[TOO_SLOW]
    )
    @given(inputs(target))
    def made_up(data: bytes) -> None:
        attempt(target, data)

    made_up()
    for seed in target.seeds if name not in ("form", "body") else ():
        target.run(seed)


def test_a_refusal_that_cannot_be_written_is_a_finding() -> None:
    def refuse(_: bytes) -> None:
        raise Problem(422, "name is \udc80")

    with pytest.raises(TypeError, match="surrogates"):
        attempt(Target(refuse, (), 1), b"")


@pytest.mark.parametrize(
    "kind", ["GIF", "BMP", "TIFF", "PPM", "ICO", "TGA", "PCX", "JPEG2000", "DDS", "ICNS", "SGI"]
)
def test_other_decoders_are_never_called(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even behind the first bytes of a format that is accepted."""
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, kind)
    called: list[str] = []
    Image.init()
    for name, (factory, accepts) in list(Image.OPEN.items()):
        if name not in ("JPEG", "PNG", "WEBP"):

            def opened(*_: object, name: str = name) -> None:
                called.append(name)
                raise AssertionError(name)

            monkeypatch.setitem(Image.OPEN, name, (opened, accepts))
        del factory
    for data in (
        buffer.getvalue(),
        b"\xff\xd8\xff" + buffer.getvalue(),
        b"\x89PNG\r\n\x1a\n" + buffer.getvalue(),
    ):
        with pytest.raises(Problem):
            decode(data, 32, 1_000_000)
        with pytest.raises(Exception, match=r".*"):
            preprocess.decode(data, 32, 1_000_000)
    assert called == []


def calls(tree: ast.AST) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_of_fewest_bytes_is_whole(progressive: bool) -> None:
    """One grey, at the lowest quality: as near as a sound file comes to having too few for its pixels."""
    buffer = io.BytesIO()
    Image.new("L", (2000, 2000), 128).save(buffer, "JPEG", quality=1, optimize=True, progressive=progressive)
    assert decode(buffer.getvalue(), 32, 4_000_000).shape == (3, 32, 32)


def test_what_stands_around_the_scans_of_a_jpeg_is_none_of_them() -> None:
    """Its metadata may hold anything, and phones put a film behind its end."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48)).save(buffer, "JPEG", progressive=True, restart_marker_blocks=1)
    note = b"\xff\xfe" + (2 + 80).to_bytes(2) + b"\xff\xda" * 40
    whole = buffer.getvalue()
    for data in (whole, whole[:2] + note + whole[2:], whole + b"\xff\xda" * 40, many_scans(64, 32)):
        assert decode(data, 32, 1_000_000).shape == (3, 32, 32)
    assert most_scans(whole) == scans(whole) == 10
    for data in (many_scans(64, 33), whole[:-2] + many_scans(64, 40)[2:], many_scans(64, 33)[:-2]):
        with pytest.raises(Problem, match="more than 32 scans"):
            decode(data, 32, 1_000_000)


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_unpickles_evaluates_or_starts_a_shell(room: str) -> None:
    for file in (ROOT / room).rglob("*.py"):
        tree = ast.parse(file.read_text())
        modules = {
            alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
        }
        modules |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert modules.isdisjoint({"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}), file
        forbidden = {"torch.load", "eval", "exec", "os.system", "os.popen", "yaml.load", "np.load"}
        assert calls(tree).isdisjoint(forbidden), file
        if room in ("service", "exchange", "model"):
            assert modules.isdisjoint({"requests", "httpx", "urllib.request", "aiohttp"}), f"{file} fetches"


def test_memory_that_is_short_is_no_fault_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(preprocess, "to_pixels", short)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    with pytest.raises(MemoryError):
        decode(buffer.getvalue(), 32, 1_000_000)
