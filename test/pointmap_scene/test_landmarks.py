"""Landmarks over true depth: poses, units and what is forgotten."""

import dataclasses
from typing import Any

import cv2
import numpy as np
import pytest

from pomato_ros.geometry.camera import project
from pomato_ros.geometry.rigid import invert, pose_exp, pose_from, rotation_angle, rotation_exp, rotation_log, transform
from pomato_ros.pointmap_scene.features import PATCH_PX, SoftImage, softened
from pomato_ros.pointmap_scene.landmarks import (
    CELLS,
    FEW,
    GATE,
    GREY_STD,
    JUMP_PX,
    JUMP_STD,
    JUMP_STDS,
    MIN_LANDMARKS,
    MISSES,
    PIXEL_STD,
    POOR_STD,
    REPEATED_LOOKS,
    SHARED_DEPTH,
    LandmarkPose,
    Landmarks,
    fit_on_landmarks,
    jumps,
    place_noise,
)
from pomato_ros.pointmap_scene.scale import scaled_about
from pomato_ros.structures import FloatArray, Intrinsics, MaskArray, PoseArray
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip

FRAMES = 16
SIZE_WH = (128, 96)
TRAVELLING = dataclasses.replace(
    TRAIN_WORLD, mover_probability=0.0, camera_kinds=(1.0, 0.0, 0.0, 0.0, 0.0), plain_probability=0.0
)


@pytest.fixture(scope="module")
def clip() -> Clip:
    """A camera that travels where nothing moves."""
    return render_clip(6, TRAVELLING, FRAMES, SIZE_WH)


def true_pose(clip: Clip, t: int) -> np.ndarray:
    return invert(clip.world_from_camera[0].numpy()) @ clip.world_from_camera[t].numpy()


def everywhere(clip: Clip) -> np.ndarray:
    return np.ones(clip.depth_m.shape[1:], bool)


def learn(landmarks: Landmarks, clip: Clip, t: int, pose: np.ndarray, factor: float = 1.0) -> None:
    depth = (factor * clip.depth_m[t].numpy()).astype(np.float32)
    landmarks.learn(clip.images[t].numpy(), depth, everywhere(clip), pose, clip.intrinsics)


def test_a_camera_finds_its_way_on_landmarks_alone_and_knows_how_well(clip: Clip) -> None:
    landmarks = Landmarks()
    learn(landmarks, clip, 0, np.eye(4))
    for t in range(1, 7):
        found = landmarks.locate(clip.images[t].numpy(), everywhere(clip), clip.intrinsics)
        assert found is not None
        truth = true_pose(clip, t)
        missed = np.linalg.norm(found.world_from_camera[:3, 3] - truth[:3, 3])
        assert missed < 0.01 + 0.05 * np.linalg.norm(truth[:3, 3])
        assert rotation_angle(found.world_from_camera[:3, :3].T @ truth[:3, :3]) < 8e-3
        assert np.linalg.eigvalsh(found.covariance).min() > 0
        assert 0.5 < found.inlier_ratio <= 1.0
        learn(landmarks, clip, t, found.world_from_camera)


def well(count: int) -> PoseArray:
    """(n, 2, 2) noise of features that are all followed well."""
    return np.tile(PIXEL_STD**2 * np.eye(2), (count, 1, 1))


def test_the_unit_of_a_depth_map_is_told_by_the_landmarks(clip: Clip) -> None:
    landmarks = Landmarks()
    learn(landmarks, clip, 0, np.eye(4))
    found = landmarks.locate(clip.images[1].numpy(), everywhere(clip), clip.intrinsics)
    assert found is not None
    measured = landmarks.scale_of(0.4 * clip.depth_m[1].numpy(), found.world_from_camera)
    assert measured is not None
    assert measured.scale == pytest.approx(2.5, rel=0.02)
    assert landmarks.scale_of(np.full(clip.depth_m.shape[1:], np.nan, np.float32), found.world_from_camera) is None


