import numpy as np
import pytest

from pomato_ros.config import PomatoConfig
from pomato_ros.engine import Engine
from pomato_ros.errors import UnusableFrame
from pomato_ros.evaluation.suites.rendered import RenderPlan, rendered_sequence
from pomato_ros.structures import Frame, TrackingState
from pomato_ros.training.config import HELD_OUT_SEED

PLAN = RenderPlan(HELD_OUT_SEED, sequences=1, frames=14, cache=None)


@pytest.fixture(scope="module")
def sequence():
    return rendered_sequence(PLAN, "ordinary", HELD_OUT_SEED + 7)


@pytest.fixture(scope="module")
def config():
    return PomatoConfig().with_values({"backend": "rgbd"})


@pytest.fixture(scope="module")
def scenes(sequence, config):
    engine = Engine(config)
    return [engine.step(sequence.rgbd_frame(t)) for t in range(len(sequence))]


def test_every_frame_has_a_metric_pose_with_covariance(sequence, scenes):
    truth = sequence.first_from_camera()
    for scene, true in zip(scenes, truth, strict=True):
        assert scene.state is TrackingState.TRACKING
        assert np.linalg.norm(scene.world_from_camera[:3, 3] - true[:3, 3]) < 0.02
        assert np.linalg.eigvalsh(scene.pose_covariance).min() > 0


def test_points_are_the_depth_on_the_rays(sequence, scenes):
    depth, valid = scenes[-1].depth, np.isfinite(scenes[-1].depth)
    true = sequence.clip.depth_m[-1].numpy()
    assert valid.mean() > 0.5
    assert np.median(np.abs(depth[valid] / true[valid] - 1.0)) < 0.02
    np.testing.assert_array_equal(np.isnan(scenes[-1].points_camera[..., 0]), ~valid)
    assert scenes[-1].metres_per_unit == 1.0


def test_what_moves_is_found_and_what_rests_is_not(sequence, scenes):
    moving = sequence.moving()
    found = np.stack([scene.dynamic_mask for scene in scenes])[4:]
    moving = moving[4:]
    assert (found & moving).sum() > 0.4 * moving.sum()
    assert (found & ~moving).mean() < 0.03


def test_tracks_keep_their_ids(scenes):
    first, last = set(scenes[6].tracks.ids.tolist()), set(scenes[-1].tracks.ids.tolist())
    assert len(first & last) > 0.5 * len(first)


def test_the_answer_after_a_reset_is_the_same(sequence, config, scenes):
    engine = Engine(config)
    for t in range(3):
        engine.step(sequence.rgbd_frame(t + 5))
    engine.reset()
    again = [engine.step(sequence.rgbd_frame(t)) for t in range(4)]
    for one, other in zip(again, scenes, strict=False):
        np.testing.assert_allclose(one.world_from_camera, other.world_from_camera, atol=2e-3)
        assert (one.dynamic_mask != other.dynamic_mask).mean() < 0.02


def test_a_covered_lens_is_lost_without_motion_and_found_again(sequence, config):
    engine = Engine(config)
    for t in range(6):
        engine.step(sequence.rgbd_frame(t))
    frame = sequence.rgbd_frame(6)
    dark = Frame(frame.stamp_ns, np.zeros_like(frame.image_rgb), frame.intrinsics, np.zeros_like(frame.depth_m))
    scene = engine.step(dark)
    assert scene.state is TrackingState.LOST
    assert scene.world_from_camera is None
    assert not scene.dynamic_mask.any()
    assert engine.step(sequence.rgbd_frame(7)).state is TrackingState.RECOVERING


def test_frames_without_depth_keep_their_pose(sequence, config):
    engine = Engine(config)
    truth = sequence.first_from_camera()
    for t in range(12):
        frame = sequence.rgbd_frame(t)
        if t % 2:
            frame = Frame(frame.stamp_ns, frame.image_rgb, frame.intrinsics)
        scene = engine.step(frame)
        assert np.linalg.norm(scene.world_from_camera[:3, 3] - truth[t][:3, 3]) < 0.03


def test_a_camera_without_calibration_is_refused_with_what_to_do(sequence, config):
    frame = sequence.rgbd_frame(0)
    with pytest.raises(UnusableFrame, match="camera_info"):
        Engine(config).step(Frame(frame.stamp_ns, frame.image_rgb, None, frame.depth_m))
