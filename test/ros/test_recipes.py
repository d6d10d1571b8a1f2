"""The recipes of docs/recipes.md by the arithmetic of those who read the messages, written here as they document it."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo

from pomato_ros.ros import topics


@pytest.fixture
def outputs(make_graph: Callable[..., Any], fakes: SimpleNamespace) -> Callable[..., dict[str, Any]]:
    """The messages of one step, by topic."""

    def step(**parameters: Any) -> dict[str, Any]:
        graph = make_graph(**parameters)
        graph.wait_until_active()
        graph.listen_to_all()
        graph.wait_until_connected()
        graph.step(0)
        return {name: messages[-1] for name, messages in graph.received.items()}

    return step


def rgb_camera_info(outputs: dict[str, Any]) -> CameraInfo:
    """What a calibrated driver of this camera publishes beside the colour image: the fakes' true camera."""
    return outputs[topics.MASK_INFO.name]


def rtabmap_point(depth: Any, rgb_info: CameraInfo, column: int, row: int) -> np.ndarray:
    """RTAB-Map reads rgb/camera_info alone and scales it by the ratio of the two images' widths."""
    ratio = depth.width / rgb_info.width
    fx, fy, cx, cy = (ratio * rgb_info.k[index] for index in (0, 4, 2, 5))
    metres = np.frombuffer(depth.data, np.float32).reshape(depth.height, depth.width)[row, column]
    return np.array([(column - cx) / fx, (row - cy) / fy, 1.0]) * metres


def true_point(info: CameraInfo, depth_m: float, column: int, row: int) -> np.ndarray:
    return np.array([(column - info.k[2]) / info.k[0], (row - info.k[5]) / info.k[4], 1.0]) * depth_m


@pytest.mark.parametrize("name", [topics.DEPTH_IMAGE.name, topics.STATIC_DEPTH_IMAGE.name])
def test_rtabmap_puts_depth_where_it_is(
    outputs: Callable[..., dict[str, Any]], fakes: SimpleNamespace, name: str
) -> None:
    messages = outputs()
    depth, info = messages[name], rgb_camera_info(messages)
    assert info.width % depth.width == info.height % depth.height == 0  # it refuses other sizes
    for column, row in ((20, 20), (30, 25), (40, 5)):
        seen = rtabmap_point(depth, info, column, row)
        np.testing.assert_allclose(seen, true_point(info, fakes.DEPTH_M, column, row), atol=1e-6)


def test_at_the_networks_size_rtabmap_would_be_wrong(
    outputs: Callable[..., dict[str, Any]], fakes: SimpleNamespace
) -> None:
    """Why `source` is the default: the crop is not in rgb/camera_info."""
    messages = outputs(depth_resolution="model")
    depth, info = messages[topics.DEPTH_IMAGE.name], rgb_camera_info(messages)
    seen = rtabmap_point(depth, info, 10, 8)
    there = true_point(messages[topics.DEPTH_INFO.name], fakes.DEPTH_M, 10, 8)
    assert np.linalg.norm(seen - there) > 0.05


def test_masks_pair_with_colour_images_exactly(outputs: Callable[..., dict[str, Any]], fakes: SimpleNamespace) -> None:
    """cuVSLAM and nvblox pair by equal stamps, and want a mask of the image's own size."""
    mask, image = outputs()[topics.MASK_IMAGE.name], fakes.image_of(0)
    assert mask.header.stamp == image.header.stamp
    assert (mask.width, mask.height, mask.encoding) == (image.width, image.height, "mono8")
