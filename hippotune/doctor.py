"""What `hippotune doctor` looks at: whether this machine can run the service, how well, and what holds it back."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from statistics import median
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

from hippotune import configs
from hippotune.client import Client
from hippotune.environment import slips
from hippotune.errors import HippoTuneError, Refused
from hippotune.settings import Settings

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from service.runtimes.base import Classifier
    from service.runtimes.torch import TorchRuntime

PACKAGES = ("torch", "torchvision", "timm", "fastapi", "redis")
EXTRAS = {
    "cpu": (("onnxruntime", "onnxscript"), "the onnx runtime and exports"),
    "data": (("datasets", "pyarrow"), "Hugging Face sets and parquet"),
}
"""Packages that each extra brings, and what there is not without."""
_KEY = "name a key with HIPPOTUNE_API_KEY"
ADVICE = {401: _KEY, 403: _KEY, 503: "bring back what is away; the server goes on by itself"}
"""On a server that refuses, by its status."""
LITTLE_BYTES = 2 << 30
SLOW_SYNC_MS = 20.0
SLOW_PING_MS = 2.0


class Verdict(StrEnum):
    """ok: as it should be.  note: works, and could be better.  wrong: does not work."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. advice: what to do about it, "" where nothing."""

    name: str
    verdict: Verdict
    found: str
    advice: str = ""


def examine(settings: Settings) -> Iterator[Finding]:
    """Every finding, as soon as it is made; the last ones take a few seconds."""
    system = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Finding("python", Verdict.OK, system)
    yield from variables()
    yield from packages()
    yield cpus(settings)
    yield guarded("device", lambda: device(settings))
    yield store(settings.store)
    yield guarded("redis", lambda: redis(settings))
    yield guarded("server", lambda: server(settings))
    yield from speed(settings)


def guarded(name: str, look: Callable[[], Finding]) -> Finding:
    """What stops a look is a finding too."""
    try:
        return look()
    except Exception as error:  # a diagnosis must go on whatever it meets
        return Finding(name, Verdict.WRONG, f"{type(error).__name__}: {error}")


def variables() -> Iterator[Finding]:
    """Those that look like settings and are none."""
    for slip in slips(os.environ):
        yield Finding("variables", Verdict.NOTE, slip, "`hippotune up --help` names all settings")


def packages() -> Iterator[Finding]:
    installed: dict[str, str] = {}
    extra_names = chain.from_iterable(names for names, _ in EXTRAS.values())
    for name in (*PACKAGES, *extra_names):
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    yield Finding("packages", Verdict.OK, ", ".join(f"{name} {found}" for name, found in installed.items()))
    for extra, (names, lost) in EXTRAS.items():
        if missing := [name for name in names if name not in installed]:
            told = f"{', '.join(missing)} not installed: without, there is no {lost}"
            yield Finding("extras", Verdict.NOTE, told, f"pip install -e '.[{extra}]' in the checkout")
    yield torchvision()


def torchvision() -> Finding:
    """A torchvision that was not built for this torch fails on import, and timm with it."""
    try:
        import torchvision as imported
    except Exception as error:
        told = "install torch and torchvision as the pair of one index"
        return Finding("torchvision", Verdict.WRONG, f"does not match torch: {error}", told)
    return Finding("torchvision", Verdict.OK, f"{imported.__version__} matches torch")


def cpus(settings: Settings) -> Finding:
    from service.cpus import available_cpus

    there, granted, load = os.cpu_count() or 1, available_cpus(), os.getloadavg()[0]
    threads = settings.threads or granted
    told = f"{granted} of {there} granted to this process (affinity, cgroup quota), {threads} threads, load {load:.1f}"
    if threads > granted:
        advice = f"set --threads {granted} or less: more threads than processors wait for each other"
        return Finding("cpus", Verdict.NOTE, told, advice)
    if load > there:
        return Finding("cpus", Verdict.NOTE, told, "others keep the processors busy; answers wait for them")
    return Finding("cpus", Verdict.OK, told)


