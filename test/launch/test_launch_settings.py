from pathlib import Path

import pytest

from pomato_ros.ros.launch_settings import (
    PROFILE_VARIABLES,
    bag_command,
    input_remappings,
    logger_name,
    node_settings,
    publisher_settings,
    uses_sim_time,
)

UNSAID = {
    **dict.fromkeys(("camera_info", "image_transport", "namespace", "checkpoint", "bag", "rate", "autostart"), ""),
    **{"image": "image", "demo": "false", "loop": "false", "use_sim_time": "auto", "log_level": "info"},
    "fastdds_profile": "true",
}
SHARE = Path("/share")


def test_what_was_not_said_is_left_to_the_parameters_file() -> None:
    assert node_settings(UNSAID, SHARE).parameters == {"use_sim_time": False}


def test_what_was_said_wins_over_the_parameters_file() -> None:
    said = {"autostart": "false", "image_transport": "compressed", "checkpoint": "1e5"}
    expected = {"use_sim_time": False, "autostart": False, "image_transport": "compressed", "checkpoint": "1e5"}
    assert node_settings({**UNSAID, **said}, SHARE).parameters == expected


@pytest.mark.parametrize(
    ("image", "camera_info"),
    [("image", "camera_info"), ("/cam/image_raw", "/cam/camera_info"), ("/image", "/camera_info")],
)
def test_the_calibration_lies_beside_the_image(image: str, camera_info: str) -> None:
    assert input_remappings({**UNSAID, "image": image}) == [("image", image), ("camera_info", camera_info)]


def test_a_named_calibration_is_used() -> None:
    assert ("camera_info", "/calibration") in input_remappings({**UNSAID, "camera_info": "/calibration"})


@pytest.mark.parametrize(
    ("namespace", "name"), [("", "pomato"), ("/", "pomato"), ("front", "front.pomato"), ("/a/b", "a.b.pomato")]
)
def test_the_log_level_is_that_of_the_node_in_its_namespace(namespace: str, name: str) -> None:
    assert logger_name(namespace) == name
    assert f"{name}:=info" in node_settings({**UNSAID, "namespace": namespace}, SHARE).arguments


def test_only_the_sample_is_slowed_down_unasked() -> None:
    assert publisher_settings({**UNSAID, "demo": "true"}, "clip").parameters["rate"] == 2.0
    assert publisher_settings({**UNSAID, "demo": "true", "rate": "0"}, "clip").parameters["rate"] == 0.0
    assert publisher_settings(UNSAID, "clip").parameters["rate"] == 0.0


def test_a_clip_waits_for_the_node_and_a_camera_number_stays_text() -> None:
    parameters = publisher_settings(UNSAID, "0").parameters
    assert (parameters["wait_for_node"], parameters["video"]) == ("pomato", "0")


def test_a_bag_brings_its_clock() -> None:
    assert uses_sim_time({**UNSAID, "bag": "a.mcap"})
    assert bag_command({**UNSAID, "bag": "a.mcap", "rate": "2"})[-3:] == ["--clock", "--rate", "2"]


def test_both_generations_of_fast_dds_find_the_profile() -> None:
    environment = node_settings(UNSAID, SHARE).environment
    assert {environment[name] for name in PROFILE_VARIABLES} == {"/share/config/fastdds.xml"}
