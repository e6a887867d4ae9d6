"""What a figure was measured on, and how it is kept."""

from __future__ import annotations

import datetime
import json
import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Machine:
    """processor: as the system names it.  cores: those this process may use.  load: runnable threads, 1 minute mean."""

    processor: str
    cores: int
    load: float
    system: str
    python: str
    versions: dict[str, str]

    @classmethod
    def here(cls) -> Machine:
        return cls(
            processor=processor(),
            cores=len(os.sched_getaffinity(0)),
            load=os.getloadavg()[0],
            system=f"{platform.system()} {platform.machine()}",
            python=platform.python_version(),
            versions={name: version(name) for name in ("torch", "timm", "onnxruntime") if installed(name)},
        )


def installed(name: str) -> bool:
    """Whether a package is there: the onnx runtime is an extra."""
    return any(distributions(name=name))


def processor() -> str:
    """The processor's name, from the kernel where it tells."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def document(figures: dict[str, Any]) -> dict[str, Any]:
    """Figures with the machine and the day."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": asdict(Machine.here()),
        **figures,
    }


def keep(figures: dict[str, Any], out: Path | None) -> None:
    """Print figures as JSON and, when asked, write them to a file, with the machine and the day."""
    text = json.dumps(document(figures), indent=2)
    print(text)
    if out is not None:
        out.write_text(text + "\n")
