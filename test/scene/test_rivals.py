import numpy as np
import pytest

from pomato_ros.config import OdometryTuning
from pomato_ros.geometry.rigid import invert, pose_from, rotation_exp
from pomato_ros.scene.pose import Matches, NoiseLevel
from pomato_ros.scene.rivals import camera_among_rivals, surface_share
from pomato_ros.structures import Intrinsics

INTRINSICS = Intrinsics(280.0, 280.0, 160.0, 120.0, 320, 240)
TUNING = OdometryTuning()
CAMERA = pose_from(rotation_exp(np.array([0.01, -0.02, 0.0])), np.array([0.03, 0.0, 0.02]))
PIXEL_STD, DEPTH_STD = 0.3, 0.002


def matches_of(points, motions, draws):
    """Points (n, 3) seen by CAMERA after a motion (4, 4) each, with noise."""
    moved = np.einsum("nij,nj->ni", motions[:, :3, :3], points) + motions[:, :3, 3]
    camera_from_world = invert(CAMERA)
    camera = moved @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
    pixels = 280.0 * camera[:, :2] / camera[:, 2:] + np.array([160.0, 120.0])
    pixels += draws.normal(0.0, PIXEL_STD, pixels.shape)
    n = len(points)
    return Matches(
        points_world=points,
        slopes_world=np.zeros((n, 3)),
        pixels=pixels,
        seen=pixels,
        readout_rate=np.zeros((n, 2)),
        pixel_covariance=np.tile(PIXEL_STD**2 * np.eye(2), (n, 1, 1)),
        inverse_depth=1.0 / camera[:, 2] + draws.normal(0.0, DEPTH_STD, n),
        inverse_depth_std=np.full(n, DEPTH_STD),
        surface=np.clip(camera[:, 2] / np.median(camera[:, 2]), 0.25, 4.0),
    )


def scene(far, near, draws, motion):
    """``far`` landmarks at rest 2 to 4 m away, and ``near`` ones 0.7 to 1 m away that have moved by ``motion``."""
    depth = np.concatenate((draws.uniform(2.0, 4.0, far), draws.uniform(0.7, 1.0, near)))
    rays = np.column_stack((draws.uniform(-0.5, 0.5, far + near), draws.uniform(-0.4, 0.4, far + near)))
    points = np.column_stack((rays * depth[:, None], depth))
    motions = np.tile(np.eye(4), (far + near, 1, 1))
    motions[far:] = motion
    return matches_of(points, motions, draws)


MOVED = pose_from(rotation_exp(np.array([0.0, 0.03, 0.01])), np.array([0.08, -0.03, 0.05]))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("start", [CAMERA, CAMERA @ invert(MOVED), np.eye(4)])
def test_a_near_mover_of_seven_tenths_does_not_take_the_camera(seed, start):
    matches = scene(60, 140, np.random.default_rng(seed), MOVED)
    rivalry = camera_among_rivals(matches, INTRINSICS, (start,), NoiseLevel(), TUNING)
    assert rivalry is not None
    assert np.linalg.norm(rivalry.best.fit.world_from_camera[:3, 3] - CAMERA[:3, 3]) < 0.01
    assert not rivalry.best.fit.inliers[60:].any()
    assert surface_share(matches, rivalry.best.fit, TUNING) > 0.5


@pytest.mark.parametrize("seed", range(5))
def test_one_motion_has_no_rivals(seed):
    matches = scene(200, 10, np.random.default_rng(seed), MOVED)
    assert camera_among_rivals(matches, INTRINSICS, (CAMERA,), NoiseLevel(), TUNING) is None


@pytest.mark.parametrize("seed", range(5))
def test_noise_above_the_claimed_one_is_no_second_motion(seed):
    draws = np.random.default_rng(seed)
    matches = scene(200, 0, draws, MOVED)
    matches.pixels[:] += draws.normal(0.0, 3.0 * PIXEL_STD, matches.pixels.shape)
    assert camera_among_rivals(matches, INTRINSICS, (CAMERA,), NoiseLevel(), TUNING) is None


def test_two_motions_of_comparable_surface_widen_the_covariance_by_their_difference():
    draws = np.random.default_rng(1)
    depth = draws.uniform(2.0, 4.0, 200)
    rays = np.column_stack((draws.uniform(-0.5, 0.5, 200), draws.uniform(-0.4, 0.4, 200)))
    motions = np.tile(np.eye(4), (200, 1, 1))
    motions[100:] = pose_from(np.eye(3), np.array([0.3, 0.0, 0.0]))
    matches = matches_of(np.column_stack((rays * depth[:, None], depth)), motions, draws)
    rivalry = camera_among_rivals(matches, INTRINSICS, (CAMERA,), NoiseLevel(), TUNING)
    assert rivalry is not None
    spread = rivalry.spread()
    np.testing.assert_allclose(spread, spread.T)
    assert np.linalg.eigvalsh(spread).min() > -1e-12
    assert 0.1 < np.sqrt(spread[0, 0]) < 0.3
