from pathlib import Path

import numpy as np
import pytest

from pomato_ros.evaluation.recorded_run import (
    RecordedRun,
    RecordedStep,
    RecordedTracks,
    Truth,
    load_truth,
    match_truth,
    summarise,
    truth_on_image,
)

HEIGHT, WIDTH, FRAMES = 12, 16, 8
MATRIX = np.array([[20.0, 0.0, 7.5], [0.0, 20.0, 5.5], [0.0, 0.0, 1.0]])
START_NS, FRAME_NS = 1_700_000_000_000_000_123, 66_666_667
GENERATOR = np.random.default_rng(0)
DEPTH = GENERATOR.uniform(1.0, 4.0, (FRAMES, HEIGHT, WIDTH)).astype(np.float32)
MOVING = GENERATOR.uniform(size=(FRAMES, HEIGHT, WIDTH)) > 0.8
NO_TRACKS = RecordedTracks(np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros(0, bool))


def poses() -> np.ndarray:
    way = np.tile(np.eye(4), (FRAMES, 1, 1))
    way[:, :3, 3] = np.cumsum(GENERATOR.normal(size=(FRAMES, 3)), axis=0)
    return way


POSES = poses()
TRUTH = Truth(DEPTH, MOVING, POSES, MATRIX, np.arange(FRAMES) * FRAME_NS)


def step(frame: int, **changes: object) -> RecordedStep:
    values = {
        "stamp_ns": START_NS + frame * FRAME_NS,
        "image_published_ns": frame * 1_000_000_000,
        "outputs_published_ns": frame * 1_000_000_000 + 250_000_000,
        "depth": DEPTH[frame],
        "camera_matrix": MATRIX,
        "mask": np.kron(MOVING[frame], np.ones((2, 2), bool)),  # the source is twice as large
        "odom_from_camera": POSES[frame],
        "tracks": NO_TRACKS,
        "has_points": True,
        **changes,
    }
    return RecordedStep(**values)


def run_of(steps: list[RecordedStep]) -> RecordedRun:
    stamps = tuple(START_NS + frame * FRAME_NS for frame in range(FRAMES))
    return RecordedRun({"/pomato/odometry": len(steps)}, tuple(steps), stamps, FRAMES, FRAMES - len(steps))


def test_the_truth_itself_has_no_error() -> None:
    summary = summarise(run_of([step(frame) for frame in range(0, FRAMES, 2)]), TRUTH)
    assert summary["depth_absrel"] == pytest.approx(0.0, abs=1e-6)
    assert summary["ate_over_path"] == pytest.approx(0.0, abs=1e-9)
    assert summary["mask_iou"] == 1.0


def test_scale_is_free_but_one_for_the_whole_run() -> None:
    scaled = [step(frame, depth=3.0 * DEPTH[frame]) for frame in range(FRAMES)]
    assert summarise(run_of(scaled), TRUTH)["depth_absrel"] == pytest.approx(0.0, abs=1e-6)
    drifting = [step(frame, depth=(1.0 + frame) * DEPTH[frame]) for frame in range(FRAMES)]
    assert summarise(run_of(drifting), TRUTH)["depth_absrel"] > 0.1


def test_standing_still_misses_the_whole_way() -> None:
    still = [step(frame, odom_from_camera=np.eye(4)) for frame in range(FRAMES)]
    assert summarise(run_of(still), TRUTH)["ate_over_path"] is None


def test_an_all_moving_mask_scores_the_movers_share() -> None:
    everything = [step(frame, mask=np.ones((2 * HEIGHT, 2 * WIDTH), bool)) for frame in range(FRAMES)]
    assert summarise(run_of(everything), TRUTH)["mask_iou"] == pytest.approx(MOVING.mean())


def test_rates_and_latencies_come_from_the_publishing_times() -> None:
    summary = summarise(run_of([step(frame) for frame in range(FRAMES)]), None)
    assert summary["rate_hz"] == 1.0
    assert summary["latency_ms_p50"] == summary["latency_ms_p95"] == 250.0
    assert (summary["steps"], summary["frames_in"], summary["frames_passed_over"]) == (FRAMES, FRAMES, 0)


def test_without_truth_there_are_no_errors_to_tell() -> None:
    summary = summarise(run_of([step(0)]), None)
    assert (summary["depth_absrel"], summary["ate_over_path"], summary["mask_iou"]) == (None, None, None)
    assert summary["rate_hz"] is None


def test_a_run_without_steps_is_summarised_too() -> None:
    summary = summarise(run_of([]), TRUTH)
    assert summary["steps"] == 0
    assert summary["depth_absrel"] is None
    assert summary["latency_ms_p50"] is None


def test_steps_find_their_frame_by_the_exact_stamp_only() -> None:
    strange = step(3, stamp_ns=START_NS + 3 * FRAME_NS + 1)
    assert [index for _, index in match_truth(run_of([step(2), strange, step(5)]), TRUTH)] == [2, 5]


def test_lost_steps_are_left_out_of_the_trajectory() -> None:
    steps = [step(frame) for frame in range(FRAMES)]
    steps[3] = step(3, odom_from_camera=None)
    assert summarise(run_of(steps), TRUTH)["ate_over_path"] == pytest.approx(0.0, abs=1e-9)


def test_invalid_depth_is_not_scored() -> None:
    depth = DEPTH[0].copy()
    depth[:4] = np.nan
    assert summarise(run_of([step(0, depth=depth)]), TRUTH)["depth_absrel"] == pytest.approx(0.0, abs=1e-6)


def test_truth_is_seen_through_the_image_that_was_cropped_and_resized() -> None:
    # Twice the truth's resolution, three truth columns cut off at the left.
    matrix = np.array([[40.0, 0.0, 2 * (7.5 - 3) + 0.5], [0.0, 40.0, 2 * 5.5 + 0.5], [0.0, 0.0, 1.0]])
    seen = truth_on_image(DEPTH[0], MATRIX, matrix, (2 * HEIGHT, 2 * (WIDTH - 3)))
    np.testing.assert_array_equal(seen, np.kron(DEPTH[0][:, 3:], np.ones((2, 2), np.float32)))


def test_the_bundled_clip_has_truth_and_other_folders_have_none(repository_root: Path, tmp_path: Path) -> None:
    folder = repository_root / "pomato_ros" / "samples" / "room"
    truth = load_truth(folder)
    assert truth is not None
    assert load_truth(folder / "frames") is not None
    assert truth.depth_m.shape == truth.moving.shape
    assert len(truth.world_from_camera) == len(truth.offsets_ns) == len(truth.depth_m)
    assert 0.0 < truth.moving.mean() < 0.5
    assert load_truth(tmp_path) is None
