"""The other servers in a virtual environment of their own: they bring a hundred packages that nothing else needs."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

PACKAGES = ("litserve==0.2.19", "bentoml==1.4.39", "ray[serve]==2.60.0")


def install(folder: Path) -> Path:
    """The Python of an environment with the other servers, which sees this one's packages behind its own."""
    python = folder.resolve() / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    asked = subprocess.run([python, "-c", "import litserve, bentoml, ray"], capture_output=True, check=False)
    if asked.returncode != 0:
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *PACKAGES], check=True)
    theirs = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    ours = "\n".join(
        {sysconfig.get_path("purelib"), *(path for path in sys.path if path.endswith("site-packages"))}
    )
    (Path(theirs.stdout.strip()) / "behind.pth").write_text(f"{ours}\n{Path.cwd()}\n")
    return python
