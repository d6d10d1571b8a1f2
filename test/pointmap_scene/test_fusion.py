"""Depth over time: errors average out, surfaces that change begin anew, and the camera's own motion is taken out."""

import cv2
import numpy as np
import pytest

from pomato_ros.geometry.camera import project, unproject
from pomato_ros.geometry.grid import pixel_grid
from pomato_ros.geometry.rigid import invert, pose_exp, transform
from pomato_ros.pointmap_scene.fusion import (
    FITS,
    LOOKS_MOVING,
    LOOKS_STILL,
    DepthFusion,
    changed_as,
    chosen,
    depth_after,
    pixels_before,
    rays_matrix,
    seen_again,
    thinned_camera,
    thinning,
)
from pomato_ros.pointmap_scene.scale import scaled_about
from pomato_ros.structures import FloatArray, Intrinsics, MaskArray, PoseArray

WIDTH, HEIGHT = 64, 48
CAMERA = Intrinsics(60.0, 60.0, 31.5, 23.5, WIDTH, HEIGHT)
NOTHING = np.zeros((HEIGHT, WIDTH), bool)
EVERYTHING = np.ones((HEIGHT, WIDTH), bool)
NO_FLOW = np.zeros((HEIGHT, WIDTH, 2), np.float32)
INNER = (slice(8, -8), slice(8, -8))  # pixels that stay in sight


def camera_at(t: int) -> PoseArray:
    """It slides, comes nearer and turns."""
    return pose_exp([0.03 * t, 0.01 * t, 0.04 * t, 0.0, 0.006 * t, 0.002 * t])


def depth_of_plane(world_from_camera: PoseArray) -> FloatArray:
    """(h, w) of the slanted plane z = 3 + 0.3 x."""
    rays = unproject(pixel_grid(HEIGHT, WIDTH), np.ones((HEIGHT, WIDTH)), CAMERA.matrix())
    in_world = rays @ world_from_camera[:3, :3].T
    at = world_from_camera[:3, 3]
    return ((3.0 + 0.3 * at[0] - at[2]) / (in_world[..., 2] - 0.3 * in_world[..., 0])).astype(np.float32)


def noisy(depth_m: FloatArray, seed: int, share: float) -> FloatArray:
    noise = np.random.default_rng(seed).normal(size=depth_m.shape)
    return (depth_m * np.exp(share * noise)).astype(np.float32)


def spread(depth_m: FloatArray, truth_m: FloatArray) -> float:
    return float(np.sqrt((np.log(depth_m / truth_m)[INNER] ** 2).mean()))


def test_errors_of_a_still_world_average_out_while_the_camera_moves() -> None:
    fusion, errors = DepthFusion(), []
    for t in range(17):
        truth = depth_of_plane(camera_at(t))
        errors.append(spread(fusion.update(noisy(truth, t, 0.02), NOTHING, None, camera_at(t), CAMERA), truth))
    assert errors[0] == pytest.approx(0.02, rel=0.1)
    assert errors[-1] < 1.2 * 0.02 / 4


def test_truth_stays_true() -> None:
    fusion = DepthFusion()
    for t in range(10):
        truth = depth_of_plane(camera_at(t))
        found = fusion.update(truth, NOTHING, None, camera_at(t), CAMERA)
        np.testing.assert_allclose(found[INNER], truth[INNER], rtol=1e-3)


def test_what_moves_is_averaged_along_the_flow() -> None:
    """A surface with a step in depth goes two pixels a frame to the right; the camera rests."""
    columns = np.arange(WIDTH)
    flow = NO_FLOW + np.array([-2.0, 0.0], np.float32)
    with_flow, without, errors = DepthFusion(), DepthFusion(), []
    for t in range(9):
        truth = np.broadcast_to(np.where(columns - 2 * t > 20, 2.0, 2.1), (HEIGHT, WIDTH)).astype(np.float32)
        seen = noisy(truth, t, 0.01)
        found = with_flow.update(seen, EVERYTHING, flow, np.eye(4), CAMERA)
        alone = without.update(seen, EVERYTHING, None, np.eye(4), CAMERA)
        errors.append((spread(found, truth), spread(alone, truth)))
    assert errors[-1][0] < 1.1 * 0.01 / np.sqrt(LOOKS_MOVING) * np.sqrt(1.0 + 0.5 / LOOKS_MOVING)
    assert errors[-1][1] == pytest.approx(0.01, rel=0.1)


