"""Moving objects to vision_msgs; that package is optional, so nothing here imports it before it is needed."""

import importlib
from typing import Any

import numpy as np
from geometry_msgs.msg import Pose, PoseWithCovariance, Quaternion
from std_msgs.msg import Header

from pomato_ros.ros.conversions.poses import point_message, vector_message
from pomato_ros.ros.frames import MINIMUM_VARIANCE, UNKNOWN_VARIANCE
from pomato_ros.scene.boxes import boxes_in
from pomato_ros.structures import ObjectSet, PoseArray

MOVING = "moving"  # the one class there is


def detection_array_type() -> Any | None:
    """The Detection3DArray class, or None where vision_msgs is not installed."""
    try:
        return importlib.import_module("vision_msgs.msg").Detection3DArray
    except ImportError:
        return None


def detection_array_message(objects: ObjectSet, odom_from_world: PoseArray, header: Header) -> Any:
    """Every object that is seen, in rising order of id, in a box along the axes of the odometry frame.

    Needs vision_msgs. Its messages have no velocity.
    """
    vision = importlib.import_module("vision_msgs.msg")
    centres, sizes = boxes_in(objects, odom_from_world)
    return vision.Detection3DArray(
        header=header,
        detections=[
            detection_message(vision, int(objects.ids[row]), centres[row], sizes[row], header)
            for row in np.flatnonzero(objects.visible).tolist()
        ],
    )


def detection_message(vision: Any, object_id: int, centre: PoseArray, size: PoseArray, header: Header) -> Any:
    """One object: ``centre`` (3,) and ``size`` (3,) of its box, metres, in ``header.frame_id``.

    An object's middle is known to half its box, since only one side of it is seen; its orientation is not known.
    """
    pose = Pose(position=point_message(centre), orientation=Quaternion(w=1.0))
    variances = [*np.maximum((0.5 * size) ** 2, MINIMUM_VARIANCE).tolist(), *[UNKNOWN_VARIANCE] * 3]
    covariance = np.diag(variances).ravel().tolist()
    return vision.Detection3D(
        header=header,
        results=[
            vision.ObjectHypothesisWithPose(
                hypothesis=vision.ObjectHypothesis(class_id=MOVING, score=1.0),
                pose=PoseWithCovariance(pose=pose, covariance=covariance),
            )
        ],
        bbox=vision.BoundingBox3D(center=pose, size=vector_message(size)),
        id=str(object_id),
    )
