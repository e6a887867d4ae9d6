from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.cifar100 import unpack


def test_images_are_laid_out_by_class_as_they_are_encoded(tmp_path: Path) -> None:
    encoded = [b"first", b"second one", b"third", b"4"]
    offsets = np.cumsum([0, *(len(one) for one in encoded)])
    np.savez(
        tmp_path / "data.npz",
        blob=np.frombuffer(b"".join(encoded), dtype=np.uint8),
        offsets=offsets,
        label=np.array([1, 0, 1, 1]),
        classes=np.array(["ant", "bee"]),
    )
    unpack(tmp_path / "data.npz", tmp_path / "out", per_class=2)
    found = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in tmp_path.rglob("*.webp")
    }
    assert found == {"ant/1.webp": b"second one", "bee/0.webp": b"first", "bee/2.webp": b"third"}