def test_landmarks_keep_their_unit_though_depth_maps_change_theirs_by_a_little(clip: Clip) -> None:
    landmarks = Landmarks()
    learn(landmarks, clip, 0, np.eye(4))
    for t in range(1, 8):
        found = landmarks.locate(clip.images[t].numpy(), everywhere(clip), clip.intrinsics)
        assert found is not None
        learn(landmarks, clip, t, found.world_from_camera, factor=1.02 if t % 2 else 0.98)
    np.testing.assert_allclose(found.world_from_camera[:3, 3], true_pose(clip, 7)[:3, 3], atol=0.02)


def test_noise_is_no_place(clip: Clip) -> None:
    landmarks = Landmarks()
    learn(landmarks, clip, 0, np.eye(4))
    noise = np.random.default_rng(0).integers(0, 255, clip.images[0].shape).astype(np.uint8)
    assert landmarks.locate(noise, everywhere(clip), clip.intrinsics) is None


def test_without_static_pixels_or_landmarks_there_is_no_pose(clip: Clip) -> None:
    landmarks = Landmarks()
    image = clip.images[0].numpy()
    assert landmarks.locate(image, everywhere(clip), clip.intrinsics) is None
    learn(landmarks, clip, 0, np.eye(4))
    assert landmarks.locate(image, ~everywhere(clip), clip.intrinsics) is None
    landmarks.reset()
    assert landmarks.locate(image, everywhere(clip), clip.intrinsics) is None


def solve_on_landmarks(pose: np.ndarray, pixels: np.ndarray, *known: Any) -> LandmarkPose | None:
    fit = fit_on_landmarks(pose, pixels, *known)
    return None if fit is None else fit.solved(pixels, known[-1])


def test_the_weighted_solution_is_the_truth_for_true_pixels(clip: Clip) -> None:
    draws = np.random.default_rng(0)
    places = draws.uniform((-1, -1, 2), (1, 1, 5), (100, 3))
    pose = true_pose(clip, 5)
    camera = (places - pose[:3, 3]) @ pose[:3, :3]
    matrix = clip.intrinsics.matrix()
    pixels = (camera @ matrix.T)[:, :2] / camera[:, 2:]
    across = np.full(100, 1e-4)
    pixels[:10] += 40.0  # strays are weighed down
    along = np.zeros((100, 3))
    found = solve_on_landmarks(np.eye(4), pixels, well(100), places, along, across, clip.intrinsics)
    assert found is not None
    np.testing.assert_allclose(found.world_from_camera, pose, atol=0.01)
    assert found.inliers == 90
    few = slice(0, MIN_LANDMARKS - 1)
    few_rows = (pixels[few], well(100)[few], places[few], along[few], across[few])
    assert solve_on_landmarks(np.eye(4), *few_rows, clip.intrinsics) is None


def test_depths_that_err_alike_in_a_patch_are_told_by_the_covariance(clip: Clip) -> None:
    draws = np.random.default_rng(4)
    matrix, count, share = clip.intrinsics.matrix(), 160, 0.03
    width, height = clip.intrinsics.width_px, clip.intrinsics.height_px
    anchor = np.stack((draws.uniform(2, width - 3, count), draws.uniform(2, height - 3, count)), axis=-1)
    depth = draws.uniform(1.5, 4.0, count)
    rays = np.concatenate((anchor, np.ones((count, 1))), axis=-1) @ np.linalg.inv(matrix).T
    camera = np.array([0.25, -0.1, 0.1])  # the newest camera, not turned
    seen = (depth[:, None] * rays - camera) @ matrix.T
    pixels = seen[:, :2] / seen[:, 2:]
    pose = np.eye(4)
    pose[:3, 3] = camera
    size_px = max(width, height) / CELLS
    _, patch = np.unique(np.floor((anchor + 0.5) / size_px).astype(int) @ (1, 2 * CELLS), return_inverse=True)
    distances = []
    for _ in range(60):
        shared = np.sqrt(SHARED_DEPTH) * draws.normal(size=patch.max() + 1)[patch]
        error = share * (shared + np.sqrt(1 - SHARED_DEPTH) * draws.normal(size=count))
        places = (depth * np.exp(error))[:, None] * rays
        along = share * places
        across = np.full(count, 1e-8)
        noisy = pixels + PIXEL_STD * draws.normal(size=pixels.shape)
        found = solve_on_landmarks(pose, noisy, well(count), places, along, across, clip.intrinsics)
        assert found is not None
        apart = np.concatenate((found.world_from_camera[:3, 3] - camera, rotation_log(found.world_from_camera[:3, :3])))
        distances.append(apart @ np.linalg.solve(found.covariance, apart))
    assert 3.0 < np.mean(distances) < 9.0  # 6 where a covariance is honest


