"""Starts the node, and on request a clip, a bag, RViz: ``ros2 launch pomato_ros pomato.launch.py --show-args``.

A node or a clip that cannot start ends the launch with exit code 1 and the reason.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, EmitEvent, LogInfo, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchContext, LaunchDescription
from pomato_ros.ros.camera_presets import PRESETS
from pomato_ros.ros.launch_settings import (
    LaunchError,
    Settings,
    bag_settings,
    check_arguments,
    check_names,
    expanded,
    frames,
    node_name,
    node_settings,
    publisher_settings,
    uses_sim_time,
)
from pomato_ros.ros.layouts import adapted_layout

PACKAGE = "pomato_ros"
BOOLEAN = ("true", "false")


@dataclass(frozen=True)
class Argument:
    """One launch argument."""

    name: str
    default: str
    description: str
    choices: tuple[str, ...] | None = None


ARGUMENTS = (
    Argument(
        "camera",
        "",
        "driver whose default topics and kind of depth fill the arguments below that are empty; see docs/sensors.md",
        ("", *PRESETS),
    ),
    Argument("image", "", "topic of the camera image; empty means as camera has it, else image"),
    Argument("camera_info", "", "topic of the camera's calibration; empty means camera_info beside the image"),
    Argument(
        "image_transport",
        "",
        "subscribe to the image itself or to <image>/compressed; empty means what the parameters say",
        ("", "raw", "compressed"),
    ),
    Argument("depth", "", "topic of a depth image, metric with backend rgbd; empty means depth/image"),
    Argument("depth_camera_info", "", "topic of its calibration; empty means camera_info beside the depth image"),
    Argument("right", "", "topic of the right image of a stereo pair, for backend stereo; empty means right/image"),
    Argument("right_camera_info", "", "topic of its calibration; empty means camera_info beside the right image"),
    Argument("namespace", "", "namespace of the node, one for each camera"),
    Argument(
        "frame_prefix",
        "",
        "put before odom and base_link (or the two frames below) and before a clip's camera frame, so that two nodes "
        "do not send the same transform",
    ),
    Argument("odom_frame", "", "world-fixed frame; empty means what the parameters say, by default odom"),
    Argument("base_frame", "", "the robot's own frame; empty means what the parameters say, by default base_link"),
    Argument(
        "publish_tf",
        "",
        "send odom_frame to base_frame on TF; empty means what the parameters say, by default true",
        ("", *BOOLEAN),
    ),
    Argument("params_file", "", "YAML file of parameters; empty means config/pomato.yaml of the package"),
    Argument(
        "backend",
        "",
        "source of geometry: auto, rgbd, stereo, pomato or another of docs/backends.md; empty means what the "
        "parameters say, by default auto",
    ),
    Argument("checkpoint", "", "weights file; empty means what the parameters say, by default the bundled weights"),
    Argument("rviz", "true", "open RViz with the package's layout", BOOLEAN),
    Argument("bag", "", "bag file or folder to play"),
    Argument("video", "", "video file, folder of images or camera device (0, /dev/video0) to play"),
    Argument("demo", "false", "play the bundled sample clip", BOOLEAN),
    Argument("loop", "false", "play the bag, the video or the sample again and again", BOOLEAN),
    Argument(
        "rate",
        "",
        "images a second of a video or the sample, speed factor of a bag; 0 plays as recorded, empty too, but the "
        "sample at 2 images a second",
    ),
    Argument(
        "use_sim_time",
        "auto",
        "take the time from /clock, which a bag brings and a clip then publishes; auto does so for a bag only",
        ("auto", *BOOLEAN),
    ),
    Argument(
        "autostart",
        "",
        "configure and activate without a lifecycle manager; empty means what the parameters say, by default true",
        ("", *BOOLEAN),
    ),
    Argument("fastdds_profile", "true", "give Fast DDS room for large clouds (config/fastdds.xml)", BOOLEAN),
    Argument("log_level", "info", "least severity that is logged", ("debug", "info", "warn", "error")),
)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; everything else depends on their values."""
    declared = [
        DeclareLaunchArgument(
            argument.name,
            default_value=argument.default,
            description=argument.description,
            **({"choices": list(argument.choices)} if argument.choices else {}),
        )
        for argument in ARGUMENTS
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=make_actions)])


