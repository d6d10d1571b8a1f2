"""What programs say about themselves, and how they refuse to start."""

import os
import subprocess
import sys

import pytest

from pomato_ros.config import iter_options
from pomato_ros.ros import topics
from pomato_ros.ros.node_usage import node_usage


def test_the_help_of_the_node_names_every_topic_and_parameter_and_how_to_set_one() -> None:
    text = node_usage()
    for topic in (*topics.SCENE_OUTPUTS, topics.IMAGE, topics.CAMERA_INFO, topics.DIAGNOSTICS):
        assert f"  {topic.name} " in text
    assert all(f"  {info.name} " in text for info in iter_options())
    assert "--ros-args -p NAME:=VALUE" in text


@pytest.mark.parametrize("program", ["node", "recorder", "frame_publisher", "when_active"])
@pytest.mark.parametrize(
    ("arguments", "domain", "named"),
    [([], "abc", "ROS_DOMAIN_ID"), (["--ros-args", "-p", "a"], "0", "-p a")],
    ids=["domain", "arguments"],
)
def test_a_program_that_ros_cannot_start_says_so(program: str, arguments: list[str], domain: str, named: str) -> None:
    command = [sys.executable, "-m", f"pomato_ros.ros.{program}", *(["true"] if program == "when_active" else [])]
    environment = {**os.environ, "ROS_DOMAIN_ID": domain}
    result = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert named in result.stderr
    assert "Traceback" not in result.stderr
