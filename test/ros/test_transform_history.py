"""TF at a time agrees with the motion it was sampled from, and what it does not tell is named."""

import threading
import time

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from scipy.spatial.transform import Rotation, Slerp
from std_msgs.msg import Header

from pomato_ros.geometry.rigid import invert, pose_exp
from pomato_ros.ros.conversions.poses import transform_message
from pomato_ros.ros.conversions.stamps import time_from_stamp_ns
from pomato_ros.ros.transform_history import (
    KEPT_NS,
    MANY_LINKS,
    UNMATCHED,
    UNPLACED,
    UNUSABLE,
    NoTransformError,
    TransformHistory,
    shortest_way,
)

START_NS = 1_700_000_000_123_456_789
STEP_NS = 20_000_001
GAP_NS = 500_000_000
LONG_S = 10.0
TWIST = np.array([0.8, 0.1, -0.05, 0.2, -0.1, 0.9])  # m/s and rad/s
OWN = ("odom", "base_link")


def stamped(parent: str, child: str, stamp_ns: int, pose: np.ndarray) -> TransformStamped:
    return transform_message(pose, Header(frame_id=parent, stamp=time_from_stamp_ns(stamp_ns)), child)


def put(
    history: TransformHistory, parent: str, child: str, stamp_ns: int, pose: np.ndarray, *, static: bool = False
) -> None:
    assert history.add([stamped(parent, child, stamp_ns, pose)], static=static) == 1


def true_pose(stamp_ns: int) -> np.ndarray:
    """Wheel odometry <- base of a robot on a screw."""
    return pose_exp([3.0, -1.0, 0.2, 0.3, 0.1, 2.0]) @ pose_exp(TWIST * (stamp_ns - START_NS) * 1e-9)


def any_pose(seed: int) -> np.ndarray:
    return pose_exp(np.random.default_rng(seed).normal(size=6))


def driven(own: tuple[str, str] | None = None, steps: range = range(11)) -> TransformHistory:
    """odom_wheel -> base_link moves, base_link -> mast -> camera is static."""
    history = TransformHistory(own)
    put(history, "base_link", "mast", 0, any_pose(1), static=True)
    put(history, "mast", "camera", 0, any_pose(2), static=True)
    for step in steps:
        stamp_ns = START_NS + step * STEP_NS
        put(history, "odom_wheel", "base_link", stamp_ns, true_pose(stamp_ns))
    return history


def refusal(
    history: TransformHistory, target: str = "odom_wheel", stamp_ns: int = START_NS, source: str = "camera"
) -> NoTransformError:
    with pytest.raises(NoTransformError) as caught:
        history.moving_pose(target, source, stamp_ns, GAP_NS, 0.0)
    return caught.value


# --- poses