def test_another_surface_begins_anew() -> None:
    fusion = DepthFusion()
    for _ in range(10):
        fusion.update(depth_of_plane(np.eye(4)), NOTHING, None, np.eye(4), CAMERA)
    nearer = depth_of_plane(np.eye(4)) * np.float32(np.exp(-1.5 * FITS))
    np.testing.assert_allclose(fusion.update(nearer, NOTHING, None, np.eye(4), CAMERA), nearer, rtol=1e-6)


def test_a_mean_forgets_what_was_long_ago() -> None:
    fusion = DepthFusion()
    truth = depth_of_plane(np.eye(4))
    for _ in range(100):
        fusion.update(truth, NOTHING, None, np.eye(4), CAMERA)
    factor = np.exp(0.5 * FITS)
    after = [
        fusion.update((truth * factor).astype(np.float32), NOTHING, None, np.eye(4), CAMERA)
        for _ in range(3 * int(LOOKS_STILL))
    ]
    assert np.log(after[0] / truth).max() == pytest.approx(0.5 * FITS / LOOKS_STILL, rel=0.05)
    np.testing.assert_allclose(after[-1], truth * factor, rtol=0.06 * 0.5 * FITS)


def test_a_longer_world_gives_longer_depths() -> None:
    truth, factor, centre = depth_of_plane(camera_at(1)), 1.7, np.array([0.2, -0.1, 0.4])
    plain, longer = DepthFusion(), DepthFusion()
    for fusion in (plain, longer):
        for t in range(3):
            fusion.update(noisy(depth_of_plane(camera_at(t)), t, 0.02), NOTHING, None, camera_at(t), CAMERA)
    longer.rescale(factor, centre)
    seen = noisy(depth_of_plane(camera_at(3)), 3, 0.02)
    expected = plain.update(seen, NOTHING, None, camera_at(3), CAMERA)
    pose = scaled_about(camera_at(3), factor, centre)
    found = longer.update((factor * seen).astype(np.float32), NOTHING, None, pose, CAMERA)
    np.testing.assert_allclose(found, factor * expected, rtol=1e-4)
    assert truth.shape == found.shape


@pytest.mark.parametrize("bad", [np.nan, 0.0, -1.0, np.inf])
def test_a_pixel_without_depth_stays_so_and_spoils_nothing(bad: float) -> None:
    fusion = DepthFusion()
    holes: MaskArray = np.random.default_rng(0).random((HEIGHT, WIDTH)) < 0.3
    for t in range(4):
        truth = depth_of_plane(camera_at(t))
        found = fusion.update(np.where(holes, np.float32(bad), truth), NOTHING, None, camera_at(t), CAMERA)
        np.testing.assert_array_equal(found[holes], np.full(int(holes.sum()), bad, np.float32))
        np.testing.assert_allclose(
            found[INNER][~holes[INNER]], truth[INNER][~holes[INNER]], rtol=1e-2
        )  # a pixel's slope


def test_what_is_forgotten_is_not_carried_on() -> None:
    fusion = DepthFusion()
    fusion.update(depth_of_plane(np.eye(4)), NOTHING, None, np.eye(4), CAMERA)
    fusion.forget()
    seen = noisy(depth_of_plane(np.eye(4)), 1, 0.02)
    np.testing.assert_allclose(fusion.update(seen, NOTHING, NO_FLOW, np.eye(4), CAMERA), seen, rtol=1e-6)


