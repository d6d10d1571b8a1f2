"""Bags written with rosbags come back as frames: pixels, metres, calibration, pairs by stamp, registration by TF."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from pomato_ros.datasets.sensors.bag import Topics, decode_colour, decode_depth, is_bag, read_bag

STORE: Typestore = get_typestore(Stores.ROS2_JAZZY)
SIZE_WH = (32, 24)
K = np.array([30.0, 0, 15.5, 0, 30.0, 11.5, 0, 0, 1])


def kind(name: str) -> Any:
    return STORE.types[name]


def header(stamp_ns: int, frame: str) -> Any:
    stamp = kind("builtin_interfaces/msg/Time")(stamp_ns // 10**9, stamp_ns % 10**9)
    return kind("std_msgs/msg/Header")(stamp, frame)


def image(stamp_ns: int, pixels: np.ndarray, encoding: str, frame: str = "camera") -> Any:
    step = pixels.strides[0]
    height, width = pixels.shape[:2]
    data = np.frombuffer(pixels.tobytes(), np.uint8)
    return kind("sensor_msgs/msg/Image")(header(stamp_ns, frame), height, width, encoding, 0, step, data)


def info(stamp_ns: int, baseline_m: float = 0.0, frame: str = "camera") -> Any:
    p = np.array([30.0, 0, 15.5, -30.0 * baseline_m, 0, 30.0, 11.5, 0, 0, 0, 1, 0])
    roi = kind("sensor_msgs/msg/RegionOfInterest")(0, 0, 0, 0, False)
    width, height = SIZE_WH
    return kind("sensor_msgs/msg/CameraInfo")(
        header(stamp_ns, frame), height, width, "plumb_bob", np.zeros(5), K, np.eye(3).ravel(), p, 0, 0, roi
    )


def colour(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (SIZE_WH[1], SIZE_WH[0], 3), np.uint8)


def write(path: Path, messages: list[tuple[str, str, int, Any]], storage: StoragePlugin) -> Path:
    with Writer(path, version=9, storage_plugin=storage) as writer:
        connections = {}
        for topic, name, recorded_ns, message in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, name, typestore=STORE)
            writer.write(connections[topic], recorded_ns, STORE.serialize_cdr(message, name))
    return path


IMAGE, INFO, TF = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo", "tf2_msgs/msg/TFMessage"


def rgbd_messages(depth_frame: str = "camera") -> list[tuple[str, str, int, Any]]:
    messages: list[tuple[str, str, int, Any]] = [
        ("/camera/color/camera_info", INFO, 5, info(0)),
        ("/camera/depth/camera_info", INFO, 6, info(0, frame=depth_frame)),
    ]
    for t in range(3):
        stamp = (t + 1) * 10**9
        depth = np.full(SIZE_WH[::-1], 1000 * (t + 1), np.uint16)
        messages += [
            ("/camera/color/image_raw", IMAGE, stamp + 100, image(stamp, colour(t), "rgb8")),
            ("/camera/depth/image_raw", IMAGE, stamp + 200, image(stamp + 4_000_000, depth, "16UC1", depth_frame)),
        ]
    return messages


@pytest.mark.parametrize("storage", [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def test_colour_and_depth_are_paired_by_their_stamps(tmp_path: Path, storage: StoragePlugin) -> None:
    path = write(tmp_path / "bag", rgbd_messages(), storage)
    assert is_bag(path)
    with read_bag(path) as sequence:
        frame = sequence.read_frame(1)
    assert sequence.stamps_ns == (10**9, 2 * 10**9, 3 * 10**9)
    np.testing.assert_array_equal(frame.image_rgb, colour(1))
    assert frame.depth_m is not None
    np.testing.assert_allclose(frame.depth_m, 2.0)
    assert frame.intrinsics is not None
    assert frame.intrinsics.fx_px == 30.0


def test_depth_too_far_in_time_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "bag", rgbd_messages(), StoragePlugin.MCAP)
    with read_bag(path, max_offset_ns=1_000_000) as sequence:
        assert sequence.read_frame(0).depth_m is None


def test_depth_of_another_camera_is_registered_by_static_transforms(tmp_path: Path) -> None:
    vector, turn = kind("geometry_msgs/msg/Vector3"), kind("geometry_msgs/msg/Quaternion")(0.0, 0.0, 0.0, 1.0)
    stamped = [
        kind("geometry_msgs/msg/TransformStamped")(
            header(0, "link"), child, kind("geometry_msgs/msg/Transform")(vector(x, 0.0, 0.0), turn)
        )
        for child, x in (("camera", 0.0), ("depth", 0.2))
    ]
    messages = [("/tf_static", TF, 1, kind(TF)(stamped)), *rgbd_messages("depth")]
    with read_bag(write(tmp_path / "bag", messages, StoragePlugin.MCAP)) as sequence:
        frame = sequence.read_frame(0)
    shift_px = round(30.0 * 0.2 / 1.0)
    assert frame.depth_m is not None
    assert not frame.depth_m[:, : shift_px - 1].any()
    np.testing.assert_allclose(frame.depth_m[:, shift_px:], 1.0)


def test_a_stereo_bag_has_right_images_and_the_baseline_of_p(tmp_path: Path) -> None:
    messages = [
        ("/stereo/left/camera_info", INFO, 1, info(0)),
        ("/stereo/right/camera_info", INFO, 2, info(0, baseline_m=0.12)),
        ("/stereo/left/image_rect", IMAGE, 10, image(10, colour(0)[..., 0].copy(), "mono8")),
        ("/stereo/right/image_rect", IMAGE, 11, image(10, colour(1)[..., 0].copy(), "mono8")),
    ]
    with read_bag(write(tmp_path / "bag", messages, StoragePlugin.SQLITE3)) as sequence:
        frame = sequence.read_frame(0)
    assert frame.baseline_m == pytest.approx(0.12)
    assert frame.right_rgb is not None
    np.testing.assert_array_equal(frame.right_rgb[..., 0], colour(1)[..., 0])


def test_topics_can_be_named_and_missing_ones_are(tmp_path: Path) -> None:
    path = write(tmp_path / "bag", rgbd_messages(), StoragePlugin.MCAP)
    with read_bag(path, Topics(image="/camera/color/image_raw")) as sequence:
        assert sequence.facts["image"] == "/camera/color/image_raw"
    with pytest.raises(ValueError, match="/nowhere"):
        read_bag(path, Topics(image="/nowhere"))


def test_padding_and_byte_order_are_honoured() -> None:
    padded = np.zeros((4, 7), ">u2")
    padded[:, :5] = np.arange(20).reshape(4, 5) * 100
    message = image(1, padded, "16UC1")
    message.width, message.is_bigendian = 5, 1
    np.testing.assert_allclose(decode_depth(message), np.arange(20).reshape(4, 5) * 0.1, rtol=1e-6)


def test_unknown_encodings_and_short_data_are_named() -> None:
    with pytest.raises(ValueError, match="yuv"):
        decode_colour(image(1, colour(0), "yuv_strange"))
    short = image(1, colour(0), "rgb8")
    short.data = short.data[:100]
    with pytest.raises(ValueError, match="100 bytes"):
        decode_colour(short)


def test_compressed_images_and_depth_are_decoded() -> None:
    kind_of = kind("sensor_msgs/msg/CompressedImage")
    png = cv2.imencode(".png", colour(3)[..., ::-1])[1]
    np.testing.assert_array_equal(decode_colour(kind_of(header(1, "c"), "png", png)), colour(3))
    depth = np.full((6, 8), 1234, np.uint16)
    data = np.concatenate((np.zeros(12, np.uint8), cv2.imencode(".png", depth)[1]))
    np.testing.assert_allclose(decode_depth(kind_of(header(1, "c"), "16UC1; compressedDepth png", data)), 1.234)
