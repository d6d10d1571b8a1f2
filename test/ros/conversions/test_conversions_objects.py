"""Moving objects as Detection3DArray, field by field."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header

from pomato_ros.ros.conversions import objects as conversion
from pomato_ros.ros.conversions.objects import detection_array_message, detection_array_type
from pomato_ros.ros.conversions.stamps import time_from_stamp_ns
from pomato_ros.ros.frames import OPTICAL_ROTATION, UNKNOWN_VARIANCE
from pomato_ros.structures import no_objects

pytest.importorskip("vision_msgs")
HEADER = Header(stamp=time_from_stamp_ns(1_700_000_000_123_456_789), frame_id="odom")


def odom_from_world() -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = OPTICAL_ROTATION, (0.1, 0.2, 0.3)
    return pose


def test_what_is_seen_becomes_a_box_in_odom(fakes: SimpleNamespace) -> None:
    message = detection_array_message(fakes.make_objects(), odom_from_world(), HEADER)
    received = deserialize_message(serialize_message(message), detection_array_type())
    assert received == message
    assert received.header == HEADER
    (found,) = received.detections  # the hidden one is none
    assert (found.id, found.header) == ("3", HEADER)
    centre, size = found.bbox.center.position, found.bbox.size
    # x, y, z of the camera are right, down, forward: -y, -z, x of odom
    np.testing.assert_allclose([centre.x, centre.y, centre.z], [4.1, -0.8, -1.7], atol=1e-6)
    np.testing.assert_allclose([size.x, size.y, size.z], [2.0, 1.0, 0.5], atol=1e-6)
    turn = found.bbox.center.orientation
    assert (turn.x, turn.y, turn.z, turn.w) == (0.0, 0.0, 0.0, 1.0)
    (result,) = found.results
    assert (result.hypothesis.class_id, result.hypothesis.score) == ("moving", 1.0)
    assert result.pose.pose == found.bbox.center
    covariance = np.reshape(result.pose.covariance, (6, 6))
    np.testing.assert_allclose(np.diag(covariance), [1.0, 0.25, 0.0625, *[UNKNOWN_VARIANCE] * 3], atol=1e-6)
    assert np.count_nonzero(covariance) == 6


def test_a_flat_object_has_no_variance_of_zero(fakes: SimpleNamespace) -> None:
    flat = fakes.make_objects()
    points = flat.points_world.copy()
    points[:, 2] = 4.0
    (found,) = detection_array_message(
        dataclasses.replace(flat, points_world=points), odom_from_world(), HEADER
    ).detections
    assert found.bbox.size.x == 0.0
    assert min(np.diag(np.reshape(found.results[0].pose.covariance, (6, 6)))) > 0.0


def test_nothing_that_moves_is_an_empty_array() -> None:
    message = detection_array_message(no_objects(), odom_from_world(), HEADER)
    assert list(message.detections) == []
    assert message.header == HEADER


def test_without_vision_msgs_there_is_no_type(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(conversion, "importlib", SimpleNamespace(import_module=refuse))
    assert detection_array_type() is None
