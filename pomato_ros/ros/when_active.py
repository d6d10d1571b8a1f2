"""Runs a command once a node is active, as a bag must wait until the node has loaded its model.

The node counts as active when it subscribes to ``image`` or ``image/compressed``. The command then takes the place of
this process, and so gets its signals.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from pomato_ros.ros.signals import init_interruptible, own_arguments
from pomato_ros.ros.topics import IMAGE
from pomato_ros.ros.waiting import full_name, is_subscriber

LONGEST_SPIN_S = 0.1  # between two checks for a signal
REPORT_PERIOD_S = 10.0
CANNOT_RUN, INTERRUPTED = 127, 130


def wait_until_active(node: Node, name: str) -> None:
    """Return once the node ``name`` subscribes to the images; says every ten seconds what is waited for."""
    image = node.resolve_topic_name(IMAGE.name)
    report_s = time.monotonic()
    while not any(is_subscriber(node, topic, name) for topic in (image, f"{image}/compressed")):
        if time.monotonic() >= report_s:
            node.get_logger().info(f"waiting until {full_name(node, name)} is active and subscribes to '{image}'")
            report_s += REPORT_PERIOD_S
        rclpy.spin_once(node, timeout_sec=LONGEST_SPIN_S)


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="when_active", description=__doc__)
    parser.add_argument("--node", default="pomato", help="name of the node, absolute or in this namespace")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what to run then, with its arguments")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of ``ros2 run pomato_ros when_active``: becomes the command; 127 if that cannot be run."""
    argv = list(sys.argv if arguments is None else arguments)
    parser = make_parser()
    options = parser.parse_args(own_arguments(argv))
    if not options.command:
        parser.error("expected a command to run")
    init_interruptible(argv)
    node = Node("when_active")
    try:
        wait_until_active(node, options.node)
    except (KeyboardInterrupt, ExternalShutdownException):
        return INTERRUPTED
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    try:
        os.execvp(options.command[0], options.command)
    except OSError as error:
        sys.stderr.write(f"'{options.command[0]}' cannot be run: {error.strerror}; is it installed and on PATH?\n")
    return CANNOT_RUN


if __name__ == "__main__":
    sys.exit(main())
