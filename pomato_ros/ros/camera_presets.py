"""Topics of common depth cameras' drivers as they publish them by default; docs/sensors.md has a section for each."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CameraPreset:
    """Absolute topics of one driver; empty where it has none or the argument's own default holds."""

    driver: str
    image: str
    camera_info: str = ""
    depth: str = ""
    right: str = ""
    depth_sensor: str = ""  # value of the parameter; empty: its default


NO_PRESET = CameraPreset("", "image")
PRESETS = {
    "realsense": CameraPreset(
        "realsense2_camera",
        "/camera/camera/color/image_raw",
        depth="/camera/camera/depth/image_rect_raw",
        depth_sensor="stereo",
    ),
    "zed": CameraPreset(
        "zed_wrapper",
        "/zed/zed_node/rgb/color/rect/image",
        depth="/zed/zed_node/depth/depth_registered",
        depth_sensor="stereo",
    ),
    "oakd": CameraPreset(
        "depthai_ros_driver", "/oak/rgb/image_raw", depth="/oak/stereo/image_raw", depth_sensor="stereo"
    ),
    "orbbec": CameraPreset("orbbec_camera", "/camera/color/image_raw", depth="/camera/depth/image_raw"),
    "kinect": CameraPreset(
        "azure_kinect_ros_driver", "/rgb/image_raw", depth="/depth_to_rgb/image_raw", depth_sensor="time_of_flight"
    ),
}
