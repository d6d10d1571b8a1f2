"""Every step of the classical pipeline against analytic geometry, and the whole of it against standing still."""

import dataclasses

import cv2
import numpy as np
import pytest

from pomato_ros.evaluation import opencv_baseline as classical
from pomato_ros.evaluation.grading import grade, grade_trivial, truth_of
from pomato_ros.evaluation.opencv_baseline import Matches
from pomato_ros.geometry.camera import project, unproject
from pomato_ros.geometry.grid import pixel_grid
from pomato_ros.geometry.rigid import invert, pose_from, rotation_angle, rotation_exp, transform
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip

HEIGHT, WIDTH = 48, 64
MATRIX = np.array([[60.0, 0.0, 31.5], [0.0, 60.0, 23.5], [0.0, 0.0, 1.0]])
GRID = pixel_grid(HEIGHT, WIDTH)
GENERATOR = np.random.default_rng(0)
DEPTH = 3.0 + np.sin(GRID[..., 0] / 9.0) + np.cos(GRID[..., 1] / 7.0)
R_FROM_T = pose_from(rotation_exp([0.01, -0.03, 0.02]), [0.18, -0.05, 0.1])
LENGTH = float(np.linalg.norm(R_FROM_T[:3, 3]))
UNIT_STEP = pose_from(R_FROM_T[:3, :3], R_FROM_T[:3, 3] / LENGTH)
POINTS_R = transform(R_FROM_T, unproject(GRID, DEPTH, MATRIX))


def true_matches() -> Matches:
    return Matches(GRID, project(POINTS_R, MATRIX), np.ones((HEIGHT, WIDTH), bool))


