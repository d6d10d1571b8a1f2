from pathlib import Path

import pytest

from pomato_ros.config import PomatoConfig
from pomato_ros.ros.camera_presets import PRESETS
from pomato_ros.ros.launch_settings import (
    PROFILE_VARIABLES,
    LaunchError,
    bag_command,
    bag_settings,
    check_arguments,
    check_names,
    frames,
    input_remappings,
    logger_name,
    node_name,
    node_settings,
    publisher_settings,
    uses_sim_time,
)

LEFT_EMPTY = (
    "image",
    "camera",
    "camera_info",
    "depth",
    "depth_camera_info",
    "right",
    "right_camera_info",
    "image_transport",
    "namespace",
    "backend",
    "checkpoint",
    "bag",
    "video",
    "rate",
    "autostart",
)
UNSAID = {
    **dict.fromkeys(
        (*LEFT_EMPTY, "backend", "params_file", "frame_prefix", "odom_frame", "base_frame", "publish_tf"), ""
    ),
    **{"demo": "false", "loop": "false", "use_sim_time": "auto", "log_level": "info"},
    "fastdds_profile": "true",
}
SHARE = Path("/share")


def test_what_was_not_said_is_left_to_the_parameters_file() -> None:
    assert node_settings(UNSAID, SHARE).parameters == {"use_sim_time": False}


def test_what_was_said_wins_over_the_parameters_file() -> None:
    said = {"autostart": "false", "image_transport": "compressed", "checkpoint": "1e5", "publish_tf": "false"}
    expected = {"use_sim_time": False, "image_transport": "compressed", "checkpoint": "1e5"}
    expected |= {"autostart": False, "publish_tf": False}
    assert node_settings({**UNSAID, **said}, SHARE).parameters == expected


@pytest.mark.parametrize(
    ("image", "camera_info"),
    [("image", "camera_info"), ("/cam/image_raw", "/cam/camera_info"), ("/image", "/camera_info")],
)
def test_the_calibration_lies_beside_the_image(image: str, camera_info: str) -> None:
    assert input_remappings({**UNSAID, "image": image}) == [("image", image), ("camera_info", camera_info)]


def test_a_named_calibration_is_used() -> None:
    assert ("camera_info", "/calibration") in input_remappings({**UNSAID, "camera_info": "/calibration"})


def test_a_depth_image_and_a_right_image_bring_their_calibration() -> None:
    arguments = {**UNSAID, "depth": "/cam/depth/image_raw", "right": "/cam/right/image", "right_camera_info": "/info"}
    assert input_remappings(arguments)[2:] == [
        ("depth/image", "/cam/depth/image_raw"),
        ("depth/camera_info", "/cam/depth/camera_info"),
        ("right/image", "/cam/right/image"),
        ("right/camera_info", "/info"),
    ]
    assert dict(input_remappings({**UNSAID, "depth_camera_info": "/info"}))["depth/camera_info"] == "/info"


@pytest.mark.parametrize("camera", sorted(PRESETS))
def test_a_preset_sets_what_was_left_empty(camera: str) -> None:
    preset = PRESETS[camera]
    remappings = dict(input_remappings({**UNSAID, "camera": camera}))
    assert (remappings["image"], remappings["depth/image"]) == (preset.image, preset.depth)
    for name in ("", "depth/"):
        folder = remappings[f"{name}image"].rpartition("/")[0]
        assert remappings[f"{name}camera_info"] in (f"{folder}/camera_info", preset.camera_info)
    named = dict(input_remappings({**UNSAID, "camera": camera, "image": "/my/image", "depth": "/my/depth"}))
    assert named["image"] == "/my/image"
    assert (named["camera_info"], named["depth/image"]) == ("/my/camera_info", "/my/depth")
    parameters = node_settings({**UNSAID, "camera": camera}, SHARE).parameters
    assert PomatoConfig().with_values({"depth_sensor": parameters.get("depth_sensor", "structured_light")})


@pytest.mark.parametrize(
    ("namespace", "name"), [("", "pomato"), ("/", "pomato"), ("front", "front.pomato"), ("/a/b", "a.b.pomato")]
)
def test_the_log_level_is_that_of_the_node_in_its_namespace(namespace: str, name: str) -> None:
    assert logger_name(namespace) == name
    assert f"{name}:=info" in node_settings({**UNSAID, "namespace": namespace}, SHARE).arguments
    assert node_name({**UNSAID, "namespace": namespace}) == "/" + name.replace(".", "/")


