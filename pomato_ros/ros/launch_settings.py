"""What the launch file's arguments mean for its processes, apart from `launch` itself."""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pomato_ros.config import PomatoConfig
from pomato_ros.errors import PomatoError
from pomato_ros.ros.camera_presets import NO_PRESET, PRESETS

NODE_NAME = "pomato"
DEMO_RATE_HZ = 2.0  # what a small computer keeps up with
DELAY_S = 1.0  # between a bag's publishers and its first message, for the node to find them
NODE_PARAMETERS = ("image_transport", "backend", "checkpoint", "frame_prefix", "odom_frame", "base_frame")
CAMERA_FRAME = "camera_optical_frame"
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")  # before and since Fast DDS 3
Arguments = Mapping[str, str]
Parameters = dict[str, bool | float | str]
Remappings = list[tuple[str, str]]


class LaunchError(PomatoError, ValueError):
    """The launch cannot start or go on; the message names the argument or the process."""


@dataclass(frozen=True)
class Settings:
    """What one process is started with."""

    parameters: Parameters
    remappings: Remappings
    environment: dict[str, str]
    arguments: list[str]


def check_arguments(arguments: Arguments) -> None:
    """Return where the arguments can be met together.

    Raises:
        LaunchError: One cannot; the message names it and what was expected.
    """
    rate_of(arguments)
    sources = [name for name in ("bag", "video") if arguments[name]] + ["demo"] * (arguments["demo"] == "true")
    if len(sources) > 1:
        raise LaunchError(f"expected one source of images, got {' and '.join(f'{name}:=' for name in sources)}")
    for name, kind in (("params_file", "YAML file of parameters"), ("bag", "bag file or folder")):
        path = expanded(arguments[name])
        if arguments[name] and not (path.is_file() or (name == "bag" and path.is_dir())):
            raise LaunchError(f"{name}:={arguments[name]}: expected a {kind}, got nothing at {path.absolute()}")
    namespace = arguments["namespace"]
    if not all(part.replace("_", "a").isalnum() and not part[0].isdigit() for part in namespace.split("/") if part):
        raise LaunchError(f"namespace:={namespace}: expected names of letters, digits and _ with / between them")


def check_names(given: Mapping[str, str], known: list[str]) -> list[str]:
    """A warning for each argument that is one letter or two away from a known one, as `imgae:=`."""
    close = {name: difflib.get_close_matches(name, known, n=1, cutoff=0.8) for name in given if name not in known}
    return [
        f"'{name}:=' is not an argument of this launch file; '{near[0]}:=' is" for name, near in close.items() if near
    ]