def texture(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)
    blurred = cv2.GaussianBlur(noise, (0, 0), 1.5)
    return cv2.normalize(blurred, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def test_triangulation_of_true_matches_gives_the_true_depths() -> None:
    depth_t, depth_r = classical.triangulated(GRID, true_matches().pixels_r, R_FROM_T, MATRIX)
    np.testing.assert_allclose(depth_t, DEPTH, rtol=1e-6)
    np.testing.assert_allclose(depth_r, POINTS_R[..., 2], rtol=1e-6)


def test_a_step_of_one_gives_depth_in_steps_and_the_known_depth_gives_its_length() -> None:
    depth_t, _ = classical.triangulated(GRID, true_matches().pixels_r, UNIT_STEP, MATRIX)
    np.testing.assert_allclose(LENGTH * depth_t, DEPTH, rtol=1e-6)
    flat = pose_from(np.eye(3), R_FROM_T[:3, 3])  # so that the depth known for r is that of a plane
    pixels_r = project(transform(flat, unproject(GRID, np.full(DEPTH.shape, 4.0), MATRIX)), MATRIX)
    known_r = np.full(DEPTH.shape, 4.0 + R_FROM_T[2, 3], np.float32)
    unit = pose_from(np.eye(3), R_FROM_T[:3, 3] / LENGTH)
    matches = Matches(GRID, pixels_r, np.ones((HEIGHT, WIDTH), bool))
    assert classical.step_length(matches, unit, known_r, MATRIX) == pytest.approx(LENGTH, rel=1e-5)
    assert classical.step_length(matches, np.eye(4), known_r, MATRIX) == 0.0


def test_true_matches_lie_on_their_epipolar_lines_and_others_do_not() -> None:
    pixels_r = true_matches().pixels_r
    assert float(classical.sampson_px(GRID, pixels_r, R_FROM_T, MATRIX).max()) < 1e-6
    offset = classical.sampson_px(GRID, pixels_r + (0.0, 4.0), R_FROM_T, MATRIX)
    assert float(np.median(offset)) > 1.5


def test_a_camera_that_only_turned_is_found_and_leaves_nothing() -> None:
    rotation = rotation_exp([0.02, 0.05, -0.01])
    pixels_r = classical.rotated_pixels(GRID, rotation, MATRIX).reshape(-1, 2)
    found, parallax_px = classical.turned_only(GRID.reshape(-1, 2), pixels_r, MATRIX)
    np.testing.assert_allclose(found[:3, :3], rotation, atol=1e-6)
    assert parallax_px < 1e-4
    matches = Matches(GRID, pixels_r.reshape(GRID.shape), np.ones((HEIGHT, WIDTH), bool))
    assert not classical.relative_pose(matches, MATRIX)[:3, 3].any()


def test_the_pose_is_found_among_matches_of_which_a_quarter_is_wrong() -> None:
    matches = true_matches()
    wrong = GENERATOR.uniform(size=(HEIGHT, WIDTH)) < 0.25
    pixels_r = matches.pixels_r + np.where(wrong[..., None], GENERATOR.normal(0.0, 6.0, GRID.shape), 0.0)
    found = classical.relative_pose(dataclasses.replace(matches, pixels_r=pixels_r), MATRIX)
    error = found[:3, :3].T @ UNIT_STEP[:3, :3]
    assert np.degrees(rotation_angle(error)) < 0.1
    assert float(found[:3, 3] @ UNIT_STEP[:3, 3]) > 0.999


def test_what_leaves_its_epipolar_line_moves_and_has_no_depth() -> None:
    matches = true_matches()
    pixels_r = matches.pixels_r.copy()
    pixels_r[10:25, 20:40] += (0.0, 5.0)
    depth, moving = classical.depth_and_moving(dataclasses.replace(matches, pixels_r=pixels_r), R_FROM_T, MATRIX)
    inside = np.zeros_like(moving)
    inside[10:25, 20:40] = True
    assert float((moving & inside).sum() / (moving | inside).sum()) > 0.9
    assert not np.isfinite(depth[inside & moving]).any()
    np.testing.assert_allclose(depth[~inside], DEPTH[~inside], rtol=1e-5)


def test_flow_of_a_shifted_image_is_the_shift() -> None:
    large = texture(1, HEIGHT + 8, WIDTH + 8)
    one, other = large[4:-4, 4:-4], large[2:-6, 7:-1]
    found = classical.flow(np.ascontiguousarray(one), np.ascontiguousarray(other))
    inner = found[10:-10, 10:-10].reshape(-1, 2)
    np.testing.assert_allclose(np.median(inner, axis=0), (-3.0, 2.0), atol=0.1)


def test_images_that_stay_the_same_are_a_camera_that_stands_still() -> None:
    image = np.repeat(texture(2)[..., None], 3, axis=-1)
    run = classical.perceive([image] * 4, MATRIX)
    np.testing.assert_allclose(run.world_from_camera, np.tile(np.eye(4), (4, 1, 1)), atol=1e-3)
    assert not run.moving.any()
    assert np.isfinite(run.depth).all()
    followed = classical.follow_pixels([image] * 4, run.depth, MATRIX, np.array([[20.0, 10.0], [40.0, 30.0]]))
    np.testing.assert_allclose(followed, np.broadcast_to(followed[0], followed.shape), atol=1e-2)


def test_one_image_alone_has_no_way() -> None:
    image = np.repeat(texture(2)[..., None], 3, axis=-1)
    run = classical.perceive([image], MATRIX)
    assert np.isfinite(run.depth).all()
    np.testing.assert_array_equal(run.world_from_camera, np.eye(4)[None])


def test_on_a_rendered_clip_it_beats_standing_still_in_steps_of_its_first_one() -> None:
    world = dataclasses.replace(
        TRAIN_WORLD,
        mover_probability=0.0,
        plain_probability=0.0,
        camera_kinds=(1.0, 0.0, 0.0, 0.0, 0.0),
        camera_speed_m_s=(0.7, 0.7),
        frame_interval_s=(0.1, 0.1),
        noise_std=(0.0, 0.0),
    )
    clip = render_clip(4, world, 5, (128, 96))
    truth = truth_of(clip)
    run = classical.perceive([image.numpy() for image in clip.images], clip.intrinsics.matrix())
    scores, baseline = grade(run, truth).scores, grade_trivial(run, truth)
    assert scores.ate_over_path < baseline.ate_over_path
    assert scores.rpe_rot_deg < baseline.rpe_rot_deg
    first_step = invert(run.world_from_camera[0]) @ run.world_from_camera[1]
    assert np.linalg.norm(first_step[:3, 3]) == pytest.approx(1.0)
