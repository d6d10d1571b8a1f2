"""`pomato reconstruct` on a few frames of the sample: all files, and a clear word where nothing can be read."""

import importlib.util
import json
from pathlib import Path

import pytest

from pomato_ros.cli.main import main
from pomato_ros.sinks.trajectory_files import read_tum


def test_the_sample_is_reconstructed(repository_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = repository_root / "pomato_ros" / "samples" / "room"
    out = tmp_path / "out"
    arguments = ["--out", str(out), "--max-frames", "6", "--chunk", "4", "--overlap", "2", "--json"]
    assert main(["reconstruct", str(sample), *arguments]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["frames"] == 6
    assert summary["chunks"] == 2
    assert len(read_tum(out / "trajectory.tum")[0]) == 6
    for name in ("static.ply", "moving.ply", "index.html", "summary.json", "trajectory.kitti", "colmap/images.txt"):
        assert (out / name).stat().st_size > 0


def test_what_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reconstruct", str(tmp_path / "nothing"), "--out", str(tmp_path)]) == 1
    assert "expected a folder of images" in capsys.readouterr().err


def test_a_viewer_file_is_written_where_the_sdk_is(
    repository_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = repository_root / "pomato_ros" / "samples" / "room"
    status = main(["reconstruct", str(sample), "--out", str(tmp_path), "--max-frames", "4", "--chunk", "4", "--rerun"])
    if importlib.util.find_spec("rerun") is None:
        assert status == 1
        assert "pomato_ros[viewer]" in capsys.readouterr().err
        pytest.skip("Rerun's SDK is not installed (the extra `viewer`)")
    assert status == 0
    assert (tmp_path / "scene.rrd").read_bytes()[:4] in (b"RRF2", b"RRIO")
    assert (tmp_path / "scene.rrd").stat().st_size > 10_000