def test_only_the_sample_is_slowed_down_unasked() -> None:
    assert publisher_settings({**UNSAID, "demo": "true"}, "clip", SHARE).parameters["rate"] == 2.0
    assert publisher_settings({**UNSAID, "demo": "true", "rate": "0"}, "clip", SHARE).parameters["rate"] == 0.0
    assert publisher_settings(UNSAID, "clip", SHARE).parameters["rate"] == 0.0


def test_a_clip_waits_for_the_node_and_a_camera_number_stays_text() -> None:
    parameters = publisher_settings(UNSAID, "0", SHARE).parameters
    assert (parameters["wait_for_node"], parameters["video"]) == ("pomato", "0")


def test_a_clip_gives_the_clock_that_use_sim_time_asks_for() -> None:
    for wanted, published in (("auto", False), ("false", False), ("true", True)):
        arguments = {**UNSAID, "demo": "true", "use_sim_time": wanted}
        assert node_settings(arguments, SHARE).parameters["use_sim_time"] is published
        assert publisher_settings(arguments, "clip", SHARE).parameters["publish_clock"] is published


def test_a_bag_brings_its_clock_and_waits_before_its_first_message() -> None:
    assert uses_sim_time({**UNSAID, "bag": "a.mcap"})
    command = bag_command({**UNSAID, "bag": "a.mcap", "rate": "2", "loop": "true"})
    assert command[3:] == ["a.mcap", "--clock", "--delay", "1.0", "--loop", "--rate", "2"]


def test_every_process_that_sends_images_or_clouds_finds_the_profile_of_fast_dds() -> None:
    for settings in (
        node_settings(UNSAID, SHARE),
        publisher_settings(UNSAID, "clip", SHARE),
        bag_settings({**UNSAID, "bag": "a.mcap"}, SHARE),
    ):
        assert {settings.environment[name] for name in PROFILE_VARIABLES} == {"/share/config/fastdds.xml"}
    off = {**UNSAID, "fastdds_profile": "false"}
    assert not set(PROFILE_VARIABLES) & set(node_settings(off, SHARE).environment)


def test_a_prefix_renames_all_frames_that_two_nodes_would_share() -> None:
    arguments = {**UNSAID, "frame_prefix": "front_", "base_frame": "body"}
    assert frames(arguments) == {"odom_frame": "front_odom", "base_frame": "front_body"}
    node = node_settings(arguments, SHARE).parameters
    publisher = publisher_settings(arguments, "clip", SHARE).parameters
    assert (node["frame_prefix"], node["base_frame"], "odom_frame" in node) == (
        "front_",
        "body",
        False,
    )  # it joins them
    assert (publisher["base_frame"], publisher["frame_id"]) == ("front_body", "front_camera_optical_frame")


def test_a_frame_that_was_not_said_is_left_to_the_parameters_file() -> None:
    assert frames(UNSAID) == {}
    assert frames({**UNSAID, "odom_frame": "visual"}) == {"odom_frame": "visual"}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"rate": "fast"}, "rate:=fast: expected images a second"),
        ({"rate": "-1"}, "rate:=-1"),
        ({"rate": "inf"}, "rate:=inf"),
        ({"params_file": "/nowhere.yaml"}, "params_file:=/nowhere.yaml: expected a YAML file"),
        ({"bag": "/nowhere"}, "bag:=/nowhere"),
        ({"bag": "a", "demo": "true"}, "one source of images, got bag:= and demo:="),
        ({"video": "0", "demo": "true"}, "one source"),
        ({"namespace": "front camera"}, "namespace:=front camera"),
        ({"namespace": "2nd"}, "namespace:=2nd"),
    ],
)
def test_an_argument_that_cannot_be_met_is_named(given: dict[str, str], named: str) -> None:
    with pytest.raises(LaunchError, match=named):
        check_arguments({**UNSAID, **given})


def test_arguments_that_can_be_met_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text("")
    check_arguments(UNSAID)
    check_arguments({**UNSAID, "params_file": "~/mine.yaml", "rate": "0.5", "namespace": "/robot_1/front"})
    check_arguments({**UNSAID, "bag": str(tmp_path)})


def test_a_mistyped_argument_is_pointed_out_and_those_of_other_launch_files_are_not() -> None:
    assert check_names({"imgae": "/camera", "image": "", "map": "a.yaml"}, list(UNSAID)) == [
        "'imgae:=' is not an argument of this launch file; 'image:=' is"
    ]
