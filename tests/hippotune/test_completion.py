"""What bash offers behind a command, asked as bash asks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hippotune.client import Client
from tests.hippotune.conftest import Up, clean_environment


def completed(typed: str, url: str, **settings: str) -> list[str]:
    """What bash offers for a line."""
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" ")), "_HIPPOTUNE_COMPLETE": "complete_bash"}
    result = subprocess.run(
        [Path(sys.executable).with_name("hippotune")],
        capture_output=True,
        text=True,
        timeout=60,
        env=clean_environment() | words | {"HIPPOTUNE_URL": url} | settings,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_a_shell_completes_commands_flags_and_what_the_server_knows(server: Up, client: Client) -> None:
    task, version = client.tasks()[-1].id, client.versions()[0].version
    assert completed("hippotune cl", server.address) == ["classify"]
    assert completed("hippotune classify --budget", server.address) == ["--budget-ms"]
    assert completed("hippotune tasks --js", server.address) == ["--json"]
    assert {"list", "retry", task} <= set(completed("hippotune tasks ", server.address))
    assert completed(f"hippotune forget {task[:8]}", server.address) == [task]
    assert str(version) in completed("hippotune activate ", server.address)
    assert {"0", "1"} <= set(completed("hippotune classify --label ", server.address))
    assert {"list", "rename", "forget"} <= set(completed("hippotune labels ", server.address))
    assert completed("hippotune labels --con", server.address) == ["--contains"]
    assert {"0", "1"} <= set(completed("hippotune labels forget ", server.address))
    assert completed("hippotune labels rename 0 1", server.address) == ["1"]
    assert completed("hippotune activate ", "http://127.0.0.1:9") == []
    assert completed("hippotune activate ", server.address, HIPPOTUNE_API_KEY="se\ncret") == []
