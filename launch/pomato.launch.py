"""Starts the node, and on request a clip, a bag, RViz: ``ros2 launch pomato_ros pomato.launch.py --show-args``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, ExecuteProcess, LogInfo, OpaqueFunction
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchContext, LaunchDescription
from pomato_ros.ros.launch_settings import Settings, bag_command, node_settings, publisher_settings, uses_sim_time

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
    Argument("image", "image", "topic of the camera image"),
    Argument("camera_info", "", "topic of the camera's calibration; empty means camera_info beside the image"),
    Argument(
        "image_transport",
        "",
        "subscribe to the image itself or to <image>/compressed; empty means what the parameters say",
        ("", "raw", "compressed"),
    ),
    Argument("namespace", "", "namespace of the node, one for each camera"),
    Argument("params_file", "", "YAML file of parameters; empty means the package's config/pomato.yaml"),
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
        "take the time from /clock; auto does so exactly when a bag is played",
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
    """The processes that the given arguments ask for."""
    values = {argument.name: context.launch_configurations[argument.name] for argument in ARGUMENTS}
    share = Path(get_package_share_directory(PACKAGE))
    parameters_file = values["params_file"] or str(share / "config" / "pomato.yaml")
    actions: list[Any] = [process("pomato", values, node_settings(values, share), parameters_file)]
    video = str(sample_folder()) if values["demo"] == "true" else values["video"]
    if video:
        actions.append(process("frame_publisher", values, publisher_settings(values, video)))
    if values["bag"]:
        actions.append(ExecuteProcess(cmd=bag_command(values), output="screen"))
    if values["rviz"] == "true":
        actions += rviz(share, sim_time=uses_sim_time(values))
    return actions


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


def rviz(share: Path, *, sim_time: bool) -> list[Any]:
    """RViz, where it is installed."""
    try:
        get_package_share_directory("rviz2")
    except LookupError:
        return [LogInfo(msg="rviz2 is not installed: starting without it (rviz:=false hides this line)")]
    return [
        Node(
            package="rviz2",
            executable="rviz2",
            name="rviz2",
            output="log",
            arguments=["-d", str(share / "config" / "pomato.rviz")],
            parameters=[{"use_sim_time": sim_time}],
        )
    ]


def sample_folder() -> Path:
    """The bundled clip, beside the installed modules."""
    import pomato_ros.ros  # has a file of its own, unlike the package that two folders make up

    return Path(pomato_ros.ros.__file__).resolve().parent.parent / "samples" / "room"
