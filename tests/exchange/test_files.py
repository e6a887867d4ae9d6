"""What a power cut must not undo."""

from __future__ import annotations

from pathlib import Path

import pytest

from exchange import files


def test_every_folder_on_the_way_is_made_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    durable: list[Path] = []
    monkeypatch.setattr(files, "make_durable", durable.append)
    files.make_folder(tmp_path / "store" / "blobs")
    assert (tmp_path / "store" / "blobs").is_dir()
    assert durable == [tmp_path, tmp_path / "store"]
    files.make_folder(tmp_path / "store" / "blobs")
    assert len(durable) == 2