def test_of_a_large_image_every_few_pixels_tell_the_rest() -> None:
    large = Intrinsics(600.0, 600.0, 319.5, 239.5, 640, 480)
    rays = unproject(pixel_grid(480, 640), np.ones((480, 640)), large.matrix())
    truth = (3.0 / (1.0 - 0.3 * rays[..., 0])).astype(np.float32)  # the plane z = 3 + 0.3 x
    smooth = np.random.default_rng(5).normal(size=(17, 6, 8))
    stride = thinning(truth.shape)
    assert stride > 1
    fusion, camera = DepthFusion(), thinned_camera(large, stride)
    for wave in smooth:  # errors of whole blocks, as a network's
        seen = (truth * np.exp(0.02 * np.kron(wave, np.ones((80, 80))))).astype(np.float32)
        few = seen[::stride, ::stride]
        mean_of_few = fusion.update(few, np.zeros(few.shape, bool), None, np.eye(4), camera)
        found = changed_as(few, mean_of_few, seen)
    mean = truth * np.exp(0.02 * np.kron(smooth.mean(axis=0), np.ones((80, 80))))
    inside = np.kron(np.ones((6, 8)), np.pad(np.ones((72, 72)), 4)).astype(bool)
    np.testing.assert_allclose(found[inside], mean[inside], rtol=2e-3)


