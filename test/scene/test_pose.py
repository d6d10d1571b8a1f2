import numpy as np
import pytest

from pomato_ros.geometry.rigid import pose_exp
from pomato_ros.scene.pose import (
    AbsolutePrior,
    Matches,
    NoiseLevel,
    displacement,
    fit_pose,
    moved,
    noise_level,
    ransac_pose,
    readout_change,
    residuals_at,
)
from pomato_ros.scene.readout import image_velocity, row_phase
from pomato_ros.structures import Intrinsics

CAMERA = Intrinsics(300.0, 310.0, 159.5, 119.5, 320, 240)
GATES = (10.0, 5.0, 3.5)


def make_matches(draws, pose, count=200, pixel_std=0.2, depth_std=0.002, landmark_std=0.0, with_depth=True):
    """Points in front of a camera at ``pose`` and what it measures of them, with noise of the given size."""
    pixels = draws.uniform((5, 5), (315, 235), (count, 2))
    depth = draws.uniform(1.0, 5.0, count)
    camera = np.stack(
        ((pixels[:, 0] - CAMERA.cx_px) / CAMERA.fx_px, (pixels[:, 1] - CAMERA.cy_px) / CAMERA.fy_px, np.ones(count)), -1
    )
    points = (camera * depth[:, None]) @ pose[:3, :3].T + pose[:3, 3]
    slopes = landmark_std * points / np.linalg.norm(points, axis=1, keepdims=True) * depth[:, None] ** 2
    inverse = 1.0 / depth + depth_std * draws.standard_normal(count) if with_depth else np.full(count, np.nan)
    seen = pixels + pixel_std * draws.standard_normal((count, 2))
    return Matches(
        points_world=points + slopes * draws.standard_normal((count, 1)),
        slopes_world=slopes,
        pixels=seen,
        seen=seen,
        readout_rate=np.zeros((count, 2)),
        pixel_covariance=np.broadcast_to(pixel_std**2 * np.eye(2), (count, 2, 2)).copy(),
        inverse_depth=inverse,
        inverse_depth_std=np.full(count, depth_std),
        surface=np.ones(count),
    )


def truth():
    return pose_exp([0.1, -0.05, 0.2, 0.05, -0.1, 0.03])


def test_displacement_undoes_moving():
    step = np.array([0.1, 0.2, -0.1, 0.05, -0.02, 0.3])
    np.testing.assert_allclose(displacement(truth(), moved(truth(), step)), step, atol=1e-12)


def test_derivatives_are_those_of_the_residuals():
    matches, step = make_matches(np.random.default_rng(0), truth(), 20), 1e-6
    _, slopes = residuals_at(matches, CAMERA, truth())
    for axis in range(6):
        there, back = (
            residuals_at(matches, CAMERA, moved(truth(), sign * step * np.eye(6)[axis]))[0] for sign in (1, -1)
        )
        np.testing.assert_allclose(slopes[..., axis], (there - back) / (2 * step), atol=1e-3)


@pytest.mark.parametrize("with_depth", [True, False])
@pytest.mark.parametrize("landmark_std", [0.0, 0.01])
def test_errors_are_as_large_as_their_covariance_says(with_depth, landmark_std):
    draws, squared = np.random.default_rng(1), []
    for _ in range(60):
        matches = make_matches(draws, truth(), landmark_std=landmark_std, with_depth=with_depth)
        fit = fit_pose(matches, CAMERA, np.eye(4), GATES)
        error = displacement(fit.world_from_camera, truth())
        squared.append(error @ np.linalg.solve(fit.covariance, error))
    assert 4.0 < np.mean(squared) < 9.0  # 6 is honest; a redescending kernel at 3.5 sigma leaves out a little


def test_points_that_move_together_are_outliers():
    draws = np.random.default_rng(2)
    matches = make_matches(draws, truth())
    moving = np.arange(200) < 80
    matches.pixels[moving] += (12.0, 3.0)
    fit = fit_pose(matches, CAMERA, truth(), GATES)
    assert not fit.inliers[moving].any()
    assert fit.inliers[~moving].mean() > 0.95
    assert np.linalg.norm(displacement(fit.world_from_camera, truth())[:3]) < 0.005


def test_a_prior_decides_where_nothing_is_measured_and_little_where_much_is():
    draws = np.random.default_rng(3)
    prior = AbsolutePrior(pose_exp([0.5, 0, 0, 0, 0, 0]), 1e2 * np.eye(6))
    few = make_matches(draws, truth(), 1).select(np.zeros(1, bool))
    alone = fit_pose(few, CAMERA, np.eye(4), GATES, priors=(prior,))
    np.testing.assert_allclose(alone.world_from_camera, prior.world_from_camera, atol=1e-3)
    np.testing.assert_allclose(alone.covariance, 1e-2 * np.eye(6), rtol=1e-3)
    many = fit_pose(make_matches(draws, truth()), CAMERA, np.eye(4), GATES, priors=(prior,))
    assert np.linalg.norm(displacement(many.world_from_camera, truth())[:3]) < 0.005


def test_the_noise_level_is_found():
    draws = np.random.default_rng(4)
    honest = make_matches(draws, truth(), 2000)
    modest = Matches(
        **{name: getattr(honest, name) for name in Matches.__slots__}
        | {"pixel_covariance": honest.pixel_covariance / 4.0, "inverse_depth_std": honest.inverse_depth_std / 3.0}
    )
    found = noise_level(modest, CAMERA, truth(), NoiseLevel())
    assert found.pixel == pytest.approx(4.0, rel=0.15)
    assert found.depth == pytest.approx(9.0, rel=0.15)


def test_the_readout_time_is_read_off_the_residuals():
    draws, true_s = np.random.default_rng(5), 0.01
    matches = make_matches(draws, truth(), 400)
    camera = (matches.points_world - truth()[:3, 3]) @ truth()[:3, :3]
    velocity = np.array([0.1, 0.0, 0.2, 0.4, -1.5, 0.8])
    rate = image_velocity(camera, velocity, CAMERA) * row_phase(matches.pixels, 240)[:, None]
    shifted = Matches(
        **{name: getattr(matches, name) for name in Matches.__slots__}
        | {"pixels": matches.pixels + true_s * rate, "readout_rate": -rate}
    )
    fit = fit_pose(shifted, CAMERA, truth(), (50.0, 30.0))
    change, information = readout_change(shifted, CAMERA, fit, NoiseLevel())
    assert abs(change - true_s) < max(5.0 / information**0.5, 1e-3)


def test_a_pose_is_found_without_a_start():
    matches = make_matches(np.random.default_rng(6), truth())
    found = ransac_pose(matches, CAMERA, 3.0)
    assert found is not None
    assert np.linalg.norm(displacement(found, truth())) < 0.05
    assert ransac_pose(matches.select(np.arange(3)), CAMERA, 3.0) is None
