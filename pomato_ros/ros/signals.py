"""How the programs of this package begin and end: an interrupt is an exception, and the graph is left in order."""

import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

import rclpy
from rclpy.signals import SignalHandlerOptions

USAGE_ERROR = 2


def init_interruptible(arguments: Sequence[str]) -> None:
    """``rclpy.init``, with the first SIGINT or SIGTERM raising KeyboardInterrupt and later ones ignored.

    rclpy's own handlers would shut the context down under a thread that still publishes. A shell's background jobs
    start with SIGINT ignored; this restores it. Whoever spins must do so in short pieces: Python runs the handler of a
    signal only between two of its own instructions.

    Raises:
        SystemExit: ROS cannot start: its arguments or its environment variables are wrong; the message says which.
    """
    try:
        rclpy.init(args=list(arguments), signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # every error of rcl is one
        refuse_start(error)
    rclpy.get_global_executor()  # made by the first spin otherwise, where an interrupt would leave it half made
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt_once)


def own_arguments(arguments: Sequence[str]) -> list[str]:
    """The command line without the program's name and without what is for ROS.

    Raises:
        SystemExit: The arguments for ROS cannot be parsed; the message names the one.
    """
    try:
        return list(rclpy.utilities.remove_ros_args(list(arguments)))[1:]
    except RuntimeError as error:
        refuse_start(error)


def refuse_start(error: RuntimeError) -> NoReturn:
    """End the program with what rcl says, in one line."""
    sys.stderr.write(f"ROS 2 cannot start: {first_sentence(error)}\n")
    raise SystemExit(USAGE_ERROR) from None


def interrupt_once(number: int, _frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, and let no second signal disturb the end of the program."""
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt(signal.Signals(number).name)


def first_sentence(error: BaseException) -> str:
    """What rcl says, without the lines of its own source code."""
    return str(error).split(", at /")[0].splitlines()[0] if str(error) else type(error).__name__