def device(settings: Settings) -> Finding:
    """The device that `--device` names or that is taken without it, as server and trainer choose it."""
    import torch

    from model.device import pick_device

    try:
        chosen = pick_device(settings.device)
    except ValueError as error:
        told = f"{error}; torch {torch.__version__}"
        return Finding("device", Verdict.WRONG, told, "leave --device out, or install a torch built for it")
    if chosen.type == "cuda":
        facts = torch.cuda.get_device_properties(chosen)
        return Finding("device", Verdict.OK, f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB")
    if chosen.type != "cpu":
        return Finding("device", Verdict.OK, str(chosen))
    if settings.device is None and shutil.which("nvidia-smi"):
        told = f"torch {torch.__version__} sees no GPU, though nvidia-smi is there"
        return Finding("device", Verdict.NOTE, told, "install a torch built for CUDA; look at the driver")
    return Finding("device", Verdict.OK, f"cpu ({torch.backends.cpu.get_cpu_capability()})")


def store(root: Path) -> Finding:
    """Whether the store can be written, how fast a file is safe there, and how much fits."""
    place = next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.exists())
    try:
        began = time.perf_counter()
        with NamedTemporaryFile(dir=place) as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
            took_ms = 1000 * (time.perf_counter() - began)
    except OSError as error:
        told = f"{place} cannot be written: {error.strerror}"
        return Finding(
            "store", Verdict.WRONG, told, "choose another with --store, or give this user the right"
        )
    free = shutil.disk_usage(place).free
    told = f"{root.absolute()}, {free / 2**30:.0f} GiB free, a file is safe after {took_ms:.1f} ms"
    if free < LITTLE_BYTES:
        return Finding(
            "store", Verdict.NOTE, told, "a version needs its pools and statistics; lower --keep-versions"
        )
    if took_ms > SLOW_SYNC_MS:
        return Finding(
            "store", Verdict.NOTE, told, "slow to sync: accepting tasks and publishing take that much longer"
        )
    return Finding("store", Verdict.OK, told)


def redis(settings: Settings) -> Finding:
    from exchange.connection import connect, reaching_redis
    from exchange.embedded import OLDEST, find_server
    from exchange.errors import ExchangeUnavailable

    if settings.redis_url is None:
        return Finding("redis", Verdict.OK, f"`hippotune up` starts its own: {find_server()}")
    client = connect(settings.redis_url)
    try:
        with reaching_redis():
            client.ping()
            began = time.perf_counter()
            client.ping()
            took_ms = 1000 * (time.perf_counter() - began)
            facts = client.info()
    except ExchangeUnavailable as error:
        return Finding("redis", Verdict.WRONG, str(error), "start it, or correct --redis-url (REDIS_URL)")
    finally:
        client.close()
    number = str(facts["redis_version"])
    told = f"{number} at {settings.redis_url.rpartition('@')[2]}, answers in {took_ms:.2f} ms"
    if tuple(map(int, number.split(".")[:2])) < OLDEST:
        return Finding("redis", Verdict.WRONG, told, f"{OLDEST[0]}.{OLDEST[1]} or newer is needed")
    if facts.get("maxmemory_policy") != "noeviction":
        return Finding(
            "redis", Verdict.WRONG, told, "set maxmemory-policy noeviction: it would drop accepted tasks"
        )
    if not facts.get("aof_enabled"):
        return Finding(
            "redis", Verdict.NOTE, told, "set appendonly yes: accepted tasks would not survive a restart"
        )
    if took_ms > SLOW_PING_MS:
        return Finding(
            "redis", Verdict.NOTE, told, "far away or busy: every step of a task takes that much longer"
        )
    return Finding("redis", Verdict.OK, told)


