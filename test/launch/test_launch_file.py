"""What can be said about the launch file and the layouts; where `launch` is installed, the launch file is run too."""

import ast
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

PROMISED = (
    *("image", "camera_info", "namespace", "params_file", "checkpoint", "rviz", "bag", "loop", "rate", "video", "demo"),
    *("use_sim_time", "autostart"),
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


def actions_for(path: Path, **given: str) -> list[Any]:
    """The actions that the launch file makes of the given arguments."""
    launch = pytest.importorskip("launch", reason="launch is not installed (the ROS pip wheels have none)")
    pytest.importorskip("launch_ros", reason="launch_ros is not installed (the ROS pip wheels have none)")
    module = load(path)
    context = launch.LaunchContext()
    context.launch_configurations.update({argument.name: argument.default for argument in module.ARGUMENTS})
    context.launch_configurations.update(given)
    return list(module.make_actions(context))


@pytest.mark.parametrize(
    ("given", "count"),
    [({"rviz": "false"}, 1), ({"rviz": "false", "demo": "true"}, 2), ({"rviz": "false", "bag": "a.mcap"}, 2)],
)
def test_arguments_start_what_they_promise(launch_path: Path, given: dict[str, str], count: int) -> None:
    assert len(actions_for(launch_path, **given)) == count


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


def panels_of(node: Any) -> list[str]:
    """The panels in a tree of splits."""
    return [node] if isinstance(node, str) else [*panels_of(node["first"]), *panels_of(node["second"])]


def test_fast_dds_gets_room_for_a_large_cloud(repository_root: Path) -> None:
    text = (repository_root / "config" / "fastdds.xml").read_text(encoding="utf-8")
    assert "<segment_size>33554432</segment_size>" in text
    assert "http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles" in text
