"""Bad input is dropped, counted and named; the next good frame is perceived as if nothing had been."""

from array import array
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import CameraInfo
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from pomato_ros.errors import OutOfMemory, UnusableFrame
from pomato_ros.ros.conversions.stamps import stamp_ns_from_time
from pomato_ros.ros.perception import Perception
from pomato_ros.ros.right_frames import is_rectified_topic
from pomato_ros.ros.topics import tf_qos


def values_of(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


def truncated(message: Any) -> None:
    message.data = array("B", bytes(message.data)[:100])


def unknown_encoding(message: Any) -> None:
    message.encoding = "32FC9"


def without_pixels(message: Any) -> None:
    message.width = message.height = message.step = 0
    message.data = array("B")


def short_step(message: Any) -> None:
    message.step = 7


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (truncated, "expected 32 rows x step 144 = 4608 bytes, got 100"),
        (unknown_encoding, "got '32FC9'"),
        (without_pixels, "at least 1x1 pixels, got 0x0"),
        (short_step, "at least 144 bytes"),
    ],
)
def test_a_bad_image_is_dropped_counted_and_named(
    graph: Any, fakes: SimpleNamespace, spoil: Callable[[Any], None], told: str
) -> None:
    graph.step(0)
    message = fakes.image_of(1)
    spoil(message)
    graph.send(message)
    status = graph.diagnostics()["input"]
    assert graph.node.status.input.drops["undecodable"] == 1
    assert told in values_of(status)["last_drop"]
    assert values_of(status)["frames_dropped"] == "1"
    graph.step(2)
    assert [frame.stamp_ns for frame in graph.engine.frames] == [fakes.START_NS, fakes.START_NS + 2 * fakes.FRAME_NS]


def test_a_drop_is_a_warning_in_the_next_diagnostics(graph: Any, fakes: SimpleNamespace) -> None:
    message = fakes.image_of(0)
    unknown_encoding(message)
    graph.listen("/diagnostics", *diagnostics_topic())
    graph.wait_until_connected()
    graph.send(message)
    heard = graph.received["/diagnostics"]

    def warnings() -> list[str]:
        inputs = (status for message in heard for status in message.status if status.name == "pomato: input")
        return [status.message for status in inputs if status.level == DiagnosticStatus.WARN]

    graph.spin_until(lambda: any("32FC9" in message for message in warnings()), "the warning")


def diagnostics_topic() -> tuple[Any, Any]:
    from pomato_ros.ros.topics import DIAGNOSTICS

    return DIAGNOSTICS.message_type, DIAGNOSTICS.qos()


def test_an_image_above_max_pixels_is_refused(make_graph: Callable[..., Any], fakes: SimpleNamespace) -> None:
    graph = make_graph(max_pixels=1000)
    graph.wait_until_active()
    graph.send(fakes.image_of(0))
    assert "max_pixels" in graph.node.status.input.last_drop
    assert graph.engine.frames == []


def test_another_size_starts_a_new_window_from_the_last_pose(graph: Any, fakes: SimpleNamespace) -> None:
    poses = [np.eye(4), fakes.moved((0.0, 0.0, 1.0)), np.eye(4), fakes.moved((0.0, 0.0, 0.5))]
    graph.engine.pose_of_step = lambda step: poses[step]
    transforms = graph.listen("/tf", TFMessage, tf_qos(latched=False))
    graph.wait_until_connected()
    resets = graph.engine.resets
    for index, wh in enumerate([fakes.SOURCE_WH, fakes.SOURCE_WH, (60, 44), (60, 44)]):
        graph.send(fakes.image_of(index, wh))
    graph.spin_until(lambda: len(transforms) == 4, "TF")
    assert graph.engine.resets == resets + 1
    assert graph.node.status.input.size_changes == 1
    assert graph.engine.frames[-1].image_rgb.shape == (44, 60, 3)
    ahead = [message.transforms[0].transform.translation.x for message in transforms]
    np.testing.assert_allclose(ahead, [0.0, 1.0, 1.0, 1.5], atol=1e-9)  # odom does not jump