def server(settings: Settings) -> Finding:
    """A running server is not needed to be well."""
    with Client(settings.url, api_key=settings.api_key, timeout=5.0, retries=0) as client:
        try:
            ready, served = client.ready(), [v.version for v in client.versions(labels=False) if v.current]
        except Refused as error:
            told = f"{settings.url} is there and refuses: {error}"
            return Finding("server", Verdict.NOTE, told, ADVICE.get(error.status, "--url names another"))
        except HippoTuneError as error:
            return Finding("server", Verdict.NOTE, str(error), "`hippotune up` starts one")
    answers = f"version {served[0]} answers" if served else "nothing learned yet"
    if not ready:
        return Finding("server", Verdict.NOTE, f"{settings.url} is there and not ready", "ask /readyz why")
    return Finding("server", Verdict.OK, f"{settings.url} is ready, {answers}")


def speed(settings: Settings) -> Iterator[Finding]:
    """Load the backbone, time it, and let `auto` choose as the server does."""
    from exchange.errors import BackboneChanged, VersionUnreadable
    from exchange.manifests import BackboneRecord
    from exchange.shelf import Shelf
    from service.cpus import available_cpus

    try:
        from service.runtimes.torch import TorchRuntime

        began = time.perf_counter()
        runtime = TorchRuntime.load(
            configs.backbone(settings), settings.device, settings.threads or available_cpus()
        )
    except Exception as error:  # timm and torch raise what they like
        told = f"{settings.backbone}: {type(error).__name__}: {error}"
        yield Finding("backbone", Verdict.WRONG, told, "correct --backbone and --weights")
        return
    took_s, facts = time.perf_counter() - began, runtime.backbone
    told = f"{facts.identity.name}, {facts.px} px, {facts.dim} channels, {facts.depth} blocks, loaded in {took_s:.1f} s"
    try:
        Shelf(settings.store / "versions").check_backbone(BackboneRecord.of(facts.identity))
    except (BackboneChanged, VersionUnreadable) as error:
        yield Finding(
            "backbone", Verdict.WRONG, f"{told}; {error}", "correct --store, or --backbone and --weights"
        )
    else:
        yield Finding("backbone", Verdict.OK, told)
    yield guarded("runtime", lambda: chosen_runtime(settings, runtime))


def chosen_runtime(settings: Settings, runtime: TorchRuntime) -> Finding:
    """What `--runtime auto` takes here and why; measured where the graphs of an earlier start are in the store."""
    from model.sample import sample_version
    from service.cpus import available_cpus
    from service.runtimes.auto import AutoRuntime
    from service.runtimes.graphs import Graphs
    from service.runtimes.load import ADVICE, missing_packages

    loop = configs.loop(settings)
    sample = sample_version(runtime.backbone, loop)
    told = f"torch answers one image in {milliseconds(runtime.prepare(sample), sample):.1f} ms"
    if runtime.device.type != "cpu":
        return Finding("runtime", Verdict.OK, f"torch, as the device is {runtime.device}; {told}")
    if lacking := missing_packages():
        return Finding("runtime", Verdict.NOTE, f"torch alone, {', '.join(lacking)} missing; {told}", ADVICE)
    graphs = Graphs(configs.backbone(settings), runtime.identity, settings.store / "cache")
    if not graphs.ready(loop):
        told = f"torch at first: {told}; the first version served exports onnx and measures it"
        return Finding("runtime", Verdict.OK, told)
    auto = AutoRuntime(runtime, graphs, settings.threads or available_cpus())
    found = Finding("runtime", Verdict.OK, f"{auto.prepare(sample).name}; {told}")
    auto.close()
    return found


def milliseconds(classifier: Classifier, sample: Checkpoint, passes: int = 5) -> float:
    """One image through the network: the median of a few passes, the first left out."""
    from service.runtimes.base import grey_images

    pixels, times = grey_images(sample.identity.px), []
    for _ in range(1 + passes):
        began = time.perf_counter()
        classifier.classify(pixels, [sample.loop.budget], explain=False)
        times.append(1000 * (time.perf_counter() - began))
    return median(times[1:])
