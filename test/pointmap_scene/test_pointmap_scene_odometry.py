"""Pose, scale and focal length from pointmaps that are known to be right, and from those known to be wrong."""

import cv2
import numpy as np
import pytest

from pomato_ros.geometry.alignment import RobustScale
from pomato_ros.geometry.camera import unproject
from pomato_ros.geometry.grid import pixel_grid
from pomato_ros.geometry.pnp import PnpFailure
from pomato_ros.geometry.rigid import invert, pose_exp, transform
from pomato_ros.pointmap_scene.features import FeatureMatches
from pomato_ros.pointmap_scene.odometry import (
    MIN_FEATURES,
    FocalEstimate,
    RelativePose,
    depth_in_newest,
    depth_met,
    lower_quantile,
    metres_per_unit,
    motion_between,
    relative_scale,
    scale_doubt,
    scale_to_met_depth,
    scale_to_moved_points,
    solve_pose_on_features,
    solve_relative_pose,
    thinning,
)
from pomato_ros.structures import FloatArray, Intrinsics, PoseArray

WIDTH, HEIGHT = 64, 48
CAMERA = Intrinsics(60.0, 60.0, 31.5, 23.5, WIDTH, HEIGHT)
ALL = np.ones((HEIGHT, WIDTH), dtype=bool)
CONFIDENT = np.full((HEIGHT, WIDTH), 5.0, np.float32)
REFERENCE_FROM_NEWEST = pose_exp([0.3, -0.1, 0.2, 0.05, -0.1, 0.03])


def own_points(focal_px: float = 60.0, seed: int = 0) -> FloatArray:
    """A rugged surface as its own camera sees it."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    bumps = np.random.default_rng(seed).uniform(-0.3, 0.3, (HEIGHT, WIDTH))
    depth = 3 + np.sin(x / 9) + 0.5 * np.cos(y / 7) + bumps
    matrix = Intrinsics(focal_px, focal_px, 31.5, 23.5, WIDTH, HEIGHT).matrix()
    return unproject(pixel_grid(HEIGHT, WIDTH), depth, matrix).astype(np.float32)


def in_reference(points: FloatArray) -> FloatArray:
    return transform(REFERENCE_FROM_NEWEST, points).astype(np.float32)


def assert_pose(found: RelativePose | PnpFailure, expected: PoseArray, tolerance: float = 1e-4) -> None:
    assert isinstance(found, RelativePose), found
    np.testing.assert_allclose(found.reference_from_newest, expected, atol=tolerance)


# --- pose on pointmaps


@pytest.mark.parametrize("unit", [1.0, 0.1, 30.0])
def test_true_pointmaps_give_the_true_pose_in_their_own_unit(unit: float) -> None:
    found = solve_relative_pose(np.float32(unit) * in_reference(own_points()), CONFIDENT, ALL, CAMERA)
    expected = REFERENCE_FROM_NEWEST.copy()
    expected[:3, 3] *= unit
    assert_pose(found, expected, 1e-4 * max(unit, 1))
    assert found.inlier_ratio == 1.0
    assert found.residual_px < 1e-3


def test_pixels_that_move_and_pixels_nobody_trusts_have_no_say() -> None:
    points, static, conf = in_reference(own_points()), ALL.copy(), CONFIDENT.copy()
    static[:, :20] = False
    points[:, :20] += [0.7, 0.0, 0.4]  # a mover
    conf[:8] = 1.1
    points[:8] += [0.0, 0.5, 0.0]  # a guess, said to be one
    points[30, 30] = np.nan
    points[31, 31] = np.inf
    found = solve_relative_pose(points, conf, static, CAMERA)
    assert_pose(found, REFERENCE_FROM_NEWEST)
    assert found.inlier_ratio == 1.0


def test_the_ratio_is_the_share_that_agrees() -> None:
    points = in_reference(own_points())
    points[::4] += [1.0, 1.0, 0.0]
    found = solve_relative_pose(points, CONFIDENT, ALL, CAMERA)
    assert_pose(found, REFERENCE_FROM_NEWEST)
    assert found.inlier_ratio == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize("what", ["nothing still", "nothing finite", "noise"])
def test_no_pose_is_told_where_there_is_none(what: str) -> None:
    points, static = in_reference(own_points()), ALL.copy()
    if what == "nothing still":
        static[:] = False
    elif what == "nothing finite":
        points[:] = np.nan
    else:
        points = np.random.default_rng(0).normal(size=points.shape).astype(np.float32)
    found = solve_relative_pose(points, CONFIDENT, static, CAMERA)
    assert isinstance(found, PnpFailure) or found.inlier_ratio < 0.1
    assert not isinstance(found, PnpFailure) or found.reason


def test_a_noisier_map_has_a_wider_covariance_that_is_positive_definite() -> None:
    volumes = []
    for noise in (0.002, 0.02):
        points = in_reference(own_points()) * (1 + noise * np.random.default_rng(1).normal(size=(HEIGHT, WIDTH, 1)))
        found = solve_relative_pose(points.astype(np.float32), CONFIDENT, ALL, CAMERA)
        assert isinstance(found, RelativePose)
        np.testing.assert_allclose(found.covariance, found.covariance.T, atol=1e-12)
        values = np.linalg.eigvalsh(found.covariance)
        assert values.min() > 0
        volumes.append(values)
    assert (volumes[1] > 10 * volumes[0]).all()


def test_the_covariance_covers_the_error_where_the_network_errs_alike_in_a_patch() -> None:
    draws = np.random.default_rng(2)
    excess = []
    for _ in range(20):
        patches = draws.normal(size=(HEIGHT // 16, WIDTH // 16)).repeat(16, 0).repeat(16, 1)[..., None]
        points = (in_reference(own_points()) * (1 + 0.01 * patches)).astype(np.float32)
        found = solve_relative_pose(points, CONFIDENT, ALL, CAMERA)
        assert isinstance(found, RelativePose)
        error = found.reference_from_newest[:3, 3] - REFERENCE_FROM_NEWEST[:3, 3]
        excess.append(error @ np.linalg.solve(found.covariance[:3, :3], error))
    assert np.median(excess) < 3 * 2.4  # the median of a chi-square of 3 degrees of freedom, and some slack


# --- pose on features


def matches_of(count: int, seed: int = 0) -> tuple[FeatureMatches, FloatArray]:
    """Features of a smooth reference surface in the newest image, and the reference's depth."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    depth = (3 + 0.02 * x - 0.01 * y).astype(np.float32)
    draws = np.random.default_rng(seed)
    pixels = np.stack((draws.integers(0, WIDTH, 4 * count), draws.integers(0, HEIGHT, 4 * count)), axis=-1)
    points = unproject(pixels, depth[pixels[:, 1], pixels[:, 0]], CAMERA.matrix())
    in_newest = transform(invert(REFERENCE_FROM_NEWEST), points)
    seen = in_newest[:, :2] / in_newest[:, 2:] * 60.0 + [31.5, 23.5]
    inside = ((seen >= 0) & (seen <= [WIDTH - 1, HEIGHT - 1])).all(axis=-1)
    assert inside.sum() >= count
    return FeatureMatches(pixels[inside][:count].astype(np.float64), seen[inside][:count]), depth