def test_time_going_back_far_clears_everything(graph: Any, fakes: SimpleNamespace) -> None:
    graph.engine.pose_of_step = lambda step: fakes.moved((0.0, 0.0, float(step)))
    transforms = graph.listen("/tf", TFMessage, tf_qos(latched=False))
    graph.wait_until_connected()
    for index in (20, 21, 0, 1, 2):  # a bag that loops; its first frame alone decides nothing
        graph.send(fakes.image_of(index))
    graph.spin_until(lambda: len(transforms) == 4, "TF")
    assert graph.node.status.input.time_jumps == 1
    assert len(graph.node._outputs.history.trajectory()) == 2
    stamps = [stamp_ns_from_time(message.transforms[0].header.stamp) for message in transforms]
    assert stamps[0] < stamps[1]
    assert stamps[2] < stamps[3]


def test_a_frame_a_little_late_is_dropped_and_counted(graph: Any, fakes: SimpleNamespace) -> None:
    for index in (5, 4, 5, 6):
        graph.send(fakes.image_of(index))
    assert graph.node.status.input.drops["late"] == 1
    assert graph.node.status.input.drops["repeated"] == 1
    assert len(graph.engine.frames) == 2
    assert graph.node.status.input.time_jumps == 0


def test_a_camera_info_without_focal_length_means_uncalibrated(graph: Any, fakes: SimpleNamespace) -> None:
    graph.publish_info(CameraInfo(width=fakes.SOURCE_WH[0], height=fakes.SOURCE_WH[1]))
    graph.step(0)
    assert graph.engine.frames[-1].intrinsics is None
    status = graph.diagnostics()
    assert "K[0] == 0" in values_of(status["input"])["camera_info"]
    assert values_of(status["scale"])["focal_from"] == "estimated"


def test_a_camera_info_for_another_size_is_refused_and_the_frame_used(graph: Any, fakes: SimpleNamespace) -> None:
    graph.publish_info(fakes.camera_info_of((100, 80)))
    graph.step(0)
    assert graph.engine.frames[-1].intrinsics is None
    status = graph.diagnostics()["input"]
    assert status.level == DiagnosticStatus.WARN
    assert "100x80" in status.message
    assert values_of(status)["camera_info_refused"] == "1"


def test_a_new_calibration_is_used_and_starts_a_new_window(graph: Any, fakes: SimpleNamespace) -> None:
    graph.publish_info(fakes.camera_info_of(focal_px=40.0))
    graph.step(0)
    resets = graph.engine.resets
    graph.publish_info(fakes.camera_info_of(focal_px=55.0))
    graph.step(1)
    assert [frame.intrinsics.fx_px for frame in graph.engine.frames] == [40.0, 55.0]
    assert graph.engine.resets == resets + 1


def test_a_required_camera_info_is_waited_for(make_graph: Callable[..., Any], fakes: SimpleNamespace) -> None:
    graph = make_graph(require_camera_info=True)
    graph.wait_until_active()
    graph.send(fakes.image_of(0))
    assert graph.engine.frames == []
    assert "'/camera_info'" in graph.node.status.input.last_drop
    graph.publish_info(fakes.camera_info_of())
    graph.step(1)
    assert len(graph.engine.frames) == 1


@pytest.mark.parametrize(
    ("error", "out_of_memory"), [(OutOfMemory("no room for a step"), 1), (IndexError("7"), 0), (KeyError("x"), 0)]
)
def test_a_failing_step_is_told_and_survived(
    graph: Any, fakes: SimpleNamespace, error: Exception, out_of_memory: int
) -> None:
    graph.engine.error = error
    graph.send(fakes.image_of(0))
    engine = graph.node.status.engine
    assert (engine.errors, engine.out_of_memory) == (1, out_of_memory)
    graph.engine.error = None
    graph.step(1)
    values = values_of(graph.diagnostics()["inference"])
    assert (values["errors"], values["last_error"], values["steps"]) == ("1", str(error), "1")


def test_a_frame_that_the_engine_cannot_use_is_a_drop(graph: Any, fakes: SimpleNamespace) -> None:
    graph.engine.error = UnusableFrame("expected at least 16 px, got 4")
    graph.send(fakes.image_of(0))
    assert graph.node.status.engine.errors == 0
    values = values_of(graph.diagnostics()["input"])
    assert (values["dropped_unusable"], values["last_drop"]) == ("1", "expected at least 16 px, got 4")


