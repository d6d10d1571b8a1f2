import cv2
import numpy as np
import pytest

from pomato_ros.config import OdometryTuning, PomatoConfig
from pomato_ros.evaluation.suites.rendered import RenderPlan, rendered_sequence
from pomato_ros.geometry.rigid import rotation_angle
from pomato_ros.scene.located import FrameInput, sampled_depth
from pomato_ros.scene.map_building import clear_of_edges, occupied_cells
from pomato_ros.scene.odometry import Odometry
from pomato_ros.sources.rgbd import RgbdSource
from pomato_ros.structures import DepthMap
from pomato_ros.training.config import HELD_OUT_SEED

PLAN = RenderPlan(HELD_OUT_SEED, sequences=1, frames=16, cache=None)


@pytest.fixture(scope="module")
def sequence():
    return rendered_sequence(PLAN, "nothing", HELD_OUT_SEED + 3)


@pytest.fixture(scope="module")
def frames(sequence):
    source = RgbdSource(PomatoConfig())
    prepared = [source.prepare(sequence.rgbd_frame(t)) for t in range(len(sequence))]
    return [
        FrameInput(each.stamp_ns, cv2.cvtColor(each.image_rgb, cv2.COLOR_RGB2GRAY), each.intrinsics, each.depth)
        for each in prepared
    ]


def follow(odometry, frames):
    found = []
    for frame in frames:
        located = odometry.locate(frame)
        odometry.extend(frame, located, None)
        found.append(located)
    return found


def later(frame, stamp_ns, gray=None):
    return FrameInput(stamp_ns, frame.gray if gray is None else gray, frame.intrinsics, frame.depth)


def test_the_camera_is_followed_in_metres(sequence, frames):
    truth = sequence.first_from_camera()
    found = follow(Odometry(OdometryTuning()), frames)
    assert all(found)
    way_m = np.linalg.norm(np.diff(truth[:, :3, 3], axis=0), axis=1).sum()
    errors = [
        np.linalg.norm(each.world_from_camera[:3, 3] - true[:3, 3]) for each, true in zip(found, truth, strict=True)
    ]
    turns = [
        rotation_angle(each.world_from_camera[:3, :3].T @ true[:3, :3]) for each, true in zip(found, truth, strict=True)
    ]
    assert max(errors) < max(0.02 * way_m, 0.005)
    assert max(turns) < np.radians(0.5)


def test_covariances_are_symmetric_and_above_zero(frames):
    for located in follow(Odometry(OdometryTuning()), frames):
        np.testing.assert_array_equal(located.covariance, located.covariance.T)
        assert np.linalg.eigvalsh(located.covariance).min() > 0


def test_after_a_reset_the_answer_is_the_same(frames):
    odometry = Odometry(OdometryTuning())
    first = follow(odometry, frames[:6])
    odometry.reset()
    odometry.readout = type(odometry.readout)()
    again = follow(odometry, frames[:6])
    for one, other in zip(first, again, strict=True):
        np.testing.assert_allclose(one.world_from_camera, other.world_from_camera, atol=1e-12)


def test_a_camera_that_stands_still_does_not_drift(frames):
    draws = np.random.default_rng(0)
    still = [
        later(
            frames[0],
            t * 33_000_000,
            np.clip(frames[0].gray + draws.normal(0, 3, frames[0].gray.shape), 0, 255).astype(np.uint8),
        )
        for t in range(60)
    ]
    found = follow(Odometry(OdometryTuning()), still)
    assert np.linalg.norm(found[-1].world_from_camera[:3, 3]) < 0.001


def test_a_dark_frame_has_no_pose_and_the_next_one_is_found_again(sequence, frames):
    odometry = Odometry(OdometryTuning())
    follow(odometry, frames[:8])
    dark = later(frames[8], frames[8].stamp_ns, np.zeros_like(frames[8].gray))
    assert odometry.locate(dark) is None
    odometry.extend(dark, None, None)
    located = odometry.locate(frames[9])
    assert located is not None
    assert located.relocalised
    error = located.world_from_camera[:3, 3] - sequence.first_from_camera()[9][:3, 3]
    assert np.linalg.norm(error) < 0.02


def test_a_camera_that_was_carried_off_blind_is_recognised_where_it_was_before(sequence, frames):
    odometry = Odometry(OdometryTuning())
    follow(odometry, frames)
    back = later(frames[0], frames[-1].stamp_ns + 30_000_000_000)
    located = odometry.locate(back)
    assert located is not None
    assert np.linalg.norm(located.world_from_camera[:3, 3]) < 0.01


def test_a_place_never_seen_begins_a_new_map_with_the_uncertainty_of_the_time_between(frames):
    odometry = Odometry(OdometryTuning())
    known = follow(odometry, frames[:4])[-1]
    draws = np.random.default_rng(1)
    other = cv2.GaussianBlur(draws.integers(0, 255, frames[0].gray.shape, dtype=np.uint8), (0, 0), 2.0)
    other = cv2.normalize(other, None, 0, 255, cv2.NORM_MINMAX)
    soon = later(frames[0], frames[3].stamp_ns + 100_000_000, other)
    assert odometry.locate(soon) is None
    odometry.extend(soon, None, None)
    late = later(frames[0], frames[3].stamp_ns + 3_000_000_000, other)
    located = odometry.locate(late)
    assert located is not None
    assert located.covariance[0, 0] > known.covariance[0, 0] + 1.0
    odometry.extend(late, located, None)
    assert odometry.locate(later(late, late.stamp_ns + 33_000_000)) is not None


def test_landmarks_keep_off_what_moves(frames):
    odometry, static = Odometry(OdometryTuning()), np.zeros(frames[0].gray.shape, bool)
    static[:, 160:] = True
    odometry.extend(frames[0], odometry.locate(frames[0]), static)
    assert len(odometry.map.landmarks) > 0
    assert (odometry.map.landmarks.pixel[:, 0] >= 159.5).all()


def test_cells_with_pixels_are_counted_once():
    assert occupied_cells(np.zeros((0, 2)), (240, 320)) == 0
    assert occupied_cells(np.array([[0.0, 0.0], [1.0, 2.0], [319.0, 239.0]]), (240, 320)) == 2


def test_single_holes_do_not_widen_edges():
    valid = np.ones((20, 20), bool)
    valid[5, 5] = False
    valid[:, 15:] = False
    clear = clear_of_edges(valid, 2)
    assert clear[5, 7]
    assert not clear[5, 5]
    assert not clear[10, 13]
    assert clear[10, 12]


def test_depth_is_read_where_it_is_valid():
    depth = DepthMap(
        np.full((4, 6), 0.5, np.float32), np.full((4, 6), 0.01, np.float32), np.arange(24).reshape(4, 6) % 2 == 0, True
    )
    inverse, std = sampled_depth(depth, np.array([[0.2, 0.1], [1.0, 0.0]]))
    np.testing.assert_allclose(inverse, (0.5, np.nan))
    np.testing.assert_allclose(std, (0.01, np.nan), rtol=1e-6)
    assert np.isnan(sampled_depth(None, np.zeros((2, 2)))[0]).all()


def test_a_map_begins_with_the_first_frame_that_has_depth(frames):
    odometry = Odometry(OdometryTuning())
    bare = FrameInput(frames[0].stamp_ns, frames[0].gray, frames[0].intrinsics, None)
    assert odometry.locate(bare) is None
    odometry.extend(bare, None, None)
    found = follow(odometry, frames[1:5])
    assert all(found)
    np.testing.assert_array_equal(found[0].world_from_camera, np.eye(4))
    assert found[-1].inliers > 50
