"""Landmarks over true depth: poses, units and what is forgotten."""

import dataclasses

import numpy as np
import pytest

from pomato_ros.geometry.rigid import invert, rotation_angle
from pomato_ros.scene.landmarks import MIN_LANDMARKS, Landmarks, solve_on_landmarks
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
    found = solve_on_landmarks(np.eye(4), pixels, places, spread, clip.intrinsics)
    assert found is not None
    np.testing.assert_allclose(found.world_from_camera, pose, atol=0.01)
    assert found.inliers == 90
    few = slice(0, MIN_LANDMARKS - 1)
    assert solve_on_landmarks(np.eye(4), pixels[few], places[few], spread[few], clip.intrinsics) is None