def test_a_robot_on_a_screw_is_where_it_truly_is_at_any_time() -> None:
    history = driven()
    for stamp_ns in range(START_NS, START_NS + 10 * STEP_NS + 1, STEP_NS // 7):
        found = history.moving_pose("odom_wheel", "camera", stamp_ns, GAP_NS, 0.0)
        np.testing.assert_allclose(found, true_pose(stamp_ns) @ any_pose(1) @ any_pose(2), atol=1e-9)


def test_rotations_go_on_the_great_circle() -> None:
    ends = Rotation.from_quat(np.random.default_rng(5).normal(size=(2, 4)))
    history = TransformHistory()
    for stamp_ns, rotation in zip((0, 100), ends, strict=True):
        pose = np.eye(4)
        pose[:3, :3] = rotation.as_matrix()
        put(history, "odom_wheel", "camera", stamp_ns, pose)
    slerp = Slerp([0, 100], ends)
    for stamp_ns in (1, 30, 50, 99):
        found = history.moving_pose("odom_wheel", "camera", stamp_ns, GAP_NS, 0.0)
        np.testing.assert_allclose(found[:3, :3], slerp(stamp_ns).as_matrix(), atol=1e-9)


def test_each_moving_part_of_a_chain_is_taken_at_the_time_asked_for() -> None:
    """A mast that turns, sampled at other times than the robot, under a static camera and over a static lidar."""
    history = driven()
    turn = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 1.5])
    for step in range(-1, 12):
        stamp_ns = START_NS + step * STEP_NS + STEP_NS // 3
        turned = pose_exp(turn * (stamp_ns - START_NS) * 1e-9)
        put(history, "base_link", "turret", stamp_ns, turned)
    put(history, "turret", "eye", 0, any_pose(3), static=True)
    stamp_ns = START_NS + 5 * STEP_NS + 777
    expected = true_pose(stamp_ns) @ pose_exp(turn * (stamp_ns - START_NS) * 1e-9) @ any_pose(3)
    found = history.moving_pose("odom_wheel", "eye", stamp_ns, GAP_NS, 0.0)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_fixed_frame_may_hang_below_the_base_and_be_found_the_way_back() -> None:
    """So does an odometry that lives beside another: base_link -> odom_wheel."""
    history = TransformHistory(OWN)
    put(history, "base_link", "camera", 0, any_pose(1), static=True)
    for step in range(3):
        stamp_ns = START_NS + step * STEP_NS
        put(history, "base_link", "odom_wheel", stamp_ns, invert(true_pose(stamp_ns)))
    found = history.moving_pose("odom_wheel", "camera", START_NS + STEP_NS, GAP_NS, 0.0)
    np.testing.assert_allclose(found, true_pose(START_NS + STEP_NS) @ any_pose(1), atol=1e-9)


