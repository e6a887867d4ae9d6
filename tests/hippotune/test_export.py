"""A version as one file, and the page that tells what to do with it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("onnxruntime", reason="the export comes with the extras cpu and gpu")
pytest.importorskip("onnxscript", reason="the export comes with the extras cpu and gpu")

from onnxruntime import InferenceSession

from hippotune.client import Client
from hippotune.commands.export import TOLERANCE
from hippotune.output import Exit
from tests.hippotune.conftest import ROOT, Up, clean_environment, hippotune

PAGE = (ROOT / "docs" / "command-line.md").read_text()
COMMANDS = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
    if line
]


@pytest.fixture(scope="module")
def exported(
    server: Up, backbone: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """The file that the page's own command writes of the version that is served, and what is told of it."""
    (command,) = [words for words in map(str.split, COMMANDS) if words[1] == "export"]
    file = tmp_path_factory.mktemp("export") / command[-1]
    result = hippotune("export", "onnx", file, "--json", "--store", server.store, "--px", "32", *backbone)
    assert result.returncode == 0, result.stderr
    return file, json.loads(result.stdout)


def test_the_file_answers_without_us(server: Up, exported: tuple[Path, dict[str, Any]]) -> None:
    file, facts = exported
    with Client(server.address) as client:
        (served,) = (version for version in client.versions() if version.current)
        Image.linear_gradient("L").save(file.with_name("rose.jpg"))
        answer = client.classify(file.with_name("rose.jpg"), tmax=2)
    assert (facts["version"], facts["labels"]) == (served.version, len(served.labels))
    assert facts["difference"] <= TOLERANCE
    onnx = InferenceSession(file)
    assert [output.name for output in onnx.get_outputs()] == ["scores", "steps", "familiarity"]
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(code.strip().splitlines()) <= 13
    alone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=file.parent)
    assert alone.returncode == 0, alone.stderr
    label, score = alone.stdout.rsplit(maxsplit=1)
    assert label == answer.label
    assert float(score) == pytest.approx(answer.predictions[0].score, abs=TOLERANCE)


def test_a_file_that_answers_otherwise_is_not_kept(
    server: Up, backbone: tuple[str, ...], exported: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    whole, facts = exported
    code = (
        "import shutil\n"
        "from hippotune.commands import export\n"
        "from hippotune.main import main\n"
        "from model import standalone\n"
        f"def again(backbone, checkpoint, path, topk): shutil.copy({str(whole)!r}, path); return {facts['topk']}\n"
        "standalone.export_version, export.TOLERANCE = again, -1\n"
        "main()"
    )
    file = tmp_path / "kept.onnx"
    file.write_bytes(b"the export before")
    asked = ("--store", str(server.store), "--px", "32", *backbone)
    command = [sys.executable, "-c", code, "export", "onnx", str(file), *asked]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=clean_environment())
    assert result.returncode == Exit.FAILED
    (told,) = [line for line in result.stderr.splitlines() if "error" in line]
    assert told.startswith("error: nothing written: scores of the export differ from torch's by ")
    assert "Traceback" not in result.stderr
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"the export before"]


def test_a_store_without_versions_is_told(tmp_path: Path) -> None:
    result = hippotune("export", "onnx", tmp_path / "x.onnx", "--store", tmp_path)
    assert result.returncode == 1
    assert "nothing was learned there yet" in " ".join(result.stderr.split())
    missing = hippotune("export", "onnx", "--version", "7", "--store", tmp_path)
    assert missing.returncode == 1
    assert "the store holds no version" in missing.stderr


def test_the_page_names_every_exit_code_and_real_commands() -> None:
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)} == {0, 2, *Exit}
    for words in (command.split() for command in COMMANDS):
        assert words[0] == "hippotune"
        names = [word for word in words[1:] if re.fullmatch("[a-z]+", word)][
            : 2 if words[1] == "export" else 1
        ]
        told = hippotune(*names, *(["list"] if names in (["tasks"], ["labels"]) else []), "--help")
        assert told.returncode == 0
        flags = [word for word in words if word.startswith("--")]
        assert all(flag in told.stdout for flag in flags), words


def test_the_shell_completes_commands() -> None:
    asked = {"_HIPPOTUNE_COMPLETE": "complete_bash", "COMP_WORDS": "hippotune cla", "COMP_CWORD": "1"}
    program = Path(sys.executable).parent / "hippotune"
    result = subprocess.run([program], capture_output=True, text=True, env=asked, cwd=ROOT)
    assert result.stdout.split() == ["classify"]
