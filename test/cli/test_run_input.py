"""What `pomato run` is given is recognised: a recording by its layout, a folder of images, and nothing by its name."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from pomato_ros.cli.run import chosen_backend, parsed
from pomato_ros.cli.run_input import open_input
from pomato_ros.config import PomatoConfig
from pomato_ros.datasets.sensors.bag import Topics
from pomato_ros.structures import Frame

IMAGE = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)


def opened(path: Path, limit: int | None = None):  # noqa: ANN201
    return open_input(str(path), "auto", 10.0, Topics(), 0.0, limit)


def test_a_folder_of_images_is_a_stream_at_the_rate_asked_for(tmp_path: Path) -> None:
    for t in range(3):
        cv2.imwrite(str(tmp_path / f"{t}.png"), IMAGE)
    given = opened(tmp_path, limit=2)
    frames = list(given.frames)
    assert (given.layout, given.count, len(frames)) == ("images", 2, 2)
    assert frames[1].stamp_ns - frames[0].stamp_ns == 100_000_000
    np.testing.assert_array_equal(frames[0].image_rgb, IMAGE[..., ::-1])
    assert frames[0].intrinsics is None


def test_a_recording_is_recognised_by_its_layout(tmp_path: Path) -> None:
    for kind in ("rgb", "depth"):
        (tmp_path / kind).mkdir()
    cv2.imwrite(str(tmp_path / "rgb" / "1.000.png"), IMAGE)
    cv2.imwrite(str(tmp_path / "depth" / "1.000.png"), np.full((24, 32), 5000, np.uint16))
    given = opened(tmp_path)
    frame = next(given.frames)
    assert given.layout == "tum_rgbd"
    assert chosen_backend("auto", frame) == "rgbd"


def test_the_backend_follows_the_sensors_unless_it_is_named() -> None:
    pair = Frame(1, IMAGE, right_rgb=IMAGE, baseline_m=0.1)
    assert chosen_backend("auto", pair) == "stereo"
    assert chosen_backend("auto", Frame(1, IMAGE)) == PomatoConfig().model.backend
    assert chosen_backend("pomato", pair) == "pomato"


def test_nothing_to_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere"):
        opened(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no images"):
        opened(tmp_path)


def test_parameters_are_read_as_yaml_and_bad_ones_are_named() -> None:
    assert parsed(["image_size=640", "publish_tf=false", "depth_sensor=stereo"]) == {
        "image_size": 640,
        "publish_tf": False,
        "depth_sensor": "stereo",
    }
    with pytest.raises(ValueError, match="NAME=VALUE"):
        parsed(["image_size"])