def expanded(path: str) -> Path:
    """The path with ``~`` as the home; left as it is where there is no such home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def rate_of(arguments: Arguments) -> float | None:
    """The argument ``rate`` as a number, None where it was left empty.

    Raises:
        LaunchError: It is no number, or a negative one.
    """
    if not arguments["rate"]:
        return None
    try:
        rate = float(arguments["rate"])
    except ValueError:
        rate = math.nan
    if not 0.0 <= rate < math.inf:
        raise LaunchError(
            f"rate:={arguments['rate']}: expected images a second (of a bag: a factor), 0 or more; 0 plays as recorded"
        )
    return rate


def uses_sim_time(arguments: Arguments) -> bool:
    """Whether the time comes from /clock."""
    wanted = arguments["use_sim_time"]
    return arguments["bag"] != "" if wanted == "auto" else wanted == "true"


def input_remappings(arguments: Arguments) -> Remappings:
    """Where the images and their calibration are; camera_info lies beside the image unless it is named."""
    preset = PRESETS.get(arguments["camera"], NO_PRESET)
    image = arguments["image"] or preset.image
    info = arguments["camera_info"] or (preset.camera_info if not arguments["image"] else "")
    remappings = [("image", image), ("camera_info", info or beside(image, "camera_info"))]
    given = {"depth": preset.depth, "right": preset.right}
    for name, topic in {name: arguments[name] or topic for name, topic in given.items()}.items():
        info = arguments[f"{name}_camera_info"]
        if topic:
            remappings.append((f"{name}/image", topic))
        if topic or info:
            remappings.append((f"{name}/camera_info", info or beside(topic, "camera_info")))
    return remappings


def beside(topic: str, name: str) -> str:
    """A topic in the namespace of another one."""
    folder, slash, _ = topic.rpartition("/")
    return f"{folder}{slash}{name}"


def fast_dds(arguments: Arguments, share: Path) -> dict[str, str]:
    """The environment in which Fast DDS has room for large messages, for every process that publishes some."""
    if arguments["fastdds_profile"] != "true":
        return {}
    return dict.fromkeys(PROFILE_VARIABLES, str(share / "config" / "fastdds.xml"))


def frames(arguments: Arguments) -> dict[str, str]:
    """The names of frames that were asked for: those of the arguments, else the defaults behind a given prefix."""
    prefix, defaults = arguments["frame_prefix"], PomatoConfig().frames
    named = {"odom_frame": defaults.odom_frame, "base_frame": defaults.base_frame}
    wanted = {name: prefix + (arguments[name] or default) for name, default in named.items()}
    return {name: frame for name, frame in wanted.items() if prefix or arguments[name]}


def node_settings(arguments: Arguments, share: Path) -> Settings:
    """The node itself: an argument that was left empty leaves its parameter to the parameters file."""
    parameters: Parameters = {"use_sim_time": uses_sim_time(arguments)}
    for name in ("autostart", "publish_tf"):
        if arguments[name]:
            parameters[name] = arguments[name] == "true"
    preset = PRESETS.get(arguments["camera"], NO_PRESET)
    if preset.depth_sensor:
        parameters["depth_sensor"] = preset.depth_sensor
    parameters.update({name: arguments[name] for name in NODE_PARAMETERS if arguments[name]})
    # Threads of the network that spin while they wait for each other take tens of times longer on a busy processor.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **fast_dds(arguments, share)}
    log_level = f"{logger_name(arguments['namespace'])}:={arguments['log_level']}"
    command = ["--exit-on-failure", "--ros-args", "--log-level", log_level]
    return Settings(parameters, input_remappings(arguments), environment, command)


def logger_name(namespace: str) -> str:
    """The name of the node's logger: its namespaces and its name, with dots between."""
    return ".".join([*filter(None, namespace.split("/")), NODE_NAME])


def publisher_settings(arguments: Arguments, video: str, share: Path) -> Settings:
    """The frame publisher: it begins when the node listens, whoever else does; with use_sim_time it gives /clock."""
    rate = rate_of(arguments)
    demo_rate_hz = DEMO_RATE_HZ if arguments["demo"] == "true" else 0.0
    named = frames(arguments)
    parameters: Parameters = {
        "video": video,
        "rate": demo_rate_hz if rate is None else rate,
        "loop": arguments["loop"] == "true",
        "compressed": arguments["image_transport"] == "compressed",
        "wait_for_node": NODE_NAME,
        "publish_clock": uses_sim_time(arguments),
        "frame_id": arguments["frame_prefix"] + CAMERA_FRAME,
    }
    if "base_frame" in named:
        parameters["base_frame"] = named["base_frame"]
    return Settings(parameters, input_remappings(arguments), fast_dds(arguments, share), [])


def bag_command(arguments: Arguments) -> list[str]:
    """Plays a bag with its clock."""
    command = ["ros2", "bag", "play", str(expanded(arguments["bag"])), "--clock", "--delay", str(DELAY_S)]
    if arguments["loop"] == "true":
        command.append("--loop")
    if rate_of(arguments):
        command += ["--rate", arguments["rate"]]
    return command


def bag_settings(arguments: Arguments, share: Path) -> Settings:
    """The process that waits until the node is active and then plays the bag."""
    return Settings({}, input_remappings(arguments), fast_dds(arguments, share), bag_command(arguments))


def node_name(arguments: Arguments) -> str:
    """The node's absolute name."""
    return "/" + "/".join([*filter(None, arguments["namespace"].split("/")), NODE_NAME])