def smooth_errors(shape: tuple[int, int], seed: int, share: float) -> FloatArray:
    """(h, w) log errors that vary over a quarter of an image."""
    knots = np.random.default_rng(seed).normal(size=(5, 5)).astype(np.float32)
    return share * cv2.resize(knots, shape[::-1], interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("factor", [1, 4])
def test_maps_that_err_by_themselves_tell_more_together(factor: int) -> None:
    shape = (96 * factor, 128 * factor)
    y, x = np.mgrid[: shape[0], : shape[1]] / factor
    truth = (3.0 + 0.01 * x + 0.005 * y).astype(np.float32)
    rests, few = np.ones(shape, bool), np.s_[:: thinning(shape), :: thinning(shape)]
    before, after = [], []
    for seed in range(0, 30, 3):
        seen, other = (truth * np.exp(smooth_errors(shape, seed + number, 0.02)) for number in range(2))
        seen = seen.astype(np.float32)
        together = seen_again(seen[few], (0.3 * other)[few].astype(np.float32), rests[few])
        found = changed_as(seen[few], together, seen)
        before.append(np.std(np.log(seen / truth)))
        after.append(np.std(np.log(found / truth)))
    assert np.mean(after) < 1.05 * np.mean(before) / np.sqrt(2)


def test_maps_that_agree_change_nothing_and_those_of_other_surfaces_are_left_out() -> None:
    truth = depth_of_plane(np.eye(4))
    rests = np.ones(truth.shape, bool)
    np.testing.assert_allclose(seen_again(truth, 0.5 * truth, rests), truth, rtol=1e-5)
    other = truth.copy()
    other[:, :20] *= 0.6
    other[10:20] = np.nan
    np.testing.assert_allclose(seen_again(truth, other, rests), truth, rtol=1e-5)
    np.testing.assert_array_equal(seen_again(truth, np.full_like(truth, np.nan), rests), truth)
    np.testing.assert_array_equal(seen_again(truth, 1.05 * truth, ~rests), truth)


@pytest.mark.parametrize("shape", [(288, 512), (301, 513), (40, 60)])
def test_all_pixels_are_changed_as_the_one_whose_place_they_share(shape: tuple[int, int]) -> None:
    """Slow twin: pixel by pixel."""
    draws, stride = np.random.default_rng(6), thinning(shape)
    depth = draws.uniform(1.0, 5.0, shape).astype(np.float32)
    depth[:20, :20], depth[20:30] = np.nan, 0.0
    few = depth[::stride, ::stride]
    changed = few * draws.uniform(0.9, 1.1, few.shape).astype(np.float32)
    rows, columns = (np.arange(side) // stride for side in shape)
    with np.errstate(invalid="ignore"):
        factor = changed / few
    expected = depth * np.where(np.isfinite(factor), factor, 1.0)[rows][:, columns]
    np.testing.assert_allclose(changed_as(few, changed, depth), expected, rtol=1e-6)


def test_the_camera_of_every_few_pixels_sees_them_on_their_rays() -> None:
    few, stride = thinned_camera(CAMERA, 5), 5
    assert (few.width_px, few.height_px) == (len(range(0, WIDTH, stride)), len(range(0, HEIGHT, stride)))
    rays = unproject(pixel_grid(HEIGHT, WIDTH), np.ones((HEIGHT, WIDTH)), CAMERA.matrix())[::stride, ::stride]
    of_few = unproject(pixel_grid(few.height_px, few.width_px), np.ones(rays.shape[:2]), few.matrix())
    np.testing.assert_allclose(of_few, rays, atol=1e-9)
    np.testing.assert_allclose(rays_matrix(CAMERA.matrix()), np.linalg.inv(CAMERA.matrix()), atol=1e-12)


def test_what_is_chosen_is_what_numpy_chooses() -> None:
    draws = np.random.default_rng(7)
    values, others = draws.normal(size=(2, HEIGHT, WIDTH)).astype(np.float32)
    values[:5], others[3:8] = np.nan, np.inf
    where = draws.random((HEIGHT, WIDTH)) < 0.5
    expected = np.where(where, values, others)
    np.testing.assert_array_equal(chosen(where, values, others), expected)


def test_pixels_and_depths_go_from_camera_to_camera_as_their_points_do() -> None:
    """Rows and columns taken apart, against points moved one by one."""
    newest_from_before = pose_exp([0.2, -0.1, 0.3, 0.05, -0.1, 0.03])
    depth = noisy(depth_of_plane(np.eye(4)), 0, 0.2)
    points = transform(invert(newest_from_before), unproject(pixel_grid(HEIGHT, WIDTH), depth, CAMERA.matrix()))
    x, y = pixels_before(depth, newest_from_before, CAMERA.matrix())
    np.testing.assert_allclose(np.stack((x, y), axis=-1), project(points, CAMERA.matrix()), atol=1e-3)
    back = depth_after(x, y, points[..., 2].astype(np.float32), newest_from_before, CAMERA.matrix())
    np.testing.assert_allclose(back, depth, rtol=1e-4)
    assert np.isnan(pixels_before(depth, pose_exp([0.0, 0.0, 50.0, 0.0, 0.0, 0.0]), CAMERA.matrix())[0]).all()


def test_looks_that_are_doubted_count_for_less() -> None:
    """Errors known to be twice and half the usual in turns: near what weights by the inverse variance leave."""
    plain, doubted = DepthFusion(), DepthFusion()
    for t in range(12):
        truth, doubt = depth_of_plane(camera_at(t)), 2.0 if t % 2 else 0.5
        seen = noisy(truth, t, 0.01 * doubt)
        known = np.full(truth.shape, doubt, np.float32)
        alike = plain.update(seen, NOTHING, None, camera_at(t), CAMERA)
        weighted = doubted.update(seen, NOTHING, None, camera_at(t), CAMERA, known)
    best, even = (6 / 0.5**2 + 6 / 2.0**2) ** -0.5, (6 * 0.5**2 + 6 * 2.0**2) ** 0.5 / 12
    assert spread(weighted, truth) / spread(alike, truth) < 1.2 * best / even


@pytest.mark.parametrize("doubt", [0.5, 1.0, 3.0])
def test_a_doubt_that_is_the_same_for_all_that_moves_changes_nothing(doubt: float) -> None:
    """What moves is averaged over a few looks as sure as the newest, however sure that is."""
    plain, doubted = DepthFusion(), DepthFusion()
    for t in range(6):
        seen = noisy(depth_of_plane(np.eye(4)), t, 0.02)
        arguments = EVERYTHING, NO_FLOW, np.eye(4), CAMERA
        alike = plain.update(seen, *arguments)
        found = doubted.update(seen, *arguments, np.full(seen.shape, doubt, np.float32))
        np.testing.assert_allclose(found, alike, rtol=1e-6)
