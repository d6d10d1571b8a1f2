import numpy as np
import pytest

from pomato_ros.config import TwoViewTuning
from pomato_ros.geometry.rigid import compose, invert, pose_exp, pose_log, transform
from pomato_ros.scene.rest import Matches, geometry_of, jacobian, pose_variance, refined, rest_of
from pomato_ros.scene.two_view import explained, pair_geometry
from pomato_ros.structures import PosePrior

CAMERA = np.array([[150.0, 0.0, 79.5], [0.0, 150.0, 59.5], [0.0, 0.0, 1.0]])
POSE = pose_exp(np.array([0.12, -0.03, 0.06, 0.02, -0.03, 0.01]))
FLOW_PX = 0.1


def scene(pose=POSE, count=900, noise_px=0.0, known=True, seed=0):
    """Matches of points at rest, in truth."""
    draws = np.random.default_rng(seed)
    x, y = draws.uniform(5, 155, count), draws.uniform(5, 115, count)
    depth = draws.uniform(1.0, 6.0, count)
    points = np.stack(((x - 79.5) / 150.0, (y - 59.5) / 150.0, np.ones(count)), -1) * depth[:, None]
    seen = transform(pose, points) @ CAMERA.T
    to = seen[:, :2] / seen[:, 2:] + noise_px * draws.standard_normal((count, 2))
    variance = np.full(count, FLOW_PX**2)
    weight = np.full(count, 1.0 / 0.002**2 if known else 0.0)
    columns = (x, y, to[:, 0], to[:, 1], variance, 1.0 / depth, weight)
    return Matches(*(column.astype(np.float32) for column in columns))


def shifted(matches, rows, right_px, down_px):
    to_x, to_y = matches.to_x.copy(), matches.to_y.copy()
    to_x[rows] += right_px
    to_y[rows] += down_px
    return Matches(matches.x, matches.y, to_x, to_y, matches.variance, matches.inverse_depth, matches.weight)


@pytest.mark.parametrize("known", [True, False])
def test_points_at_rest_have_no_residual(known):
    rest = rest_of(scene(known=known), geometry_of(POSE, CAMERA))
    assert rest.square.max() < 1e-2
    np.testing.assert_allclose(rest.inverse_depth, scene().inverse_depth, atol=0.02)


def test_without_depth_only_what_leaves_the_piece_of_line_has_a_residual():
    matches = scene(known=False)
    geometry = geometry_of(POSE, CAMERA)
    rest = rest_of(matches, geometry)
    along = shifted(matches, slice(None), rest.along_x * 0.5, rest.along_y * 0.5)
    back = shifted(matches, slice(None), -rest.along_x * 60.0, -rest.along_y * 60.0)
    across = shifted(matches, slice(None), rest.along_y * 2.0, -rest.along_x * 2.0)
    assert np.median(rest_of(along, geometry).square) < 1e-2
    assert rest_of(back, geometry).square.min() > 100.0
    np.testing.assert_allclose(rest_of(across, geometry).square, (2.0 / FLOW_PX) ** 2, rtol=0.02)


def test_the_place_at_rest_is_the_best_of_all_on_the_line():
    matches = shifted(scene(), slice(None), 1.3, -0.7)
    geometry = geometry_of(POSE, CAMERA)
    rest = rest_of(matches, geometry)
    best = np.full(len(matches.x), np.inf)
    for inverse_depth in np.linspace(0.0, 1.3, 4000):
        place = np.stack((matches.x, matches.y, np.ones_like(matches.x)), -1) @ geometry.homography.T
        place = place + inverse_depth * geometry.epipole
        missed = (place[:, 0] / place[:, 2] - matches.to_x) ** 2 + (place[:, 1] / place[:, 2] - matches.to_y) ** 2
        best = np.minimum(best, missed / FLOW_PX**2 + (inverse_depth - matches.inverse_depth) ** 2 * matches.weight)
    assert np.median(rest.square / best) == pytest.approx(1.0, abs=0.03)


def test_the_jacobian_is_that_of_small_motions_of_the_earlier_axes():
    matches = scene()
    rest = rest_of(matches, geometry_of(POSE, CAMERA))
    rows_x, rows_y = jacobian(rest, matches, POSE, CAMERA)
    for axis in range(6):
        step = 1e-3 * np.eye(6)[axis]
        moved = scene(compose(pose_exp(step), POSE))
        np.testing.assert_allclose(moved.to_x - matches.to_x, 1e-3 * rows_x[axis], atol=4e-3)
        np.testing.assert_allclose(moved.to_y - matches.to_y, 1e-3 * rows_y[axis], atol=4e-3)
    covariance = np.diag([0.01**2] * 3 + [0.002**2] * 3)
    draws = np.random.default_rng(0).multivariate_normal(np.zeros(6), covariance, 4000)
    sampled = 0.5 * ((draws @ rows_x).var(axis=0) + (draws @ rows_y).var(axis=0))
    np.testing.assert_allclose(pose_variance(rows_x, rows_y, covariance), sampled, rtol=0.15)


@pytest.mark.parametrize(("known", "movers"), [(True, 350), (False, 90)])
def test_a_pose_is_refined_among_movers(known, movers):
    matches = scene(noise_px=FLOW_PX, known=known)
    matches = shifted(matches, slice(0, movers), 6.0, -4.0)
    error = np.array([0.01, -0.008, 0.006, 0.004, -0.003, 0.003])
    prior = PosePrior(1, compose(pose_exp(error), POSE), np.diag(error**2))
    better = refined(matches, prior, CAMERA, TwoViewTuning())
    left = pose_log(compose(better.earlier_from_newest, invert(POSE)))
    assert np.linalg.norm(left[3:]) < 0.2 * np.linalg.norm(error[3:])
    assert (np.abs(left) < 4.0 * np.sqrt(np.diag(better.covariance)) + 1e-4).all()
    assert (np.diag(better.covariance) < np.diag(prior.covariance)).all()


def test_where_nothing_agrees_the_prior_holds():
    matches = shifted(scene(), slice(None), 40.0, 25.0)
    prior = PosePrior(1, POSE, np.diag([0.001**2] * 6))
    assert (
        np.abs(
            pose_log(compose(refined(matches, prior, CAMERA, TwoViewTuning()).earlier_from_newest, invert(POSE)))
        ).max()
        < 0.004
    )


def test_flow_alone_gives_the_direction_of_a_camera_among_movers():
    matches = shifted(scene(noise_px=FLOW_PX, known=False), slice(0, 250), 9.0, 7.0)
    geometry, pose = pair_geometry(matches, CAMERA, TwoViewTuning())
    assert pose is not None
    direction = pose.earlier_from_newest[:3, 3] / np.linalg.norm(pose.earlier_from_newest[:3, 3])
    assert direction @ POSE[:3, 3] / np.linalg.norm(POSE[:3, 3]) > 0.99
    moved = rest_of(matches, geometry).square > 9.0
    assert moved[:250].mean() > 0.8
    assert moved[250:].mean() < 0.05


def test_a_turning_camera_is_explained_by_a_homography():
    turn = pose_exp(np.array([0.0, 0.0, 0.0, 0.01, 0.05, -0.02]))
    matches = shifted(scene(turn, noise_px=FLOW_PX, known=False), slice(0, 250), 5.0, 0.0)
    geometry, pose = pair_geometry(matches, CAMERA, TwoViewTuning())
    assert pose is None
    assert not geometry.epipole.any()
    assert explained(matches, geometry, 0.5) == pytest.approx(650 / 900, abs=0.03)