def test_transforms_may_come_in_any_order_and_again() -> None:
    history = driven(steps=range(0))
    for step in (2, 0, 1, 3, 1):
        stamp_ns = START_NS + step * STEP_NS
        put(history, "odom_wheel", "base_link", stamp_ns, true_pose(stamp_ns))
    for stamp_ns in (START_NS + STEP_NS, START_NS + STEP_NS // 2, START_NS + 5 * STEP_NS // 2):
        found = history.moving_pose("odom_wheel", "base_link", stamp_ns, GAP_NS, 0.0)
        np.testing.assert_allclose(found, true_pose(stamp_ns), atol=1e-9)


# --- what is missing or old


def test_a_time_that_no_transform_surrounds_has_no_pose_and_the_link_is_named() -> None:
    history = driven()
    late = refusal(history, stamp_ns=START_NS + 10 * STEP_NS + 300_000_000)
    assert (late.kind, late.frames) == (UNMATCHED, ("odom_wheel", "base_link"))
    assert "'odom_wheel' -> 'base_link' ends 0.300 s before the image" in str(late)
    assert "begins 0.250 s after the image" in str(refusal(history, stamp_ns=START_NS - 250_000_000))
    assert refusal(history, stamp_ns=START_NS + 2 * KEPT_NS).kind == UNMATCHED


def test_transforms_far_apart_are_not_joined() -> None:
    history = driven()
    back_ns = START_NS + 10 * STEP_NS + GAP_NS + 1
    put(history, "odom_wheel", "base_link", back_ns, true_pose(back_ns))
    error = refusal(history, stamp_ns=back_ns - 5)
    assert (error.kind, error.heard) == (UNMATCHED, None)
    assert "gap of 0.500 s" in str(error)
    np.testing.assert_allclose(
        history.moving_pose("odom_wheel", "base_link", back_ns, GAP_NS, 0.0), true_pose(back_ns), atol=1e-9
    )


def test_frames_that_are_not_joined_are_named_with_those_that_were_heard() -> None:
    error = refusal(driven(), target="odom_weel")
    assert error.kind == UNPLACED
    assert "'odom_weel' with 'camera' (frames heard: base_link, camera, mast, odom_wheel)" in str(error)
    assert "frames heard: none" in str(refusal(TransformHistory()))


@pytest.mark.parametrize("target", ["base_link", "mast", "camera"])
def test_a_frame_that_the_camera_is_fixed_to_is_no_odometry(target: str) -> None:
    error = refusal(driven(), target=target)
    assert error.kind == UNPLACED
    assert "static" in str(error)


def test_values_that_are_no_pose_are_refused_by_name() -> None:
    for spoil in ("w", "x"):
        history = driven()
        bad = stamped("odom_wheel", "base_link", START_NS, np.eye(4))
        if spoil == "w":
            bad.transform.rotation.w = 0.0
        else:
            bad.transform.translation.x = float("nan")
        history.add([bad], static=False)
        error = refusal(history)
        assert (error.kind, error.frames) == (UNUSABLE, ("odom_wheel", "base_link"))
    history = driven()
    far = np.eye(4)
    far[:3, 3] = 1.7e308
    put(history, "world", "odom_wheel", START_NS, far, static=True)
    put(history, "earth", "world", START_NS, far, static=True)
    assert refusal(history, target="earth").kind == UNUSABLE


# --- the node's own transform


@pytest.mark.parametrize("own", [OWN, OWN[::-1]])
def test_what_the_node_sends_itself_is_no_other_odometry(own: tuple[str, str]) -> None:
    history = driven(own, steps=range(0))
    put(history, "map", "odom", 0, any_pose(4), static=True)
    for stamp_ns in (START_NS, START_NS + STEP_NS):
        assert history.add([stamped(*own, stamp_ns, any_pose(5))], static=False) == 0
    for target in ("odom", "map"):
        error = refusal(history, target=target)
        assert (error.kind, error.heard) == (UNPLACED, None)
        assert f"TF '{own[0]}' -> '{own[1]}', which this node sends itself" in str(error)


def test_it_is_refused_before_the_node_has_sent_anything() -> None:
    history = driven(OWN, steps=range(0))
    put(history, "map", "odom", 0, any_pose(4), static=True)
    assert "which this node sends itself" in str(refusal(history, target="map"))


def test_the_same_transform_of_another_node_is_taken_where_this_one_sends_none() -> None:
    history = driven(None, steps=range(0))
    for step in range(2):
        stamp_ns = START_NS + step * STEP_NS
        put(history, *OWN, stamp_ns, true_pose(stamp_ns))
    found = history.moving_pose("odom", "base_link", START_NS + 5, GAP_NS, 0.0)
    np.testing.assert_allclose(found, true_pose(START_NS + 5), atol=1e-9)


def test_another_parent_of_the_base_is_found_beside_the_nodes_own() -> None:
    history = driven(OWN)
    for step in range(11):
        history.add([stamped(*OWN, START_NS + step * STEP_NS, any_pose(step))], static=False)
    found = history.moving_pose("odom_wheel", "base_link", START_NS + 7, GAP_NS, 0.0)
    np.testing.assert_allclose(found, true_pose(START_NS + 7), atol=1e-9)


# --- waiting, memory, jumps


def test_a_transform_that_is_on_its_way_is_waited_for() -> None:
    history = driven(steps=range(3))
    next_ns = START_NS + 3 * STEP_NS
    timer = threading.Timer(0.05, lambda: put(history, "odom_wheel", "base_link", next_ns, true_pose(next_ns)))
    timer.start()
    found = history.moving_pose("odom_wheel", "base_link", next_ns - 7, GAP_NS, LONG_S)
    np.testing.assert_allclose(found, true_pose(next_ns - 7), atol=1e-9)
    timer.join()


def test_what_has_fallen_silent_is_waited_for_once_whatever_else_is_heard() -> None:
    history = driven(steps=range(3))
    stamp_ns = START_NS + 4 * STEP_NS
    with pytest.raises(NoTransformError):
        history.moving_pose("odom_wheel", "camera", stamp_ns, GAP_NS, 0.01)
    put(history, "base_link", "wheel_left", stamp_ns, any_pose(3))
    started_s = time.monotonic()
    with pytest.raises(NoTransformError):
        history.moving_pose("odom_wheel", "camera", stamp_ns + STEP_NS, GAP_NS, LONG_S)
    assert time.monotonic() - started_s < 0.5 * LONG_S


def test_what_cannot_come_any_more_is_not_waited_for() -> None:
    started_s = time.monotonic()
    with pytest.raises(NoTransformError):
        driven().moving_pose("odom_wheel", "camera", START_NS - 5, GAP_NS, LONG_S)
    with pytest.raises(NoTransformError):
        driven().moving_pose("mast", "camera", START_NS, GAP_NS, LONG_S)
    assert time.monotonic() - started_s < 0.5 * LONG_S


def test_memory_ends_after_ten_seconds() -> None:
    history = driven(steps=range(0, 1000, 2))
    (stamps,) = (link._stamps_ns for link in history._links.values() if not link.static)
    assert KEPT_NS - 2 * STEP_NS <= stamps[-1] - stamps[0] <= KEPT_NS
    assert "begins" in str(refusal(history, stamp_ns=START_NS))


def test_frames_that_are_named_anew_all_the_time_do_not_pile_up() -> None:
    history = driven()
    for step in range(3 * MANY_LINKS):
        stamp_ns = START_NS + step * 100_000_000
        put(history, "odom_wheel", "base_link", stamp_ns, true_pose(stamp_ns))
        put(history, "camera", f"marker_{step}", stamp_ns, any_pose(step))
        assert len(history._links) <= MANY_LINKS + 1
    found = history.moving_pose("odom_wheel", "camera", stamp_ns, GAP_NS, 0.0)
    np.testing.assert_allclose(found, true_pose(stamp_ns) @ any_pose(1) @ any_pose(2), atol=1e-6)


def test_a_jump_in_time_keeps_static_transforms_only() -> None:
    history = driven()
    history.clear_dynamic()
    assert refusal(history).kind == UNPLACED
    put(history, "odom_wheel", "base_link", 5, true_pose(START_NS))
    found = history.moving_pose("odom_wheel", "camera", 5, GAP_NS, 0.0)
    np.testing.assert_allclose(found, true_pose(START_NS) @ any_pose(1) @ any_pose(2), atol=1e-9)


def test_a_stamp_from_long_ago_means_that_time_jumped() -> None:
    history = driven()
    for stamp_ns in (100, 200):
        put(history, "odom_wheel", "base_link", stamp_ns, any_pose(stamp_ns))
    found = history.moving_pose("odom_wheel", "base_link", 200, GAP_NS, 0.0)
    np.testing.assert_allclose(found, any_pose(200), atol=1e-9)


def test_links_that_fell_silent_give_way_to_a_longer_way() -> None:
    history = driven()
    put(history, "odom_wheel", "camera", START_NS - 2 * KEPT_NS, any_pose(9))
    found = history.moving_pose("odom_wheel", "camera", START_NS, GAP_NS, 0.0)
    np.testing.assert_allclose(found, true_pose(START_NS) @ any_pose(1) @ any_pose(2), atol=1e-9)


def test_the_way_through_a_ring_of_frames_is_the_shortest_and_ends() -> None:
    ring = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "a")]
    assert shortest_way(ring, "a", "b") == [(("a", "b"), True)]
    assert shortest_way(ring, "d", "b") in (
        [(("a", "b"), True), (("d", "a"), True)],
        [(("b", "c"), False), (("c", "d"), False)],
    )
    assert shortest_way(ring, "elsewhere", "b") is None
    assert shortest_way(ring, "b", "b") == []


def test_one_stamp_from_long_ago_is_no_jump_however_often_it_comes() -> None:
    history = driven()
    for _ in range(3):
        put(history, "odom_wheel", "base_link", 0, any_pose(8))
    found = history.moving_pose("odom_wheel", "base_link", START_NS, GAP_NS, 0.0)
    np.testing.assert_allclose(found, true_pose(START_NS), atol=1e-9)


def test_static_frames_that_are_named_anew_all_the_time_do_not_pile_up() -> None:
    history = driven()
    for step in range(2 * MANY_LINKS):
        message = stamped("camera", f"tag_{step}", START_NS, any_pose(step))
        history.add([message], static=True)
        assert len(history._links) <= MANY_LINKS
    found = history.moving_pose("odom_wheel", "camera", START_NS, GAP_NS, 0.0)
    np.testing.assert_allclose(found, true_pose(START_NS) @ any_pose(1) @ any_pose(2), atol=1e-6)
