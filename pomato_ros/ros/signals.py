"""How the programs of this package end: an interrupt is an exception, and the graph is left in order."""

import signal
from collections.abc import Sequence

import rclpy
from rclpy.signals import SignalHandlerOptions


def init_interruptible(arguments: Sequence[str]) -> None:
    """``rclpy.init``, with SIGINT and SIGTERM raising KeyboardInterrupt.

    rclpy's own handlers would shut the context down under a thread that still publishes. A shell's background jobs
    start with SIGINT ignored; this restores it.
    """
    rclpy.init(args=list(arguments), signal_handler_options=SignalHandlerOptions.NO)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