def test_silence_is_told_with_the_topic(graph: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pomato_ros.ros.diagnostics.SILENCE_S", 0.0)
    status = graph.diagnostics()["input"]
    assert status.level == DiagnosticStatus.ERROR
    assert "'/image'" in status.message


def test_passed_over_frames_are_counted(graph: Any, fakes: SimpleNamespace) -> None:
    graph.engine.hold.clear()
    came = graph.node.status.input
    graph.image_publisher.publish(fakes.image_of(0))
    graph.spin_until(
        lambda: graph.node._run.newest_frame._arrival is None and came.frames_in == 1, "the worker to begin"
    )
    for index in (1, 2, 3):
        graph.image_publisher.publish(fakes.image_of(index))
        graph.spin_until(lambda index=index: came.frames_in == index + 1, "the image")
    graph.engine.hold.set()
    graph.spin_until(lambda: graph.node.status.engine.steps == 2, "two steps")
    assert came.frames_passed_over == 2
    assert [frame.stamp_ns for frame in graph.engine.frames] == [fakes.START_NS, fakes.START_NS + 3 * fakes.FRAME_NS]


def test_a_long_silence_starts_a_new_window_where_the_last_one_ended(graph: Any, fakes: SimpleNamespace) -> None:
    ahead = [0.0, 1.0, 0.0, 0.5]  # as an engine sees it whose world begins anew at the third frame
    graph.engine.pose_of_step = lambda step: fakes.moved((0.0, 0.0, ahead[step]))
    transforms = graph.listen("/tf", TFMessage, tf_qos(latched=False))
    graph.wait_until_connected()
    resets = graph.engine.resets
    for index in (0, 1, 30, 31):
        graph.send(fakes.image_of(index))
    graph.spin_until(lambda: len(transforms) == 4, "TF")
    assert graph.engine.resets == resets + 1
    placed = [message.transforms[0].transform.translation.x for message in transforms]
    np.testing.assert_allclose(placed, [0.0, 1.0, 1.0, 1.5], atol=1e-9)


def test_images_of_another_frame_start_over(graph: Any, fakes: SimpleNamespace) -> None:
    resets = graph.engine.resets
    graph.step(0)
    graph.step(1)
    epoch = graph.node._outputs.history.newest.epoch
    graph.step(2, frame_id="other_optical_frame")
    graph.step(3, frame_id="other_optical_frame")
    assert graph.engine.resets == resets + 1
    newest = graph.node._outputs.history.newest
    assert (newest.epoch, newest.camera_frame) == (epoch + 1, "other_optical_frame")
    assert len(graph.node._outputs.history.trajectory()) == 2


def reset_it(graph: Any, fakes: SimpleNamespace) -> Any:
    assert graph.call(Trigger, "/pomato/reset", Trigger.Request()).success
    return fakes.image_of(2)


def jump_back(graph: Any, fakes: SimpleNamespace) -> Any:
    graph.image_publisher.publish(fakes.image_of(-51))
    graph.spin_until(lambda: graph.node.status.input.drops["unconfirmed"] == 1, "the frame that decides nothing")
    return fakes.image_of(-50)


def change_size(graph: Any, fakes: SimpleNamespace) -> Any:
    return fakes.image_of(2, (60, 44))


def change_calibration(graph: Any, fakes: SimpleNamespace) -> Any:
    graph.publish_info(fakes.camera_info_of(focal_px=50.0))
    return fakes.image_of(2)


def change_camera(graph: Any, fakes: SimpleNamespace) -> Any:
    return fakes.image_of(2, frame_id="other_optical_frame")


def be_silent(graph: Any, fakes: SimpleNamespace) -> Any:
    return fakes.image_of(60)


@pytest.mark.parametrize(
    ("interrupt", "told"),
    [
        (reset_it, "a reset was asked for"),
        (jump_back, "time jumped"),
        (change_size, "image size or camera_info changed"),
        (change_calibration, "image size or camera_info changed"),
        (change_camera, "frame_id changed"),
        (be_silent, "no frame for"),
    ],
)
def test_frames_that_wait_for_a_hop_which_is_never_full_are_dropped_counted_and_named(
    make_graph: Callable[..., Any], fakes: SimpleNamespace, interrupt: Callable[..., Any], told: str
) -> None:
    graph = make_graph(window_hop=3)
    graph.wait_until_active()
    came = graph.node.status.input
    for index in (0, 1):
        graph.image_publisher.publish(fakes.image_of(index))
        graph.spin_until(lambda index=index: graph.engine.frames_waiting == index + 1, "the frame to wait")
    graph.image_publisher.publish(interrupt(graph, fakes))
    graph.spin_until(lambda: came.frames_in >= 3 and graph.engine.frames_waiting == 1, "the frame to wait alone")
    graph.spin_until(lambda: came.drops["waiting"] == 2, "the drops")
    values = values_of(graph.diagnostics()["input"])
    assert values["dropped_waiting"] == "2"
    assert values["last_drop"].startswith("a frame that waited for 3 to be taken at once: ")
    assert told in values["last_drop"]
    assert graph.engine.frames == []
    assert came.frames_in == came.drops.total() + graph.engine.frames_waiting  # nothing is lost


def test_frames_that_wait_when_a_step_fails_or_the_node_is_stopped_are_counted(
    make_graph: Callable[..., Any], fakes: SimpleNamespace
) -> None:
    graph = make_graph(window_hop=2)
    graph.wait_until_active()
    came = graph.node.status.input

    def wait_for_one(index: int) -> None:
        graph.image_publisher.publish(fakes.image_of(index))
        graph.spin_until(lambda: graph.engine.frames_waiting == 1, "the frame to wait")

    wait_for_one(0)
    graph.engine.error = RuntimeError("CUDA out of memory")
    graph.image_publisher.publish(fakes.image_of(1))
    graph.spin_until(lambda: came.drops["waiting"] == 1, "the drop")
    assert graph.node.status.engine.errors == 1  # the frame whose step it was; the other one waited
    assert "the step failed" in came.last_drop
    graph.engine.error = None
    wait_for_one(2)
    graph.node.trigger_deactivate()
    assert came.drops["waiting"] == 2
    assert "the node was deactivated" in came.last_drop


def test_an_unexpected_failure_outside_the_engine_is_survived(
    graph: Any, fakes: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: Any) -> None:
        raise RuntimeError("no such luck")

    with monkeypatch.context() as patch:
        patch.setattr(Perception, "_decode", fail)
        graph.send(fakes.image_of(0))
    assert graph.node.status.engine.errors == 1
    assert "no such luck" in graph.node.status.engine.last_error
    graph.step(1)
    assert len(graph.engine.frames) == 1


def test_a_slow_camera_is_no_silent_one(graph: Any, fakes: SimpleNamespace) -> None:
    resets = graph.engine.resets
    for index in range(6):
        graph.send(fakes.image_of(25 * index))
    assert graph.engine.resets == resets
    assert graph.node.status.input.stream.period_s == pytest.approx(2.5, rel=1e-3)
    graph.send(fakes.image_of(25 * 5 + 90))  # four of its intervals later
    assert graph.engine.resets == resets + 1


def test_an_image_that_is_rectified_is_not_rectified_again(
    make_graph: Callable[..., Any], fakes: SimpleNamespace
) -> None:
    """image_proc sends the raw image's camera_info beside image_rect."""
    for name, focal_px in (("image_rect", 35.0), ("image_raw", None)):
        assert is_rectified_topic(f"/camera/{name}") is (focal_px is not None)
    assert is_rectified_topic("/camera/image_rect_color/compressed")
    assert not is_rectified_topic("/direct/image")


def test_a_message_of_opencvs_default_encoding_is_read_and_said(graph: Any, fakes: SimpleNamespace) -> None:
    message = fakes.image_of(0)
    message.encoding = "8UC3"
    message.data = array("B", bytes([1, 2, 3] * (len(message.data) // 3)))
    graph.send(message)
    assert graph.engine.frames[-1].image_rgb[0, 0].tolist() == [3, 2, 1]
    assert values_of(graph.diagnostics()["input"])["encoding"] == "8UC3 (read as bgr8)"


@pytest.mark.parametrize(("seconds", "nanoseconds"), [(0, 0), (-5, 0), (1_700_000_000, 2_000_000_000)])
def test_a_stamp_that_is_no_time_is_dropped_and_named(
    graph: Any, fakes: SimpleNamespace, seconds: int, nanoseconds: int
) -> None:
    message = fakes.image_of(0)
    message.header.stamp.sec, message.header.stamp.nanosec = seconds, nanoseconds
    graph.send(message)
    assert graph.node.status.input.drops["bad_stamp"] == 1
    assert "image stamp" in graph.node.status.input.last_drop
    graph.step(1)
    assert len(graph.engine.frames) == 1
