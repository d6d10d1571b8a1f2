"""Laws of rigid motion over random poses."""

import numpy as np
import pytest

from pomato_ros.geometry.rigid import (
    compose,
    cross_matrix,
    interpolate,
    invert,
    matrix_from_quaternion_xyzw,
    pose_exp,
    pose_from,
    pose_log,
    quaternion_xyzw_from_matrix,
    rotation_angle,
    rotation_exp,
    rotation_log,
    transform,
)

COUNT = 200


@pytest.fixture
def twists() -> np.ndarray:
    """(n, 6): translations of metres, rotations of up to nearly half a turn, tiny ones and none among them."""
    generator = np.random.default_rng(1)
    axis = generator.normal(size=(COUNT, 3))
    axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
    angle = generator.uniform(0, np.pi - 1e-3, size=(COUNT, 1))
    angle[:20] *= 10.0 ** -generator.uniform(1, 12, size=(20, 1))
    angle[0] = 0
    return np.concatenate((generator.normal(size=(COUNT, 3)), axis * angle), axis=-1)


def test_inverse_undoes_a_pose(twists: np.ndarray) -> None:
    poses = pose_exp(twists)
    np.testing.assert_allclose(compose(poses, invert(poses)), np.broadcast_to(np.eye(4), poses.shape), atol=1e-12)


def test_composition_is_associative_and_matches_transforming_twice(twists: np.ndarray) -> None:
    a, b, c = pose_exp(twists[:60]), pose_exp(twists[60:120]), pose_exp(twists[120:180])
    np.testing.assert_allclose(compose(compose(a, b), c), compose(a, compose(b, c)), atol=1e-12)
    points = np.random.default_rng(2).normal(size=(5, 7, 3))
    np.testing.assert_allclose(
        transform(a[0], transform(b[0], points)), transform(compose(a[0], b[0]), points), atol=1e-12
    )


def test_exponential_gives_rotations(twists: np.ndarray) -> None:
    rotations = rotation_exp(twists[:, 3:])
    identity = np.broadcast_to(np.eye(3), rotations.shape)
    np.testing.assert_allclose(rotations @ np.swapaxes(rotations, -1, -2), identity, atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotations), 1.0, atol=1e-12)


def test_exponential_of_a_quarter_turn_about_z() -> None:
    expected = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    np.testing.assert_allclose(rotation_exp([0, 0, np.pi / 2]), expected, atol=1e-15)


def test_logarithm_undoes_the_exponential(twists: np.ndarray) -> None:
    np.testing.assert_allclose(pose_log(pose_exp(twists)), twists, atol=1e-9)
    np.testing.assert_allclose(rotation_log(rotation_exp(twists[:, 3:])), twists[:, 3:], rtol=1e-9, atol=1e-15)


def test_logarithm_of_half_a_turn_has_length_pi() -> None:
    for axis in np.eye(3):
        np.testing.assert_allclose(np.abs(rotation_log(rotation_exp(np.pi * axis))), np.pi * axis, atol=1e-7)


def test_small_angles_keep_their_digits() -> None:
    assert rotation_angle(rotation_exp([1e-9, 0, 0])) == pytest.approx(1e-9, rel=1e-6)


def test_twists_of_one_screw_add_up(twists: np.ndarray) -> None:
    np.testing.assert_allclose(compose(pose_exp(0.3 * twists), pose_exp(0.7 * twists)), pose_exp(twists), atol=1e-12)


def test_quaternion_and_matrix_agree_and_sign_does_not_matter(twists: np.ndarray) -> None:
    rotations = rotation_exp(twists[:, 3:])
    quaternions = quaternion_xyzw_from_matrix(rotations)
    np.testing.assert_allclose(np.linalg.norm(quaternions, axis=-1), 1.0, atol=1e-15)
    assert (quaternions[:, 3] >= 0).all()
    for factor in (1.0, -1.0, 3.0):
        np.testing.assert_allclose(matrix_from_quaternion_xyzw(factor * quaternions), rotations, atol=1e-12)


def test_quaternion_order_is_xyzw() -> None:
    half = np.sqrt(0.5)
    np.testing.assert_allclose(quaternion_xyzw_from_matrix(rotation_exp([np.pi / 2, 0, 0])), [half, 0, 0, half])


@pytest.mark.parametrize("quaternion", [[0, 0, 0, 0], [np.nan, 0, 0, 1]])
def test_a_quaternion_without_direction_is_refused(quaternion: list[float]) -> None:
    with pytest.raises(ValueError, match="finite and not zero"):
        matrix_from_quaternion_xyzw(quaternion)


def test_interpolation_meets_both_ends_and_halves_the_angle(twists: np.ndarray) -> None:
    start, end = pose_exp(twists[:50]), pose_exp(twists[50:100])
    np.testing.assert_allclose(interpolate(start, end, 0.0), start, atol=1e-12)
    np.testing.assert_allclose(interpolate(start, end, 1.0), end, atol=1e-9)
    middle = interpolate(start, end, 0.5)
    whole = rotation_angle(compose(invert(start), end)[..., :3, :3])
    np.testing.assert_allclose(rotation_angle(compose(invert(start), middle)[..., :3, :3]), whole / 2, atol=1e-9)


def test_cross_matrix_is_the_cross_product() -> None:
    a, b = np.random.default_rng(3).normal(size=(2, 10, 3))
    np.testing.assert_allclose((cross_matrix(a) @ b[..., None])[..., 0], np.cross(a, b), atol=1e-15)


def test_pose_from_broadcasts_its_parts() -> None:
    poses = pose_from(np.eye(3), np.arange(6.0).reshape(2, 3))
    assert poses.shape == (2, 4, 4)
    np.testing.assert_array_equal(poses[1, :3, 3], [3, 4, 5])


def test_one_at_a_time_is_as_many_at_once(twists: np.ndarray) -> None:
    """Single inputs take a way of their own; the batch is its slow twin."""
    twists = np.concatenate((twists, np.pi * np.eye(6)[3:]))  # half turns too
    rotations, poses = rotation_exp(twists[:, 3:]), pose_exp(twists)
    np.testing.assert_allclose([rotation_exp(twist[3:]) for twist in twists], rotations, atol=1e-15)
    np.testing.assert_allclose([rotation_log(rotation) for rotation in rotations], rotation_log(rotations), atol=1e-15)
    quaternions = [quaternion_xyzw_from_matrix(rotation) for rotation in rotations]
    np.testing.assert_allclose(quaternions, quaternion_xyzw_from_matrix(rotations), atol=1e-15)
    np.testing.assert_array_equal([cross_matrix(twist[3:]) for twist in twists], cross_matrix(twists[:, 3:]))
    one_by_one = [pose_from(rotation, twist[:3]) for rotation, twist in zip(rotations, twists, strict=True)]
    np.testing.assert_array_equal(one_by_one, pose_from(rotations, twists[:, :3]))
    np.testing.assert_allclose([invert(pose) for pose in poses], invert(poses), atol=1e-15)


def test_what_is_no_number_turns_into_none() -> None:
    for value in (np.nan, np.inf):
        assert np.isnan(rotation_exp([value, 0.0, 0.0])).any()


def test_one_rotation_has_the_logarithm_that_it_has_among_others(twists: np.ndarray) -> None:
    rotations = np.concatenate((rotation_exp(twists[:, 3:]), rotation_exp(np.pi * np.eye(3)), np.eye(3)[None]))
    one_by_one = np.stack([rotation_log(rotation) for rotation in rotations])
    np.testing.assert_allclose(one_by_one, rotation_log(rotations), rtol=1e-12, atol=1e-15)
