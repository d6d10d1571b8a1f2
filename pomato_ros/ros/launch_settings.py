"""What the launch file's arguments mean for its processes, apart from `launch` itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NODE_NAME = "pomato"
DEMO_RATE_HZ = 2.0  # what a small computer keeps up with
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")  # before and since Fast DDS 3
Arguments = Mapping[str, str]
Parameters = dict[str, bool | float | str]
Remappings = list[tuple[str, str]]


@dataclass(frozen=True)
class Settings:
    """What one process is started with."""

    parameters: Parameters
    remappings: Remappings
    environment: dict[str, str]
    arguments: list[str]


def uses_sim_time(arguments: Arguments) -> bool:
    """Whether the time comes from /clock."""
    wish = arguments["use_sim_time"]
    return arguments["bag"] != "" if wish == "auto" else wish == "true"


def input_remappings(arguments: Arguments) -> Remappings:
    """Where the images and their calibration are; camera_info lies beside the image unless it is named."""
    image = arguments["image"]
    folder, slash, _ = image.rpartition("/")
    return [("image", image), ("camera_info", arguments["camera_info"] or f"{folder}{slash}camera_info")]


def node_settings(arguments: Arguments, share: Path) -> Settings:
    """The node itself: an argument that was left empty leaves its parameter to the parameters file."""
    parameters: Parameters = {"use_sim_time": uses_sim_time(arguments)}
    if arguments["autostart"]:
        parameters["autostart"] = arguments["autostart"] == "true"
    parameters.update({name: arguments[name] for name in ("image_transport", "checkpoint") if arguments[name]})
    # Threads of the network that spin while they wait for each other take tens of times longer on a busy processor.
    environment = {"OMP_WAIT_POLICY": "PASSIVE"}
    if arguments["fastdds_profile"] == "true":
        environment |= dict.fromkeys(PROFILE_VARIABLES, str(share / "config" / "fastdds.xml"))
    log_level = f"{logger_name(arguments['namespace'])}:={arguments['log_level']}"
    return Settings(parameters, input_remappings(arguments), environment, ["--ros-args", "--log-level", log_level])


def logger_name(namespace: str) -> str:
    """The name of the node's logger: its namespaces and its name, with dots between."""
    return ".".join([*filter(None, namespace.split("/")), NODE_NAME])


def publisher_settings(arguments: Arguments, video: str) -> Settings:
    """The frame publisher: it begins when the node listens, whoever else does."""
    demo_rate_hz = DEMO_RATE_HZ if arguments["demo"] == "true" else 0.0
    parameters: Parameters = {
        "video": video,
        "rate": float(arguments["rate"]) if arguments["rate"] else demo_rate_hz,
        "loop": arguments["loop"] == "true",
        "compressed": arguments["image_transport"] == "compressed",
        "wait_for_node": NODE_NAME,
    }
    return Settings(parameters, input_remappings(arguments), {}, [])


def bag_command(arguments: Arguments) -> list[str]:
    """Plays a bag with its clock."""
    command = ["ros2", "bag", "play", arguments["bag"], "--clock"]
    if arguments["loop"] == "true":
        command.append("--loop")
    if arguments["rate"] and float(arguments["rate"]) > 0.0:
        command += ["--rate", arguments["rate"]]
    return command