@pytest.mark.parametrize("unit", [1.0, 0.2])
def test_true_features_give_the_true_pose_in_the_unit_of_the_depth(unit: float) -> None:
    matches, depth = matches_of(80)
    found = solve_pose_on_features(matches, np.float32(unit) * depth, ALL, CAMERA)
    expected = REFERENCE_FROM_NEWEST.copy()
    expected[:3, 3] *= unit
    assert_pose(found, expected)
    assert found.inlier_ratio == 1.0


def test_features_on_movers_and_where_nothing_is_known_have_no_say() -> None:
    matches, depth = matches_of(200)
    newest = matches.newest_pixels.copy()
    static = ALL.copy()
    static[:, :24] = False
    newest[:, 0] += np.where(np.rint(newest[:, 0]) < 24, -3, 0)
    newest = newest.clip(0)
    depth[:10] = np.nan
    depth[10:14] = -1.0
    found = solve_pose_on_features(FeatureMatches(matches.reference_pixels, newest), depth, static, CAMERA)
    assert_pose(found, REFERENCE_FROM_NEWEST)


@pytest.mark.parametrize("count", [0, MIN_FEATURES - 1])
def test_few_features_decide_nothing(count: int) -> None:
    matches, depth = matches_of(count)
    found = solve_pose_on_features(matches, depth, ALL, CAMERA)
    assert isinstance(found, PnpFailure)
    assert f"expected {MIN_FEATURES} static features with depth, got {count}" in found.reason


def test_many_features_that_do_not_agree_decide_nothing() -> None:
    matches, depth = matches_of(100)
    wild = np.random.default_rng(3).uniform(0, [WIDTH - 1, HEIGHT - 1], matches.newest_pixels.shape)
    assert isinstance(
        solve_pose_on_features(FeatureMatches(matches.reference_pixels, wild), depth, ALL, CAMERA), PnpFailure
    )