def make_actions(context: LaunchContext) -> list[Any]:
    """The processes that the given arguments ask for.

    Raises:
        LaunchError: An argument cannot be met; `ros2 launch` prints it and ends with exit code 1.
    """
    given = context.launch_configurations
    values = {argument.name: given[argument.name] for argument in ARGUMENTS}
    check_arguments(values)
    share = Path(get_package_share_directory(PACKAGE))
    parameters_file = expanded(values["params_file"]) if values["params_file"] else share / "config" / "pomato.yaml"
    perception = process("pomato", values, node_settings(values, share), str(parameters_file))
    actions = [LogInfo(msg=warning) for warning in check_names(given, list(values))]
    actions += [perception, ends_launch(perception, "pomato", when_done=True)]
    video = str(sample_folder()) if values["demo"] == "true" else values["video"]
    if video:
        actions += source("frame_publisher", values, publisher_settings(values, video, share))
    if values["bag"]:
        actions += source("when_active", values, bag_settings(values, share))
    if values["rviz"] == "true":
        actions += rviz(share, values)
    return actions


def source(name: str, values: dict[str, str], settings: Settings) -> list[Any]:
    """A process that plays images; the launch goes on when it has come to its end, but not when it failed."""
    player = process(name, values, settings)
    return [player, ends_launch(player, name, when_done=False)]


def ends_launch(action: Node, name: str, *, when_done: bool) -> RegisterEventHandler:
    """Ends the launch when the process fails, and with ``when_done`` also when it ends without an error."""
    return RegisterEventHandler(OnProcessExit(target_action=action, on_exit=on_exit_of(name, when_done=when_done)))


def on_exit_of(name: str, *, when_done: bool) -> Callable[[Any, LaunchContext], Any]:
    """What to do when the process ``name`` ends: an error raised here makes the exit code of the launch 1."""

    def on_exit(event: Any, context: LaunchContext) -> Any:
        if context.is_shutdown:
            return None
        if event.returncode != 0:
            raise LaunchError(f"{name} ended with code {event.returncode}; its last lines above say why")
        return EmitEvent(event=Shutdown(reason=f"{name} ended")) if when_done else None

    return on_exit


def process(name: str, values: dict[str, str], settings: Settings, *parameters_files: str) -> Node:
    """One of the package's nodes; its settings win over its parameters files."""
    return Node(
        package=PACKAGE,
        executable=name,
        name=name,
        namespace=values["namespace"],
        output="screen",
        emulate_tty=True,
        parameters=[*parameters_files, typed(settings.parameters)],
        remappings=settings.remappings,
        arguments=settings.arguments,
        additional_env=settings.environment,
    )


def typed(parameters: dict[str, Any]) -> dict[str, Any]:
    """Texts marked as texts: launch would read them as YAML, and the camera device 0 as a number."""
    return {
        name: ParameterValue(value, value_type=str) if isinstance(value, str) else value
        for name, value in parameters.items()
    }


def rviz(share: Path, values: dict[str, str]) -> list[Any]:
    """RViz with the layout for this node's name and frames, where it is installed."""
    try:
        get_package_share_directory("rviz2")
    except LookupError:
        return [LogInfo(msg="rviz2 is not installed: starting without it (rviz:=false hides this line)")]
    renamed = frames(values)
    layout = adapted_layout(
        share / "config" / "pomato.rviz",
        node_name(values),
        {"odom": renamed.get("odom_frame", "odom"), "base_link": renamed.get("base_frame", "base_link")},
    )
    with tempfile.NamedTemporaryFile("w", prefix="pomato_", suffix=".rviz", delete=False) as file:
        file.write(layout)
    return [
        Node(
            package="rviz2",
            executable="rviz2",
            name="rviz2",
            namespace=values["namespace"],
            output="log",
            arguments=["-d", file.name],
            parameters=[{"use_sim_time": uses_sim_time(values)}],
        )
    ]


def sample_folder() -> Path:
    """The bundled clip, beside the installed modules."""
    import pomato_ros.ros  # has a file of its own, unlike the package that two folders make up

    return Path(pomato_ros.ros.__file__).resolve().parent.parent / "samples" / "room"
