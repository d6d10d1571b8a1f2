"""Every topic of the node in one table: what it is called, its type, its default quality of service, what it says."""

from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry, Path
from rclpy.qos import QoSDurabilityPolicy, QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from visualization_msgs.msg import MarkerArray

from pomato_ros.msg import TrackArray
from pomato_ros.ros.conversions.objects import detection_array_type


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic; ``name`` is relative for inputs and private (``~/``) for outputs. Every policy can be overridden."""

    name: str
    message_type: Any
    description: str
    depth: int = 1
    reliable: bool = True
    latched: bool = False
    latched_if_offered: bool = False  # inputs: ask for the message before ours where publishers keep one

    def qos(self) -> QoSProfile:
        """The default quality of service; a new object each time, since overrides are written into it."""
        return QoSProfile(
            history=QoSHistoryPolicy.KEEP_LAST,
            depth=self.depth,
            reliability=QoSReliabilityPolicy.RELIABLE if self.reliable else QoSReliabilityPolicy.BEST_EFFORT,
            durability=QoSDurabilityPolicy.TRANSIENT_LOCAL if self.latched else QoSDurabilityPolicy.VOLATILE,
        )


# Inputs are heard as their publishers offer them (sensor_input.py), reliably where nobody publishes yet.
IMAGE = Topic("image", Image, "camera image", depth=5)
IMAGE_COMPRESSED = Topic("image/compressed", CompressedImage, "camera image as JPEG or PNG", depth=5)
CAMERA_INFO = Topic("camera_info", CameraInfo, "calibration of the camera", depth=5, latched_if_offered=True)
DEPTH_INPUT = Topic("depth/image", Image, "depth of the scene, for backend rgbd or scale_source depth", depth=5)
DEPTH_INPUT_COMPRESSED = Topic("depth/image/compressedDepth", CompressedImage, "the same as PNG", depth=5)
DEPTH_INPUT_INFO = Topic(
    "depth/camera_info", CameraInfo, "calibration of depth/image", depth=5, latched_if_offered=True
)
RIGHT_INPUT = Topic("right/image", Image, "right image of a stereo pair, for backend stereo", depth=5)
RIGHT_INPUT_COMPRESSED = Topic("right/image/compressed", CompressedImage, "the same as JPEG or PNG", depth=5)
RIGHT_INPUT_INFO = Topic(
    "right/camera_info",
    CameraInfo,
    "calibration of right/image with the baseline in P",
    depth=5,
    latched_if_offered=True,
)
ODOMETRY_PRIOR = Topic("odom_prior", Odometry, "another odometry, for metres", depth=5)

POINTS = Topic("~/points", PointCloud2, "organised points of the newest frame")
STATIC_POINTS = Topic("~/static/points", PointCloud2, "valid points that stand still")
DYNAMIC_POINTS = Topic("~/dynamic/points", PointCloud2, "valid points that move")
DEPTH_IMAGE = Topic("~/depth/image", Image, "depth along the optical axis, NaN where invalid")
DEPTH_INFO = Topic("~/depth/camera_info", CameraInfo, "camera of depth/image")
STATIC_DEPTH_IMAGE = Topic("~/static/depth/image", Image, "depth, NaN where invalid or moving")
STATIC_DEPTH_INFO = Topic("~/static/depth/camera_info", CameraInfo, "camera of static/depth/image")
MASK_IMAGE = Topic("~/dynamic_mask/image", Image, "255 where something moves, at the source image's size")
MASK_INFO = Topic("~/dynamic_mask/camera_info", CameraInfo, "camera of dynamic_mask/image")
CONFIDENCE_IMAGE = Topic("~/confidence/image", Image, "confidence of the points, 1 and up")
ODOMETRY = Topic("~/odometry", Odometry, "pose and velocity of the base", depth=10)
PATH = Topic("~/path", Path, "poses so far", latched=True)
TRACKS = Topic("~/tracks", TrackArray, "3-D point tracks")
TRACK_MARKERS = Topic("~/tracks/markers", MarkerArray, "trails of the tracks, coloured by id")
OBJECTS = Topic("~/objects", detection_array_type(), "boxes of moving objects in odom; needs vision_msgs")
DEBUG_IMAGE = Topic("~/debug/image", Image, "image with moving mask, state, rate and latency", reliable=False)
DIAGNOSTICS = Topic("/diagnostics", DiagnosticArray, "health, once a second", depth=10)

ALL_SCENE_OUTPUTS = (
    POINTS,
    STATIC_POINTS,
    DYNAMIC_POINTS,
    DEPTH_IMAGE,
    DEPTH_INFO,
    STATIC_DEPTH_IMAGE,
    STATIC_DEPTH_INFO,
    MASK_IMAGE,
    MASK_INFO,
    CONFIDENCE_IMAGE,
    ODOMETRY,
    PATH,
    TRACKS,
    TRACK_MARKERS,
    OBJECTS,
    DEBUG_IMAGE,
)
SCENE_OUTPUTS = tuple(topic for topic in ALL_SCENE_OUTPUTS if topic.message_type is not None)
TRACK_READERS = tuple(topic for topic in (TRACKS, TRACK_MARKERS, OBJECTS, DEBUG_IMAGE) if topic in SCENE_OUTPUTS)
TF_TOPIC, TF_STATIC_TOPIC = "/tf", "/tf_static"


def tf_qos(*, latched: bool) -> QoSProfile:
    """The quality of service that tf2 uses: reliable, and latched for static transforms."""
    return Topic("", None, "", depth=100, latched=latched).qos()