@pytest.mark.parametrize("factor", [1.0, 10.0, 100.0])
def test_a_camera_that_has_passed_its_landmarks_goes_on_with_others(clip: Clip, factor: float) -> None:
    landmarks = Landmarks()
    learn(landmarks, clip, 0, np.eye(4), factor)
    passed = pose_from(np.eye(3), (0.0, 0.0, 20.0 * factor))  # all of them lie behind it
    for t in (1, 2):
        assert landmarks.locate(clip.images[t].numpy(), everywhere(clip), clip.intrinsics) is not None
        learn(landmarks, clip, t, passed, factor)
    found = landmarks.locate(clip.images[2].numpy(), everywhere(clip), clip.intrinsics)
    assert found is not None
    np.testing.assert_allclose(found.world_from_camera, passed, atol=0.01 * factor)


def test_points_behind_the_camera_place_nobody(clip: Clip) -> None:
    places = np.random.default_rng(0).uniform((-40, -10, -40), (40, 10, -1), (100, 3))
    along = 0.03 * (places + (0, 0, 90))
    across = np.full(100, 1e-4)
    pixels = np.full((100, 2), 50.0)
    assert solve_on_landmarks(np.eye(4), pixels, well(100), places, along, across, clip.intrinsics) is None


def test_a_longer_world_is_seen_alike(clip: Clip) -> None:
    landmarks, centre = Landmarks(), np.array([0.1, -0.2, 0.3])
    learn(landmarks, clip, 0, np.eye(4))
    before = landmarks.locate(clip.images[2].numpy(), everywhere(clip), clip.intrinsics)
    landmarks.rescale(2.5, centre)
    after = landmarks.locate(clip.images[2].numpy(), everywhere(clip), clip.intrinsics)
    assert before is not None
    assert after is not None
    expected = scaled_about(before.world_from_camera, 2.5, centre)
    np.testing.assert_allclose(after.world_from_camera, expected, atol=1e-3)


def test_features_along_an_edge_are_believed_across_it_only(clip: Clip) -> None:
    """Pixels that slide along the edge which they lie on, as features on stripes do, do not pull the camera along."""
    draws = np.random.default_rng(2)
    places = draws.uniform((-1, -0.7, 2), (1, 0.7, 4), (200, 3))
    pose = true_pose(clip, 5)
    pixels = project(transform(invert(pose), places), clip.intrinsics.matrix())
    edges = draws.uniform(0, np.pi, 200)
    along_edge = np.stack((np.cos(edges), np.sin(edges)), axis=-1)
    slid = np.abs(draws.normal(size=200))[:, None] * np.where(along_edge[:, :1] < 0, -1.0, 1.0) * along_edge
    noise = well(200) + along_edge[:, :, None] * along_edge[:, None, :]
    none, across = np.zeros((200, 3)), np.full(200, 1e-6)
    errors = []
    for given in (noise, well(200)):
        found = solve_on_landmarks(pose, pixels + slid, given, places, none, across, clip.intrinsics)
        assert found is not None
        errors.append(np.linalg.norm(found.world_from_camera[:3, 3] - pose[:3, 3]))
    assert errors[0] < 0.4 * errors[1]


