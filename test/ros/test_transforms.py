import threading

import numpy as np
from scipy.spatial.transform import Rotation

from pomato_ros.ros.frames import OPTICAL_ROTATION
from pomato_ros.ros.transforms import TransformTree, find_mount, relative_pose


def pose_of(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_quat(generator.normal(size=4)).as_matrix()
    pose[:3, 3] = generator.normal(size=3)
    return pose


BASE_FROM_MAST, MAST_FROM_CAMERA, BASE_FROM_WHEEL = (pose_of(seed) for seed in range(3))
EDGES = {"mast": ("base", BASE_FROM_MAST), "camera": ("mast", MAST_FROM_CAMERA), "wheel": ("base", BASE_FROM_WHEEL)}


def test_a_chain_is_multiplied() -> None:
    np.testing.assert_allclose(relative_pose(EDGES, "base", "camera"), BASE_FROM_MAST @ MAST_FROM_CAMERA)


def test_branches_meet_at_their_common_ancestor() -> None:
    expected = np.linalg.inv(BASE_FROM_WHEEL) @ BASE_FROM_MAST @ MAST_FROM_CAMERA
    np.testing.assert_allclose(relative_pose(EDGES, "wheel", "camera"), expected)


def test_the_way_back_is_the_inverse() -> None:
    there, back = relative_pose(EDGES, "camera", "wheel"), relative_pose(EDGES, "wheel", "camera")
    assert there is not None
    assert back is not None
    np.testing.assert_allclose(there @ back, np.eye(4), atol=1e-12)


def test_unconnected_frames_have_no_pose() -> None:
    assert relative_pose(EDGES, "base", "nowhere") is None


def test_a_cycle_does_not_hang() -> None:
    cycle = {"a": ("b", np.eye(4)), "b": ("a", np.eye(4))}
    assert relative_pose(cycle, "c", "a") is None


def test_waiting_ends_when_the_transform_comes() -> None:
    tree = TransformTree()
    timer = threading.Timer(0.05, lambda: tree.add("base", "camera", BASE_FROM_MAST, static=True))
    timer.start()
    np.testing.assert_array_equal(tree.wait_for("base", "camera", 5.0), BASE_FROM_MAST)
    timer.join()


def test_a_time_jump_keeps_static_transforms_only() -> None:
    tree = TransformTree()
    tree.add("base", "camera", np.eye(4), static=True)
    tree.add("odom", "base", np.eye(4), static=False)
    tree.clear_dynamic()
    assert tree.wait_for("base", "camera", 0.0) is not None
    assert tree.wait_for("odom", "base", 0.0) is None


def test_without_a_mount_a_forward_camera_is_assumed_and_both_frames_are_named() -> None:
    mount = find_mount(TransformTree(), "base_link", "cam", 0.0)
    assert mount.assumed
    np.testing.assert_array_equal(mount.base_from_optical[:3, :3], OPTICAL_ROTATION)
    assert "'base_link'" in mount.warning
    assert "'cam'" in mount.warning


def test_a_frame_whose_z_axis_points_up_is_suspected() -> None:
    tree = TransformTree()
    tree.add("base_link", "camera_link", np.eye(4), static=True)
    mount = find_mount(tree, "base_link", "camera_link", 0.0)
    assert not mount.assumed
    assert "body frame" in mount.warning
