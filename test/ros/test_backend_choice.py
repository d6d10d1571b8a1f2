"""What `backend: auto` becomes, for every state of a graph."""

from typing import Any

import pytest

from pomato_ros.config import BACKENDS, PomatoConfig
from pomato_ros.ros.backend_choice import choose_backend, sensor_name


def choice(published: tuple[str, ...] = (), remapped: dict[str, str] | None = None, **values: Any) -> tuple[str, str]:
    """Backend and reason of a node in the namespace `front`."""
    names = remapped or {}
    found = choose_backend(
        PomatoConfig().with_values(values), lambda name: names.get(name, f"/front/{name}"), published.count
    )
    return found.backend, found.reason


def test_a_sensor_is_there_where_its_topic_has_a_publisher_or_was_remapped() -> None:
    assert choice() == (
        "pomato",
        "auto: nobody published '/front/depth/image' and '/front/right/image' at activation",
    )
    assert choice(("/front/depth/image",)) == ("rgbd", "auto: '/front/depth/image' has a publisher")
    assert choice(("/front/right/image",))[0] == "stereo"
    assert choice(("/depth/image",))[0] == "pomato"  # another namespace's
    assert choice(remapped={"depth/image": "/cam/depth"})[0] == "rgbd"
    assert choice(remapped={"depth/image": "/cam/depth/image"})[0] == "rgbd"
    assert choice(("/cam/depth",), {"depth/image": "/cam/depth"})[1] == "auto: '/cam/depth' has a publisher"


def test_the_form_that_is_subscribed_counts() -> None:
    compressed = {"depth_transport": "compressedDepth"}
    assert choice(("/front/depth/image",), **compressed)[0] == "pomato"
    assert choice(("/front/depth/image/compressedDepth",), **compressed)[0] == "rgbd"
    assert choice(("/cam/depth/compressedDepth",), {"depth/image": "/cam/depth"}, **compressed)[0] == "rgbd"
    assert choice(("/front/right/image/compressed",), image_transport="compressed")[0] == "stereo"
    assert sensor_name("right/image/compressed", "/{}".format) == "/right/image/compressed"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_named_backend_is_taken_whatever_is_connected(backend: str) -> None:
    assert choice(("/front/depth/image",), backend=backend) == (backend, "set by the parameter backend")


@pytest.mark.parametrize("values", [{"scale_source": "depth"}, {"checkpoint": "mine.safetensors"}])
def test_options_of_a_network_mean_the_network(values: dict[str, str]) -> None:
    backend, reason = choice(("/front/depth/image",), **values)
    assert backend == "pomato"
    assert next(iter(values)) in reason


def test_without_a_graph_auto_is_the_network() -> None:
    assert PomatoConfig().model.backend == "auto"
    assert PomatoConfig().model.named_backend == "pomato"