def test_how_well_a_feature_is_placed_depends_on_its_texture() -> None:
    rows, columns = np.mgrid[0:60, 0:90]
    image = np.full((60, 90), 128, np.uint8)
    image[:, :30] = np.where(rows[:, :30] % 8 < 4, 60, 200)  # stripes that lie
    image[:, 30:60] = np.where((rows // 4 + columns // 4)[:, 30:60] % 2, 60, 200)  # squares; nothing on the right
    flat = np.full((60, 90), 3.0, np.float32)
    stripes, squares, nothing = place_noise(image, flat, 0.04, np.array([[14.0, 31.0], [45.0, 31.0], [75.0, 31.0]]))
    np.testing.assert_allclose(stripes, np.diag([POOR_STD**2, PIXEL_STD**2]), atol=1e-6)
    np.testing.assert_allclose(squares, PIXEL_STD**2 * np.eye(2), atol=1e-6)
    np.testing.assert_allclose(nothing, POOR_STD**2 * np.eye(2), atol=1e-6)
    stepped = np.where(columns < 46, 3.0, 2.0).astype(np.float32)
    (beside,) = place_noise(image, stepped, 0.04, np.array([[45.0, 31.0]]))
    np.testing.assert_allclose(beside, squares + JUMP_STD**2 * np.eye(2), atol=1e-6)


def everywhere_in(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x and y (n,) of all pixels of an image (h, w)."""
    y, x = np.indices(image.shape).reshape(2, -1)
    return x, y


def test_depth_jumps_are_where_it_jumps_and_not_on_slopes() -> None:
    depth = np.tile(np.linspace(2.0, 4.0, 90, dtype=np.float32), (60, 1))
    all_of_it = everywhere_in(depth)
    assert not jumps(depth, 0.04, *all_of_it).any()
    depth[:, 40:] += 2.0
    found = jumps(depth, 0.04, *all_of_it).reshape(60, 90)
    reach = JUMP_PX // 2
    assert found[:, 40 - reach : 40 + reach].all()
    assert not found[:, : 40 - reach].any()
    assert not found[:, 40 + reach :].any()
    depth[20, 10] = np.nan  # a hole is an edge of what is around it
    around = jumps(depth, 0.04, *all_of_it).reshape(60, 90)[20 - reach : 21 + reach, 10 - reach : 11 + reach]
    assert around.all()


def noise_of_whole_images(grey: np.ndarray, depth_m: np.ndarray, log_depth_std: float) -> PoseArray:
    """(h, w, 2, 2) slow twin of :func:`place_noise`: OpenCV's filters over the whole image."""
    image, square = grey.astype(np.float32), np.ones((JUMP_PX, JUMP_PX), np.uint8)
    along_x, along_y = cv2.Scharr(image, cv2.CV_32F, 1, 0) / 32.0, cv2.Scharr(image, cv2.CV_32F, 0, 1) / 32.0
    xx, xy, yy = (
        cv2.boxFilter(one * other, cv2.CV_32F, (PATCH_PX, PATCH_PX), normalize=False).astype(np.float64)
        for one, other in ((along_x, along_x), (along_x, along_y), (along_y, along_y))
    )
    values, vectors = np.linalg.eigh(np.stack((np.stack((xx, xy), -1), np.stack((xy, yy), -1)), -2))
    variance = np.clip(GREY_STD**2 / np.maximum(values, 1e-9), PIXEL_STD**2, POOR_STD**2)
    depth = np.where(np.isfinite(depth_m), depth_m, 0.0).astype(np.float32)
    jump = cv2.dilate(depth, square) > np.exp(JUMP_STDS * log_depth_std) * cv2.erode(depth, square)
    noise = (vectors * variance[..., None, :]) @ np.swapaxes(vectors, -1, -2)
    return noise + JUMP_STD**2 * jump[..., None, None] * np.eye(2)


def test_noise_at_a_pixel_is_that_of_filters_over_the_whole_image(clip: Clip) -> None:
    grey, depth = softened(clip.images[3].numpy()), clip.depth_m[3].numpy().copy()
    depth[10:14, 30:50] = np.nan
    x, y = everywhere_in(grey)
    found = place_noise(grey, depth, 0.04, np.stack((x, y), axis=-1).astype(np.float64)).reshape(*grey.shape, 2, 2)
    slow = noise_of_whole_images(grey, depth, 0.04)
    inside = np.s_[PATCH_PX // 2 + 1 : -PATCH_PX // 2 - 1, PATCH_PX // 2 + 1 : -PATCH_PX // 2 - 1]
    np.testing.assert_allclose(found[inside], slow[inside], atol=1e-5)
    # what is beyond the edge is mirrored, before the gradients here, after them there
    np.testing.assert_allclose(np.trace(found, axis1=2, axis2=3), np.trace(slow, axis1=2, axis2=3), atol=1.0)


# --- the solver against its slow twin: one small matrix a landmark, all steps


def pixels_by_point(places_world: PoseArray, world_from_camera: PoseArray, camera: Intrinsics) -> PoseArray:
    """(n, 2, 3) how pixels change with the points (n, 3) in the world, by differences."""
    size = 1e-5
    moved = [
        project(transform(invert(world_from_camera), places_world + size * axis), camera.matrix())
        - project(transform(invert(world_from_camera), places_world - size * axis), camera.matrix())
        for axis in np.eye(3)
    ]
    return np.stack(moved, axis=-1) / (2 * size)


def solve_slowly(
    pose: PoseArray, pixels: PoseArray, noise: PoseArray, places: PoseArray, spread: PoseArray, camera: Intrinsics
) -> tuple[PoseArray, PoseArray]:
    """Pose and inverse normal equations after many steps of the weighted least squares."""
    for _ in range(60):
        residual = project(transform(invert(pose), places), camera.matrix()) - pixels
        by_point = pixels_by_point(places, pose, camera)
        weight = np.linalg.inv(by_point @ spread @ np.swapaxes(by_point, -1, -2) + noise)
        squared = np.einsum("ni,nij,nj->n", residual, weight, residual)
        weight /= (1.0 + squared / GATE)[:, None, None]
        turning = np.cross(by_point, (places - pose[:3, 3])[:, None, :])
        jacobian = np.concatenate((-by_point, turning), axis=-1)
        weighted = np.swapaxes(jacobian, -1, -2) @ weight
        normal = (weighted @ jacobian).sum(axis=0)
        step = -np.linalg.solve(normal, (weighted @ residual[..., None]).sum(axis=0)[:, 0])
        pose = pose_from(rotation_exp(step[3:]) @ pose[:3, :3], pose[:3, 3] + step[:3])
    return pose, np.linalg.inv(normal)


@pytest.mark.parametrize("far", [0.01, 0.1])
@pytest.mark.parametrize("seed", range(4))
def test_the_solver_comes_to_where_its_slow_twin_does(seed: int, far: float) -> None:
    draws = np.random.default_rng(seed)
    camera = Intrinsics(420.0, 410.0, 255.5, 143.5, 512, 288)
    pose = pose_exp(0.3 * draws.normal(size=6))
    seen = draws.uniform((-2.0, -1.5, 3.0), (2.0, 1.5, 8.0), (300, 3))
    along = 0.1 * draws.normal(size=(300, 3))
    across = draws.uniform(1e-6, 1e-4, 300)
    spread = along[:, :, None] * along[:, None, :] + across[:, None, None] * np.eye(3)
    noise = np.tile(0.1 * np.eye(2), (300, 1, 1)) + 0.02
    pixels = project(seen, camera.matrix()) + 0.3 * draws.normal(size=(300, 2))
    pixels[:15] += 20.0 * draws.normal(size=(15, 2))
    places = transform(pose, seen) + along * draws.normal(size=(300, 1))
    found = solve_on_landmarks(
        pose @ pose_exp(far * draws.normal(size=6)), pixels, noise, places, along, across, camera
    )
    assert found is not None
    slow, inverse_normal = solve_slowly(pose, pixels, noise, places, spread, camera)
    turned = rotation_log(found.world_from_camera[:3, :3] @ slow[:3, :3].T)
    apart = np.concatenate((found.world_from_camera[:3, 3] - slow[:3, 3], turned))
    assert apart @ np.linalg.solve(inverse_normal, apart) < 0.05**2  # a twentieth of a standard deviation


# --- what one look teaches, against one small matrix a landmark


def look_slowly(
    landmarks: Landmarks, found: MaskArray, depth_m: FloatArray, pose: PoseArray, camera: Intrinsics
) -> tuple[MaskArray, PoseArray, PoseArray]:
    """Which landmarks agree (n,), and what the log depths and their variances (n,) then are."""
    rows = landmarks._rows
    places = rows.places_world()
    by_point, along = pixels_by_point(places, pose, camera), rows.along()
    spread = along[:, :, None] * along[:, None, :] + rows.across(camera.fx_px)[:, None, None] * np.eye(3)
    in_camera = transform(invert(pose), places)
    residual = project(in_camera, camera.matrix()) - rows.pixels
    in_pixels = by_point @ spread @ np.swapaxes(by_point, -1, -2) + rows.noise
    agrees = found & (np.einsum("ni,nij,nj->n", residual, np.linalg.inv(in_pixels), residual) < GATE**2)
    by_depth = np.einsum("nij,nj->ni", by_point, places - rows.origins_world)
    weight = np.linalg.inv(rows.noise) / REPEATED_LOOKS
    x, y = np.rint(rows.pixels).astype(int).T
    miss = np.log(depth_m[y, x].astype(np.float64) / in_camera[:, 2])
    usable = np.abs(miss) < GATE * np.sqrt(landmarks._log_depth_std**2 + rows.variance)
    network = usable / (landmarks._log_depth_std**2 * REPEATED_LOOKS)
    together = 1.0 / rows.variance + np.einsum("ni,nij,nj->n", by_depth, weight, by_depth) + network
    pull = np.where(usable, network * miss, 0.0) - np.einsum("ni,nij,nj->n", by_depth, weight, residual)
    return (
        agrees,
        np.where(agrees, rows.log_depth + pull / together, rows.log_depth),
        np.where(agrees, 1.0 / together, rows.variance),
    )


@pytest.mark.parametrize("off_m", [0.0, 0.01])
def test_a_look_teaches_what_its_slow_twin_does(clip: Clip, off_m: float) -> None:
    landmarks = learnt(clip, 4)
    assert landmarks.locate(clip.images[4].numpy(), everywhere(clip), clip.intrinsics) is not None
    found, landmarks._rows.pixels = landmarks._found, landmarks._places
    assert found is not None
    pose = true_pose(clip, 4)
    pose[:3, 3] += off_m  # so that some disagree
    depth = clip.depth_m[4].numpy()
    rows = landmarks._rows
    agrees, log_depth, variance = look_slowly(landmarks, found, depth, pose, clip.intrinsics)
    stays = agrees | (rows.misses + 1 < MISSES)
    assert agrees.mean() > 0.2
    assert off_m == 0.0 or agrees.mean() < 0.99
    landmarks._look(found, depth, everywhere(clip), pose, clip.intrinsics)
    np.testing.assert_array_equal(landmarks._rows.misses == 0, agrees[stays])
    np.testing.assert_allclose(landmarks._rows.log_depth, log_depth[stays], atol=1e-7)
    np.testing.assert_allclose(landmarks._rows.variance, variance[stays], rtol=1e-5)


# --- landmarks looked for where few of them say, against all of them followed from the last image


def learnt(clip: Clip, frames: int) -> Landmarks:
    """Landmarks after some frames of true poses."""
    landmarks = Landmarks()
    for t in range(frames):
        landmarks.locate(clip.images[t].numpy(), everywhere(clip), clip.intrinsics)
        learn(landmarks, clip, t, true_pose(clip, t))
    return landmarks


@pytest.mark.parametrize("frames", [1, 3, 6])
def test_landmarks_are_where_following_each_of_them_finds_them(clip: Clip, frames: int) -> None:
    landmarks, newest = learnt(clip, frames), SoftImage.of(clip.images[frames].numpy())
    fast = landmarks._near_few(newest, everywhere(clip), clip.intrinsics)
    slow = landmarks._near_last(newest, everywhere(clip), clip.intrinsics)
    assert fast is not None
    assert slow is not None
    assert fast[3].sum() > 0.97 * slow[3].sum()  # none are lost
    both = fast[3] & slow[3]
    away = np.linalg.norm(fast[1] - slow[1], axis=-1)[both]
    assert np.quantile(away, 0.9) < 0.05
    poses = [landmarks._rows.pick(way[3]).solved(way[0], way[1][way[3]], clip.intrinsics) for way in (fast, slow)]
    assert poses[0] is not None
    assert poses[1] is not None
    apart = invert(poses[0].world_from_camera) @ poses[1].world_from_camera
    assert np.linalg.norm(apart[:3, 3]) < np.sqrt(np.trace(poses[1].covariance[:3, :3]))
    assert rotation_angle(apart[:3, :3]) < np.sqrt(np.trace(poses[1].covariance[3:, 3:]))


def test_where_few_are_wrong_all_are_asked(clip: Clip) -> None:
    landmarks, newest = learnt(clip, 3), SoftImage.of(clip.images[3].numpy())
    expected = landmarks.locate(clip.images[3].numpy(), everywhere(clip), clip.intrinsics)
    assert expected is not None
    spoiled = np.arange(0, len(landmarks._rows.pixels), max(1, len(landmarks._rows.pixels) // FEW))
    landmarks._rows.log_depth[spoiled] += np.random.default_rng(0).uniform(-2.0, 2.0, len(spoiled))
    assert landmarks._near_few(newest, everywhere(clip), clip.intrinsics) is None
    found = landmarks.locate(clip.images[3].numpy(), everywhere(clip), clip.intrinsics)
    assert found is not None
    np.testing.assert_allclose(found.world_from_camera, expected.world_from_camera, atol=0.02)


@pytest.mark.parametrize(("factor", "expected"), [(1.0, 0.04), (4.0, 0.08), (1e4, 0.3)])
def test_new_landmarks_are_as_doubtful_as_the_networks_depth(clip: Clip, factor: float, expected: float) -> None:
    landmarks = Landmarks()
    depth = clip.depth_m[0].numpy()
    landmarks.learn(clip.images[0].numpy(), depth, everywhere(clip), np.eye(4), clip.intrinsics, factor)
    assert len(landmarks._rows.variance) > 50
    np.testing.assert_allclose(landmarks._rows.variance, expected**2)


def test_rays_decide_where_the_networks_depth_is_doubted() -> None:
    # depth maps that err by a ramp across the image, poses that are true: what is triangulated comes out right
    errors: list[list[float]] = []
    for seed in range(6, 11):  # one alone scatters by some 0.03
        clip = render_clip(seed, TRAVELLING, FRAMES, SIZE_WH)
        errors.append([])
        for factor in (1.0, 100.0):
            landmarks = Landmarks()
            for t in range(len(clip)):
                depth = clip.depth_m[t].numpy() * np.linspace(0.8, 1.2, clip.images.shape[2], dtype=np.float32)
                static = ~clip.moving(t).numpy()
                landmarks.locate(clip.images[t].numpy(), static, clip.intrinsics)
                landmarks.learn(clip.images[t].numpy(), depth, static, true_pose(clip, t), clip.intrinsics, factor)
            rows = landmarks._rows
            in_camera = transform(invert(true_pose(clip, len(clip) - 1)), rows.places_world())
            x, y = np.rint(rows.pixels).astype(int).T
            errors[-1].append(float(np.median(np.abs(np.log(in_camera[:, 2] / clip.depth_m[-1].numpy()[y, x])))))
    believed, doubted = np.mean(errors, axis=0)
    assert doubted < 0.7 * believed


def test_one_landmark_that_seems_to_be_passed_does_not_cost_the_pose(clip: Clip) -> None:
    landmarks = Landmarks()
    learn(landmarks, clip, 0, np.eye(4))
    landmarks._rows.log_depth[0] = -9.0  # all but in the first camera, and behind the next one
    ahead = pose_from(np.eye(3), np.array([0.0, 0.0, 0.01]))
    found = landmarks.locate(clip.images[0].numpy(), everywhere(clip), clip.intrinsics)
    assert found is not None
    assert np.linalg.norm(found.world_from_camera[:3, 3] - np.zeros(3)) < 5e-3
    assert transform(invert(ahead), landmarks._rows.places_world()[:1])[0, 2] < 0


@pytest.mark.parametrize("size_wh", [(64, 16), (128, 16)])
def test_narrow_images_have_landmarks_too(size_wh: tuple[int, int]) -> None:
    clip, landmarks = render_clip(6, TRAVELLING, 4, size_wh), Landmarks()
    for t in range(3):
        learn(landmarks, clip, t, true_pose(clip, t))
    found = landmarks.locate(clip.images[3].numpy(), everywhere(clip), clip.intrinsics)
    assert found is not None
    assert found.inlier_ratio > 0.5
    way = true_pose(clip, 3)
    np.testing.assert_allclose(found.world_from_camera[:3, 3], way[:3, 3], atol=0.05)