# --- scale, depth, speed


def test_a_scale_is_found_among_a_third_of_outliers_and_only_where_told() -> None:
    units = own_points()[..., 2]
    metres = 2.5 * units
    metres[:16] *= 9
    static = ALL.copy()
    static[40:], metres[40:] = False, 0.01
    assert metres_per_unit(units, metres, static) == pytest.approx(2.5, rel=1e-5)


@pytest.mark.parametrize("nothing", [np.nan, 0.0, -1.0])
def test_no_scale_without_anything_to_compare(nothing: float) -> None:
    units = own_points()[..., 2]
    assert metres_per_unit(units, np.full_like(units, nothing), ALL) is None
    assert metres_per_unit(units, units, ~ALL) is None


def test_an_uncertain_scale_is_doubt_along_the_way_gone() -> None:
    position = np.array([0.3, -0.4, 1.2])
    for count, observations in ((256 * 9, 9), (10, 1)):  # neighbouring pixels count as one observation
        found = scale_doubt(RobustScale(scale=2.0, log_spread=0.1, count=count), position)
        one_sigma = 0.1 / observations**0.5 * position
        np.testing.assert_allclose(found[:3, :3], np.outer(one_sigma, one_sigma))
        assert not found[3:].any()
        assert not found[:, 3:].any()
    assert not scale_doubt(RobustScale(scale=2.0, log_spread=0.0, count=5), position).any()


def test_depth_in_the_newest_camera_is_its_own_depth() -> None:
    points = own_points()
    found = depth_in_newest(in_reference(points), REFERENCE_FROM_NEWEST)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, points[..., 2], rtol=1e-5)


def test_points_of_any_unit_meet_the_depth_of_the_plane_they_lie_on() -> None:
    depth = own_points()[..., 2]
    rays = own_points() / depth[..., None]
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    plane = (1.0 / (0.2 + 0.001 * x + 0.002 * y)).astype(np.float32)  # inverse depth is linear in the pixel
    for shift in (0.0, 0.3):
        moved = rays + np.array([shift / CAMERA.fx_px, 0.0, 0.0], np.float32)
        found = depth_met(7.0 * moved, plane, ALL, CAMERA)
        expected = 1.0 / (0.2 + 0.001 * (x + shift) + 0.002 * y)
        inside = np.s_[1:-1, 1:-1]
        np.testing.assert_allclose(found[inside], expected[inside], rtol=1e-3)


def test_no_depth_is_met_behind_outside_and_beside_what_moves() -> None:
    points = own_points()
    static = ALL.copy()
    static[5, 7] = False
    found = depth_met(points, points[..., 2], static, CAMERA)
    assert np.isnan(found[5, 7])
    assert np.isfinite(found).mean() > 0.9
    assert np.isnan(depth_met(-points, points[..., 2], ALL, CAMERA)).all()
    aside = points + np.array([100.0, 0.0, 0.0], np.float32)
    assert np.isnan(depth_met(aside, points[..., 2], ALL, CAMERA)).all()
    assert np.isnan(depth_met(np.full_like(points, np.nan), points[..., 2], ALL, CAMERA)).all()


def depth_met_slowly(points: FloatArray, depth_m: FloatArray, static: np.ndarray) -> FloatArray:
    """(h, w) twin of :func:`depth_met`: OpenCV interpolates in the whole map, to within 1/32 px."""
    inverse = np.where(static, 1.0 / depth_m, np.nan).astype(np.float32)
    x, y = (CAMERA.fx_px * points[..., i] / points[..., 2] + c for i, c in ((0, CAMERA.cx_px), (1, CAMERA.cy_px)))
    met = cv2.remap(inverse, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=np.nan)
    return 1.0 / met


def test_the_depth_that_is_met_is_that_of_interpolated_maps() -> None:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    depth = (3.0 + 0.5 * np.sin(x / 9) + 0.3 * np.cos(y / 7)).astype(np.float32)
    static = np.random.default_rng(0).random(depth.shape) > 0.1
    points = transform(pose_exp([0.05, -0.03, 0.02, 0.01, 0.02, 0.05]), own_points()).astype(np.float32)
    fast, slow = depth_met(points, depth, static, CAMERA), depth_met_slowly(points, depth, static)
    both = np.isfinite(fast) & np.isfinite(slow)
    assert both.mean() > 0.4
    assert (np.isfinite(fast) == np.isfinite(slow)).mean() > 0.95  # rounded, some take no part of a neighbour
    np.testing.assert_allclose(fast[both], slow[both], rtol=3e-3)


