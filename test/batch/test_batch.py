"""A batch does everything once, leaves no half file, and one bad recording does not end it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pomato_ros.batch.chunk_task import ChunkTask, FrameTable, run_task
from pomato_ros.batch.driver import cut, run_batch
from pomato_ros.batch.executors import InProcess, attempt
from pomato_ros.batch.inputs import expand_inputs, folder_of, open_input
from pomato_ros.batch.options import BatchOptions
from pomato_ros.batch.stitch import moved, place, stitch
from pomato_ros.batch.store import Store
from pomato_ros.config import PomatoConfig
from pomato_ros.errors import ConfigError
from pomato_ros.geometry.alignment import Similarity
from pomato_ros.geometry.rigid import pose_exp

pyarrow_parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (the extra `batch`)")
OPTIONS = BatchOptions(chunk=4, overlap=2, workers=0)
CONFIG = PomatoConfig()


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def run(recordings: Path, out: Path, options: BatchOptions = OPTIONS) -> dict[str, bytes]:
    run_batch(expand_inputs([f"{recordings}/*"]), Store(str(out)), InProcess(), CONFIG, options)
    return files_of(out)


def test_a_run_writes_a_row_a_frame_and_quarantines_what_is_broken(recordings: Path, tmp_path: Path) -> None:
    report = run_batch(expand_inputs([f"{recordings}/*"]), Store(str(tmp_path / "out")), InProcess(), CONFIG, OPTIONS)
    assert [row["frames"] for row in report.done] == [5, 5]
    assert list(report.quarantined) == [str(recordings / "broken")]
    assert json.loads((tmp_path / "out" / "quarantine.json").read_text()) == report.quarantined
    index = pyarrow_parquet.read_table(tmp_path / "out" / "index.parquet").to_pydict()
    assert index["frames"] == [5, 5]
    rows = pyarrow_parquet.read_table(tmp_path / "out" / index["folder"][0] / "frames.parquet").to_pydict()
    assert len(rows["stamp_ns"]) == 5
    assert sorted(set(rows["stamp_ns"])) == rows["stamp_ns"]
    assert {"x", "qw", "covariance_00", "covariance_20", "tracks", "moving_share", "state"} <= set(rows)
    page = (tmp_path / "out" / "index.html").read_text()
    assert "2 recordings, 10 frames, 1 in quarantine" in page


def test_recordings_open_in_foxglove(recordings: Path, tmp_path: Path) -> None:
    from mcap.reader import make_reader

    run(recordings, tmp_path / "out")
    path = tmp_path / "out" / folder_of(str(recordings / "a")) / "run.mcap"
    with path.open("rb") as stream:
        messages = [
            (schema.name, json.loads(message.data))
            for schema, _, message in make_reader(stream).iter_messages()
            if schema is not None
        ]
    assert sum(name == "pomato.FrameQuality" for name, _ in messages) == 5
    assert any(name == "foxglove.PoseInFrame" and "orientation" in data["pose"] for name, data in messages)


def test_what_is_done_is_not_done_again_and_the_bytes_are_equal(recordings: Path, tmp_path: Path) -> None:
    undisturbed = run(recordings, tmp_path / "whole")
    interrupted = tmp_path / "interrupted"
    first = expand_inputs([f"{recordings}/*"])[0]
    store = Store(str(interrupted))
    attempt(ChunkTask(first, folder_of(first), 0, 0, 4), store, CONFIG)
    left = interrupted / folder_of(first) / "chunks" / "00001.npz.123.part"
    left.write_bytes(b"half")
    before = (interrupted / folder_of(first) / "chunks" / "00000.npz").stat().st_mtime_ns
    files = run(recordings, interrupted)
    assert (interrupted / folder_of(first) / "chunks" / "00000.npz").stat().st_mtime_ns == before
    assert Store(str(interrupted)).remove_parts() == 1
    assert {name: content for name, content in files.items() if not name.endswith(".part")} == undisturbed
    again = {path: path.stat().st_mtime_ns for path in interrupted.rglob("*.npz")}
    run(recordings, interrupted)
    assert again == {path: path.stat().st_mtime_ns for path in interrupted.rglob("*.npz")}


def test_other_options_do_not_mix_with_old_results(recordings: Path, tmp_path: Path) -> None:
    run(recordings, tmp_path / "out")
    report = run_batch(
        [str(recordings / "a")], Store(str(tmp_path / "out")), InProcess(), CONFIG, replace(OPTIONS, chunk=5)
    )
    assert "other options" in report.quarantined[str(recordings / "a")]


def test_chunks_cover_all_frames_and_share_some() -> None:
    for frames in (2, 5, 6, 8, 21):
        chunks = cut(frames, OPTIONS)
        seen = {number for start, count in chunks for number in range(start, start + count)}
        assert seen == set(range(frames))
        assert all(a + n - b == 2 for (a, n), (b, _) in zip(chunks, chunks[1:], strict=False))
    assert cut(100, replace(OPTIONS, max_frames=4)) == [(0, 4)]


def table(poses: np.ndarray, points_world: np.ndarray, first_ns: int) -> FrameTable:
    count = len(poses)
    camera = np.stack([(points_world - pose[:3, 3]) @ pose[:3, :3] for pose in poses]).astype(np.float32)
    ones, whole = np.ones(count), np.ones(count, np.int64)
    return FrameTable(
        stamp_ns=first_ns + np.arange(count),
        state=np.full(count, "tracking"),
        world_from_camera=poses,
        covariance=np.tile(np.eye(6)[np.triu_indices(6)], (count, 1)),
        camera_points=camera,
        inlier_ratio=ones,
        moving_share=ones,
        depth_coverage=ones,
        median_depth=ones,
        tracks=whole,
        objects=whole,
    )


def test_chunks_of_another_frame_and_unit_are_stitched() -> None:
    poses = np.stack([pose_exp(np.array([0.1 * t, 0, 0.2 * t, 0, 0.05 * t, 0])) for t in range(9)])
    points = np.random.default_rng(0).uniform((-2, -2, 3), (2, 2, 6), (40, 3))
    whole = table(poses, points, 100)
    change = Similarity(0.4, pose_exp(np.array([0, 0, 0, 0.2, 0.5, -0.1]))[:3, :3], np.array([1.0, 2.0, 3.0]))
    first, second = table(poses[:6], points, 100), moved(table(poses[4:], points, 104), change)
    fit = place(first, second)
    assert fit is not None
    assert fit.scale == pytest.approx(2.5, rel=1e-4)
    result = stitch([first, second])
    assert result.seams == 0
    assert result.table.stamp_ns.tolist() == list(range(100, 109))
    assert np.allclose(result.table.world_from_camera, whole.world_from_camera, atol=1e-4)
    assert np.allclose(result.table.covariance, whole.covariance, atol=1e-3)


def test_chunks_without_a_shared_frame_are_counted_as_breaks() -> None:
    poses = np.tile(np.eye(4), (3, 1, 1))
    points = np.random.default_rng(0).normal(size=(10, 3))
    assert stitch([table(poses, points, 0), table(poses, points, 10)]).seams == 1


def test_inputs_are_lists_globs_and_uris(recordings: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(f"# nightly\n{recordings}/a\n\n{recordings}/b\n")
    assert expand_inputs([str(listed), f"{recordings}/a"]) == [f"{recordings}/a", f"{recordings}/b"]
    with pytest.raises(ConfigError, match="matches"):
        expand_inputs([f"{recordings}/*.bag"])
    with pytest.raises(ConfigError, match="at least one"):
        expand_inputs([])
    assert folder_of("s3://one/run") != folder_of("s3://two/run")


def test_recordings_are_fetched_from_other_file_systems(recordings: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(recordings / "a"), "/fleet/a", recursive=True)
    with open_input("memory://fleet/a") as frames:
        assert len(frames) == 5
        assert next(iter(frames)).image_rgb.ndim == 3
    store = Store("memory://results")
    run_task(ChunkTask("memory://fleet/a", "a", 0, 0, 3), store, CONFIG)
    assert len(FrameTable.from_bytes(store.read("a/chunks/00000.npz"))) == 3
