"""Two short recordings of the bundled sample and a broken one."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def recordings(repository_root: Path, tmp_path: Path) -> Path:
    """A folder of recordings: ``a`` and ``b`` of five frames each, and ``broken``."""
    frames = repository_root / "pomato_ros" / "samples" / "room" / "frames"
    root = tmp_path / "recordings"
    for name, first in (("a", 0), ("b", 20)):
        (root / name).mkdir(parents=True)
        for number in range(first, first + 5):
            shutil.copy(frames / f"{number:05d}.jpg", root / name)
    (root / "broken").mkdir()
    (root / "broken" / "0.png").write_text("no image")
    (root / "broken" / "1.png").write_text("none either")
    return root
