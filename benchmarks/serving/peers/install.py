"""The other servers in a virtual environment of their own.

Not in an extra of ours: under our constraints BentoML and the OpenTelemetry that FastAPI asks for exclude each other,
and together they bring a hundred packages that nothing else needs.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

PACKAGES = {"litserve": "0.2.19", "bentoml": "1.4.39", "ray": "2.60.0"}
ASKED = [f"{'ray[serve]' if name == 'ray' else name}=={version}" for name, version in PACKAGES.items()]


def install(folder: Path) -> Path:
    """The Python of an environment with the other servers, which sees this one's packages behind its own.

    Raises CalledProcessError.
    """
    python = folder.resolve() / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    site = Path(told(python, "import sysconfig; print(sysconfig.get_path('purelib'))"))
    if any(not list(site.glob(f"{name}-{version}.dist-info")) for name, version in PACKAGES.items()):
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *ASKED], check=True)
    ours = [sysconfig.get_path("purelib"), *(path for path in sys.path if path.endswith("site-packages"))]
    (site / "behind.pth").write_text("\n".join(dict.fromkeys([*ours, str(Path.cwd())])) + "\n")
    return python


def told(python: Path, code: str) -> str:
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