def test_speed_and_turn_rate_do_not_depend_on_where_the_world_is() -> None:
    a_from_b = pose_exp([0.0, 0.0, 0.0, 0.0, 0.3, 0.0])
    a_from_b[:3, 3] = [0.3, 0.0, 0.4]
    for world_from_a in (np.eye(4), pose_exp([5.0, -3.0, 1.0, 0.4, 1.0, -2.0])):
        speed, turn = motion_between(world_from_a, world_from_a @ a_from_b, 0.25)
        assert speed == pytest.approx(2.0)
        assert turn == pytest.approx(1.2)


# --- focal length


@pytest.mark.parametrize("focal_px", [40.0, 75.0])
def test_a_focal_length_is_read_from_a_pointmap_in_any_unit(focal_px: float) -> None:
    camera = FocalEstimate().update(0.3 * own_points(focal_px), CONFIDENT)
    assert camera.fx_px == camera.fy_px == pytest.approx(focal_px, rel=1e-4)
    assert (camera.cx_px, camera.cy_px) == (31.5, 23.5)
    assert (camera.width_px, camera.height_px) == (WIDTH, HEIGHT)


def test_one_wild_frame_does_not_change_the_focal_length() -> None:
    estimate = FocalEstimate()
    for focal_px in (60.0, 60.0, 200.0):
        camera = estimate.update(own_points(focal_px), CONFIDENT)
    assert camera.fx_px == pytest.approx(60.0, rel=1e-4)


def test_old_frames_are_forgotten() -> None:
    estimate = FocalEstimate()
    found = [estimate.update(own_points(50.0 if n < 30 else 70.0), CONFIDENT).fx_px for n in range(50)]
    assert found[29] == pytest.approx(50.0, rel=1e-4)
    assert found[-1] == pytest.approx(70.0, rel=1e-4)


@pytest.mark.parametrize("nothing", [np.nan, 0.0])
def test_a_pointmap_without_content_says_nothing(nothing: float) -> None:
    estimate = FocalEstimate()
    empty = np.full((HEIGHT, WIDTH, 3), nothing, np.float32)
    assert estimate.update(empty, CONFIDENT).fx_px == WIDTH
    seen = estimate.update(own_points(), CONFIDENT).fx_px
    assert estimate.update(empty, CONFIDENT).fx_px == seen


# --- few pixels in place of all: the slow twin makes the whole maps first


def large(values: FloatArray) -> FloatArray:
    """The same, four times as many rows and columns."""
    return np.repeat(np.repeat(values, 4, axis=0), 4, axis=1)


def test_the_scale_to_the_depth_that_is_met_is_that_of_whole_maps() -> None:
    camera = Intrinsics(240.0, 240.0, 127.5, 95.5, 4 * WIDTH, 4 * HEIGHT)
    points = unproject(pixel_grid(4 * HEIGHT, 4 * WIDTH), large(own_points()[..., 2]), camera.matrix())
    points = transform(pose_exp([0.05, 0.0, 0.02, 0.0, 0.01, 0.0]), points).astype(np.float32)
    known = 2.5 * large(own_points(seed=1)[..., 2])
    static, known_static = np.random.default_rng(0).random((2, *known.shape)) > 0.1
    fast = scale_to_met_depth(points, static, known, known_static, camera)
    assert fast == relative_scale(points[..., 2], depth_met(points, known, known_static, camera), static)
    assert fast is not None
    assert thinning(*known.shape) > 1
    assert scale_to_met_depth(points, np.zeros_like(static), known, known_static, camera) is None


def test_the_scale_to_moved_points_is_that_of_whole_maps() -> None:
    points = large(in_reference(own_points()))
    depth = large(3.0 * own_points(seed=1)[..., 2])
    static = np.random.default_rng(0).random(depth.shape) > 0.1
    fast = scale_to_moved_points(depth, points, REFERENCE_FROM_NEWEST, static)
    assert fast == relative_scale(depth, depth_in_newest(points, REFERENCE_FROM_NEWEST), static)
    in_newest = transform(invert(REFERENCE_FROM_NEWEST), points)[..., 2]
    np.testing.assert_allclose(depth_in_newest(points, REFERENCE_FROM_NEWEST), in_newest, rtol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("count", [1, 2, 101])
def test_the_lower_quantile_is_numpys(share: float, count: int) -> None:
    values = np.random.default_rng(count).normal(size=count).astype(np.float32)
    assert lower_quantile(values, share) == np.quantile(values, share, method="lower")
