from types import SimpleNamespace
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.parameter import Parameter
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from pomato_ros.ros import topics
from pomato_ros.ros.conversions.stamps import time_from_stamp_ns
from pomato_ros.ros.node import DIAGNOSTICS_PERIOD_S

BEST_EFFORT, RELIABLE = QoSReliabilityPolicy.BEST_EFFORT, QoSReliabilityPolicy.RELIABLE


@pytest.mark.parametrize("topic", topics.SCENE_OUTPUTS, ids=lambda topic: topic.name)
def test_outputs_are_offered_as_promised(graph: Any, topic: topics.Topic) -> None:
    name = topic.name.replace("~", "/pomato")
    graph.spin_until(lambda: bool(graph.client.get_publishers_info_by_topic(name)), "discovery")
    profile = graph.client.get_publishers_info_by_topic(name)[0].qos_profile
    assert profile.reliability == (BEST_EFFORT if topic is topics.DEBUG_IMAGE else RELIABLE)
    latched = profile.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL
    assert latched is (topic is topics.PATH)


@pytest.mark.parametrize("name", ["/image", "/camera_info"])
def test_inputs_are_heard_reliably_where_no_publisher_offers_less(graph: Any, name: str) -> None:
    graph.spin_until(lambda: bool(graph.client.get_subscriptions_info_by_topic(name)), "discovery")
    assert graph.client.get_subscriptions_info_by_topic(name)[0].qos_profile.reliability == RELIABLE


def test_quality_of_service_can_be_overridden(make_graph: Any) -> None:
    graph = make_graph(
        **{
            "qos_overrides./image.subscription.reliability": "reliable",
            "qos_overrides./pomato/points.publisher.reliability": "best_effort",
        }
    )
    graph.wait_until_active()
    graph.spin_until(lambda: bool(graph.client.get_publishers_info_by_topic("/pomato/points")), "discovery")
    image = graph.client.get_subscriptions_info_by_topic("/image")[0]
    points = graph.client.get_publishers_info_by_topic("/pomato/points")[0]
    assert image.qos_profile.reliability == RELIABLE
    assert points.qos_profile.reliability == BEST_EFFORT


def test_incompatible_ends_are_named_in_diagnostics(make_graph: Any) -> None:
    graph = make_graph(**{"qos_overrides./image.subscription.reliability": "reliable"})
    graph.spin_until(lambda: graph.node.status.lifecycle == "active", "the node to become active")
    graph.client.create_publisher(Image, "/image", QoSProfile(depth=1, reliability=BEST_EFFORT))
    conflicts = graph.node.status.input.qos_conflicts
    graph.spin_until(lambda: "/image" in conflicts, "the event")
    assert "qos_overrides./image.subscription.reliability" in conflicts["/image"]
    values = {pair.key: pair.value for pair in graph.diagnostics()["input"].values}
    assert "/image" in values["incompatible_qos"]


def test_a_late_subscriber_gets_the_path(graph: Any, fakes: SimpleNamespace) -> None:
    graph.listen(topics.PATH.name, topics.PATH.message_type, topics.PATH.qos())
    graph.wait_until_connected()
    graph.step(0)
    late: list[Any] = []
    graph.client.create_subscription(topics.PATH.message_type, "/pomato/path", late.append, topics.PATH.qos())
    graph.spin_until(lambda: bool(late), "the latched path")
    assert len(late[0].poses) == 1


def test_compressed_images_are_perceived_too(make_graph: Any, fakes: SimpleNamespace) -> None:
    import cv2
    import numpy as np

    from pomato_ros.ros.conversions.images import packed_bytes

    graph = make_graph(image_transport="compressed")
    graph.spin_until(lambda: graph.node.status.lifecycle == "active", "the node to become active")
    publisher = graph.client.create_publisher(CompressedImage, "image/compressed", 1)
    graph.spin_until(lambda: publisher.get_subscription_count() > 0, "the node's subscription")
    _, data = cv2.imencode(".png", np.full((*fakes.SOURCE_WH[::-1], 3), (10, 20, 30), np.uint8))
    message = CompressedImage(format="png", data=packed_bytes(data))
    message.header.stamp = time_from_stamp_ns(fakes.START_NS)
    publisher.publish(message)
    graph.spin_until(lambda: graph.node.status.engine.steps == 1, "a step")
    assert graph.engine.frames[0].image_rgb[0, 0].tolist() == [30, 20, 10]
    assert graph.engine.frames[0].stamp_ns == fakes.START_NS


def test_diagnostics_go_on_while_ros_time_stands_still(graph: Any) -> None:
    assert DIAGNOSTICS_PERIOD_S == 1.0
    graph.node.set_parameters([Parameter("use_sim_time", value=True)])
    heard: list[Any] = []
    graph.client.create_subscription(DiagnosticArray, "/diagnostics", heard.append, 10)
    graph.spin_until(lambda: len(heard) >= 2, "two diagnostics")
