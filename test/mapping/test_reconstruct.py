"""Chunks: every frame once, one world, no work done twice, memory of one chunk."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pomato_ros.errors import UnusableFrame
from pomato_ros.evaluation.metrics.trajectory import absolute_errors, align_trajectory, path_length, root_mean_square
from pomato_ros.geometry.alignment import Similarity
from pomato_ros.geometry.rigid import rotation_exp
from pomato_ros.mapping.options import ReconstructionOptions
from pomato_ros.mapping.reconstruct import chained, cut, reconstruct, robust_similarity
from pomato_ros.mapping.static_map import StaticMap
from pomato_ros.structures import Frame
from pomato_ros.synthetic.clip import Clip

OPTIONS = ReconstructionOptions(chunk=5, overlap=2)


def test_chunks_in_units_of_their_own_make_one_world(
    clip: Clip, frames: Sequence[Frame], true_chunks: Any, tmp_path: Path
) -> None:
    result = reconstruct(frames, true_chunks, OPTIONS, tmp_path)
    stamps, poses = result.trajectory
    assert stamps.tolist() == clip.stamps_ns
    truth = clip.world_from_camera.numpy()
    assert root_mean_square(absolute_errors(align_trajectory(poses, truth), truth)) < 1e-3 * path_length(truth)
    first, *_, last = result.frames()
    ratios = [np.nanmedian(f.depth / clip.depth_m[t].numpy()) for f, t in ((first, 0), (last, len(clip) - 1))]
    assert ratios[0] == pytest.approx(ratios[1], rel=1e-3)


def test_an_interrupted_run_goes_on_where_it_was(frames: Sequence[Frame], true_chunks: Any, tmp_path: Path) -> None:
    reconstruct(frames[:8], true_chunks, OPTIONS, tmp_path)
    done = true_chunks.solved
    whole = reconstruct(frames, true_chunks, OPTIONS, tmp_path)
    assert true_chunks.solved == done + 1
    undisturbed = reconstruct(frames, true_chunks, OPTIONS, tmp_path / "other")
    assert np.array_equal(whole.trajectory[1], undisturbed.trajectory[1])
    assert not list(tmp_path.glob("*.part*"))


def test_every_frame_is_in_a_chunk_and_neighbours_share(frames: Sequence[Frame]) -> None:
    chunks = list(cut(frames, OPTIONS))
    assert [len(chunk) for chunk in chunks] == [5, 5, 4]
    assert chunks[0][-2:] == chunks[1][:2]
    assert [f.stamp_ns for f in cut(frames, ReconstructionOptions(chunk=4, overlap=2, stride=3)).__next__()] == [
        frames[t].stamp_ns for t in (0, 3, 6, 9)
    ]
    assert sum(map(len, cut(frames, ReconstructionOptions(max_frames=3)))) == 3


def test_too_short_a_source_is_an_error(frames: Sequence[Frame], true_chunks: Any, tmp_path: Path) -> None:
    with pytest.raises(UnusableFrame, match="at least two"):
        reconstruct(frames[:1], true_chunks, OPTIONS, tmp_path)


def test_a_robust_similarity_bears_outliers() -> None:
    draw = np.random.default_rng(0)
    source = draw.normal(size=(200, 3))
    true = Similarity(1.7, rotation_exp(np.array([0.1, -0.3, 0.2])), np.array([1.0, 2.0, 3.0]))
    target = true.apply(source)
    target[:40] += draw.normal(size=(40, 3)) * 3
    fit = robust_similarity(source, target)
    assert fit.scale == pytest.approx(1.7, rel=0.01)
    assert np.allclose(chained(fit, Similarity(1.0, np.eye(3), np.ones(3))).apply(np.zeros(3)), fit.apply(np.ones(3)))


def test_movers_are_absent_from_the_static_map(
    clip: Clip, frames: Sequence[Frame], true_chunks: Any, tmp_path: Path
) -> None:
    result = reconstruct(frames, true_chunks, OPTIONS, tmp_path)
    movers = np.concatenate([frame.points_world()[frame.moving] for frame in result.frames()])
    near = []
    for masked in (True, False):
        fused = StaticMap(voxel=0.02)
        for frame in result.frames():
            fused.add(frame if masked else dataclasses.replace(frame, moving=np.zeros_like(frame.moving)))
        if masked:
            fused.carve(result.frames())
        points = fused.cloud().points_world[::5]
        assert len(points) > 100
        near.append(np.mean([np.linalg.norm(movers - point, axis=-1).min() < 0.01 for point in points]))
    assert near[0] < 0.2 * near[1]
