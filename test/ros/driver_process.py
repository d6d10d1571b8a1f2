"""A camera driver as it comes out of the box: a process of its own with Fast DDS defaults that publishes raw images.

Arguments: reliability, width, height, count, rate_hz. Ends when all images are out, and acknowledged where reliable.
"""

import sys
import time
from array import array

import rclpy
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import Image

FIRST_SECOND = 1_700_000_000


def main() -> None:
    reliability, width, height, count, rate_hz = sys.argv[1], *map(int, sys.argv[2:6])
    rclpy.init(args=[])
    node = Node("stock_driver")
    qos = QoSProfile(depth=10, reliability=QoSReliabilityPolicy[reliability.upper()])
    publisher = node.create_publisher(Image, "image", qos)
    while not publisher.get_subscription_count():
        time.sleep(0.02)
    time.sleep(0.5)  # until the reader knows its writer too
    message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    message.data = array("B", bytes(3 * width * height))
    message.header.frame_id = "camera_optical_frame"
    started_s = time.monotonic()
    for index in range(count):
        stamp_ns = index * 1_000_000_000 // rate_hz
        message.header.stamp.sec = FIRST_SECOND + stamp_ns // 1_000_000_000
        message.header.stamp.nanosec = stamp_ns % 1_000_000_000
        publisher.publish(message)
        time.sleep(max(0.0, started_s + (index + 1) / rate_hz - time.monotonic()))
    publisher.wait_for_all_acked(Duration(seconds=5))
    time.sleep(0.5)
    rclpy.shutdown()


if __name__ == "__main__":
    main()
