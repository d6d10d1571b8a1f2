"""Landmarks over true depth: poses, units and what is forgotten."""

import dataclasses

import numpy as np
import pytest

from pomato_ros.geometry.camera import project
from pomato_ros.geometry.rigid import invert, pose_exp, pose_from, rotation_angle, rotation_exp, rotation_log, transform
from pomato_ros.scene.landmarks import (
    CELLS,
    GATE,
    JUMP_PX,
    JUMP_STD,
    MIN_LANDMARKS,
    PIXEL_STD,
    POOR_STD,
    SHARED_DEPTH,
    Landmarks,
    jumps,
    pixels_by_point,
    place_noise,
    solve_on_landmarks,
)
from pomato_ros.scene.scale import scaled_about
from pomato_ros.structures import Intrinsics, PoseArray
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip

FRAMES = 16


@pytest.fixture(scope="module")
def clip() -> Clip:
    """A camera that travels where nothing moves."""
    world = dataclasses.replace(
        TRAIN_WORLD, mover_probability=0.0, camera_kinds=(1.0, 0.0, 0.0, 0.0, 0.0), plain_probability=0.0
    )
    return render_clip(6, world, FRAMES, (128, 96))


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


def test_the_weighted_solution_is_the_truth_for_true_pixels(clip: Clip) -> None:
    draws = np.random.default_rng(0)
    places = draws.uniform((-1, -1, 2), (1, 1, 5), (100, 3))
    pose = true_pose(clip, 5)
    camera = (places - pose[:3, 3]) @ pose[:3, :3]
    matrix = clip.intrinsics.matrix()
    pixels = (camera @ matrix.T)[:, :2] / camera[:, 2:]
    spread = np.tile(1e-4 * np.eye(3), (100, 1, 1))
    pixels[:10] += 40.0  # strays are weighed down
    along = np.zeros((100, 3))
    found = solve_on_landmarks(np.eye(4), pixels, well(100), places, spread, along, clip.intrinsics)
    assert found is not None
    np.testing.assert_allclose(found.world_from_camera, pose, atol=0.01)
    assert found.inliers == 90
    few = slice(0, MIN_LANDMARKS - 1)
    few_rows = (pixels[few], well(100)[few], places[few], spread[few], along[few])
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
        spread = along[:, :, None] * along[:, None, :] + 1e-8 * np.eye(3)
        noisy = pixels + PIXEL_STD * draws.normal(size=pixels.shape)
        found = solve_on_landmarks(pose, noisy, well(count), places, spread, along, clip.intrinsics)
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
    spread = along[:, :, None] * along[:, None, :] + 1e-4 * np.eye(3)
    pixels = np.full((100, 2), 50.0)
    assert solve_on_landmarks(np.eye(4), pixels, well(100), places, spread, along, clip.intrinsics) is None


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
    spread = np.tile(1e-6 * np.eye(3), (200, 1, 1))
    errors = []
    for given in (noise, well(200)):
        found = solve_on_landmarks(pose, pixels + slid, given, places, spread, np.zeros((200, 3)), clip.intrinsics)
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


def test_depth_jumps_are_where_it_jumps_and_not_on_slopes() -> None:
    depth = np.tile(np.linspace(2.0, 4.0, 90, dtype=np.float32), (60, 1))
    assert not jumps(depth, 0.04).any()
    depth[:, 40:] += 2.0
    found = jumps(depth, 0.04)
    reach = JUMP_PX // 2
    assert found[:, 40 - reach : 40 + reach].all()
    assert not found[:, : 40 - reach].any()
    assert not found[:, 40 + reach :].any()
    depth[20, 10] = np.nan  # a hole is an edge of what is around it
    around = jumps(depth, 0.04)[20 - reach : 21 + reach, 10 - reach : 11 + reach]
    assert around.all()


# --- the solver against its slow twin: one small matrix a landmark, all steps


def solve_slowly(
    pose: PoseArray, pixels: PoseArray, noise: PoseArray, places: PoseArray, spread: PoseArray, intrinsics: Intrinsics
) -> tuple[PoseArray, PoseArray]:
    """Pose and inverse normal equations after many steps of the weighted least squares."""
    for _ in range(60):
        residual = project(transform(invert(pose), places), intrinsics.matrix()) - pixels
        by_point = pixels_by_point(places, pose, intrinsics)
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


@pytest.mark.parametrize("seed", range(4))
def test_the_solver_comes_to_where_its_slow_twin_does(seed: int) -> None:
    draws = np.random.default_rng(seed)
    camera = Intrinsics(420.0, 410.0, 255.5, 143.5, 512, 288)
    pose = pose_exp(0.3 * draws.normal(size=6))
    seen = draws.uniform((-2.0, -1.5, 3.0), (2.0, 1.5, 8.0), (300, 3))
    along = 0.1 * draws.normal(size=(300, 3))
    spread = along[:, :, None] * along[:, None, :] + 1e-5 * np.eye(3)
    noise = np.tile(0.1 * np.eye(2), (300, 1, 1)) + 0.02
    pixels = project(seen, camera.matrix()) + 0.3 * draws.normal(size=(300, 2))
    pixels[:15] += 20.0 * draws.normal(size=(15, 2))
    places = transform(pose, seen) + along * draws.normal(size=(300, 1))
    start = pose @ pose_exp(0.01 * draws.normal(size=6))
    found = solve_on_landmarks(start, pixels, noise, places, spread, along, camera)
    assert found is not None
    slow, inverse_normal = solve_slowly(start, pixels, noise, places, spread, camera)
    turned = rotation_log(found.world_from_camera[:3, :3] @ slow[:3, :3].T)
    apart = np.concatenate((found.world_from_camera[:3, 3] - slow[:3, 3], turned))
    assert apart @ np.linalg.solve(inverse_normal, apart) < 0.05**2  # a twentieth of a standard deviation


@pytest.mark.parametrize(("factor", "expected"), [(1.0, 0.04), (4.0, 0.08), (1e4, 0.3)])
def test_new_landmarks_are_as_doubtful_as_the_networks_depth(clip: Clip, factor: float, expected: float) -> None:
    landmarks = Landmarks()
    depth = clip.depth_m[0].numpy()
    landmarks.learn(clip.images[0].numpy(), depth, everywhere(clip), np.eye(4), clip.intrinsics, factor)
    assert len(landmarks._rows.variance) > 50
    np.testing.assert_allclose(landmarks._rows.variance, expected**2)


def test_rays_decide_where_the_networks_depth_is_doubted(clip: Clip) -> None:
    # depth maps that err by a ramp across the image, poses that are true: what is triangulated comes out right
    errors = []
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
        errors.append(np.median(np.abs(np.log(in_camera[:, 2] / clip.depth_m[-1].numpy()[y, x]))))
    assert errors[1] < 0.7 * errors[0]


def test_one_landmark_that_seems_to_be_passed_does_not_cost_the_pose(clip: Clip) -> None:
    landmarks = Landmarks()
    learn(landmarks, clip, 0, np.eye(4))
    landmarks._rows.log_depth[0] = -9.0  # all but in the first camera, and behind the next one
    ahead = pose_from(np.eye(3), np.array([0.0, 0.0, 0.01]))
    found = landmarks.locate(clip.images[0].numpy(), everywhere(clip), clip.intrinsics)
    assert found is not None
    assert np.linalg.norm(found.world_from_camera[:3, 3] - np.zeros(3)) < 5e-3
    assert transform(invert(ahead), landmarks._rows.places_world()[:1])[0, 2] < 0
