"""What can be said about the launch file and the layouts; where `launch` is installed, the launch file is run too."""

import ast
import importlib.util
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

from pomato_ros.ros.launch_settings import LaunchError
from pomato_ros.ros.layouts import adapted_layout

PROMISED = (
    *("camera", "depth", "depth_camera_info", "right", "right_camera_info"),
    *(
        "image",
        "camera_info",
        "namespace",
        "params_file",
        "backend",
        "checkpoint",
        "rviz",
        "bag",
        "loop",
        "rate",
        "video",
        "demo",
    ),
    *("backend", "use_sim_time", "autostart", "frame_prefix", "odom_frame", "base_frame", "publish_tf"),
)
INPUTS = {"/image", "/camera_info", "/diagnostics", "/tf"}


@pytest.fixture
def launch_path(repository_root: Path) -> Path:
    return repository_root / "launch" / "pomato.launch.py"


def declared_arguments(path: Path) -> dict[str, list[ast.expr]]:
    """The entries of ARGUMENTS, read without importing `launch`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Argument"
    ]
    return {ast.literal_eval(call.args[0]): call.args for call in calls}


def test_every_promised_argument_is_declared_and_described(launch_path: Path) -> None:
    arguments = declared_arguments(launch_path)
    assert set(PROMISED) <= set(arguments)
    for name, (_, default, description, *_) in arguments.items():
        assert isinstance(ast.literal_eval(default), str), name
        assert len(ast.literal_eval(description)) > 10, name


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("pomato_launch", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def installed_launch() -> Any:
    """The module `launch`, where it is installed; the folder of that name in this repository is none."""
    pytest.importorskip("launch_ros", reason="launch_ros is not installed (the ROS pip wheels have none)")
    return pytest.importorskip("launch")


def actions_for(path: Path, **given: str) -> list[Any]:
    """The actions that the launch file makes of the given arguments."""
    launch = installed_launch()
    module = load(path)
    context = launch.LaunchContext()
    context.launch_configurations.update({argument.name: argument.default for argument in module.ARGUMENTS})
    context.launch_configurations.update(given)
    return list(module.make_actions(context))


def processes(actions: list[Any]) -> list[Any]:
    """The actions that start something."""
    return [action for action in actions if type(action).__name__ == "Node"]


@pytest.mark.parametrize(("given", "count"), [({}, 1), ({"demo": "true"}, 2), ({"bag": "."}, 2)])
def test_arguments_start_what_they_promise(launch_path: Path, given: dict[str, str], count: int) -> None:
    actions = actions_for(launch_path, rviz="false", **given)
    assert len(processes(actions)) == count
    assert len(actions) == 2 * count  # each process with what happens at its end


@pytest.mark.parametrize("given", [{"rate": "fast"}, {"params_file": "/nowhere.yaml"}])
def test_a_launch_with_an_argument_that_cannot_be_met_ends_with_an_error(
    launch_path: Path, given: dict[str, str]
) -> None:
    with pytest.raises(LaunchError, match=next(iter(given))):
        actions_for(launch_path, rviz="false", **given)


@pytest.mark.parametrize(
    ("code", "when_done", "fails"), [(1, True, True), (-6, False, True), (0, True, False), (0, False, False)]
)
def test_a_process_that_failed_ends_the_launch_with_an_error(
    launch_path: Path, code: int, when_done: bool, fails: bool
) -> None:
    launch = installed_launch()
    on_exit = load(launch_path).on_exit_of("pomato", when_done=when_done)
    event = SimpleNamespace(returncode=code)
    if fails:
        with pytest.raises(LaunchError, match=f"pomato ended with code {code}"):
            on_exit(event, launch.LaunchContext())
        return
    assert (on_exit(event, launch.LaunchContext()) is not None) is when_done


def topics_in(value: Any) -> set[str]:
    """Every absolute topic name inside a nested document."""
    if isinstance(value, dict):
        return set().union(*(topics_in(item) for pair in value.items() for item in pair))
    if isinstance(value, list):
        return set().union(*(topics_in(item) for item in value))
    return {value} if isinstance(value, str) and value.startswith("/") else set()


def known_topics() -> set[str]:
    topics = pytest.importorskip("pomato_ros.ros.topics", reason="needs the ROS messages")
    return INPUTS | {topic.name.replace("~", "/pomato") for topic in topics.SCENE_OUTPUTS}


def test_the_rviz_layout_is_grouped_and_shows_topics_that_exist(repository_root: Path) -> None:
    layout = yaml.safe_load((repository_root / "config" / "pomato.rviz").read_text(encoding="utf-8"))
    manager = layout["Visualization Manager"]
    groups = [display["Name"] for display in manager["Displays"] if display["Class"] == "rviz_common/Group"]
    assert groups == ["Camera", "Static", "Moving", "Tracks", "Odometry"]
    assert manager["Global Options"]["Fixed Frame"] == "odom"
    assert topics_in(manager["Displays"]) <= known_topics()


def test_the_foxglove_layout_shows_topics_that_exist(repository_root: Path) -> None:
    layout = json.loads((repository_root / "layouts" / "pomato.json").read_text(encoding="utf-8"))
    panels = {panel for panel in panels_of(layout["layout"])}
    assert panels == set(layout["configById"])
    shown = {name for name in topics_in(layout["configById"]) if "." not in name}
    assert shown <= known_topics()


@pytest.mark.parametrize("file", ["config/pomato.rviz", "layouts/pomato.json"])
def test_a_layout_for_another_name_shows_that_name_and_those_frames_alone(repository_root: Path, file: str) -> None:
    text = adapted_layout(repository_root / file, "/front/pomato", {"odom": "front_odom", "base_link": "front_base"})
    document = yaml.safe_load(text)
    shown = {name for name in topics_in(document) if "." not in name}
    assert {name for name in shown if "pomato" in name} == {n for n in shown if n.startswith("/front/pomato/")} != set()
    assert "front_odom" in text
    assert "odom" not in strings_in(document)
    unchanged = yaml.safe_load(adapted_layout(repository_root / file, "/pomato", {}))
    assert unchanged == yaml.safe_load((repository_root / file).read_text(encoding="utf-8"))


def strings_in(value: Any) -> set[str]:
    """Every string inside a nested document, keys among them."""
    if isinstance(value, dict):
        return set().union(*(strings_in(item) for pair in value.items() for item in pair))
    if isinstance(value, list):
        return set().union(*map(strings_in, value))
    return {value} if isinstance(value, str) else set()


def panels_of(node: Any) -> list[str]:
    """The panels in a tree of splits."""
    return [node] if isinstance(node, str) else [*panels_of(node["first"]), *panels_of(node["second"])]


def test_fast_dds_gets_room_for_a_large_cloud(repository_root: Path) -> None:
    text = (repository_root / "config" / "fastdds.xml").read_text(encoding="utf-8")
    assert "<segment_size>33554432</segment_size>" in text
    assert "http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles" in text
