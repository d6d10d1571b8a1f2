"""Forwards the core's Python logging to the node's logger, so that one log tells everything, and each thing seldom."""

import logging
import time

from rclpy.impl.rcutils_logger import RcutilsLogger

CORE_LOGGER = "pomato_ros"
REPEAT_S = 60.0  # a warning of one kind is written so often at most,
AT_ONCE = 3  # after it was written so many times


class LogBridge(logging.Handler):
    """Writes each record with the node's logger, at the record's own level.

    Warnings and errors of one kind (one place in the sources) that come frame after frame are written a few times and
    then once a minute, with their count.
    """

    def __init__(self, logger: RcutilsLogger) -> None:
        """Forward to ``logger``."""
        super().__init__()
        self._logger = logger
        self._written: dict[tuple[str, int], tuple[int, float, int]] = {}  # times, last time in s, left out since

    def emit(self, record: logging.LogRecord) -> None:
        """Forward one record; one call a level, since rclpy ties a level to the line that logs."""
        left_out = self._left_out(record)
        if left_out is None:
            return
        text = f"{record.name.removeprefix(CORE_LOGGER + '.')}: {self.format(record)}"
        if left_out:
            text += f" ({left_out} more of this kind since the last such line)"
        if record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        elif record.levelno >= logging.INFO:
            self._logger.info(text)
        else:
            self._logger.debug(text)

    def _left_out(self, record: logging.LogRecord) -> int | None:
        """How many of this kind were left out before this one; None if this one is left out too."""
        if record.levelno < logging.WARNING:
            return 0
        kind, now_s = (record.pathname, record.lineno), time.monotonic()
        times, last_s, left_out = self._written.get(kind, (0, now_s, 0))
        if times >= AT_ONCE and now_s - last_s < REPEAT_S:
            self._written[kind] = (times, last_s, left_out + 1)
            return None
        self._written[kind] = (times + 1, now_s, 0)
        return left_out


def install_log_bridge(logger: RcutilsLogger) -> LogBridge:
    """Start forwarding everything the package logs; hand the result to :func:`remove_log_bridge` at the end."""
    bridge = LogBridge(logger)
    core = logging.getLogger(CORE_LOGGER)
    core.addHandler(bridge)
    core.setLevel(min(core.getEffectiveLevel(), logging.INFO))
    core.propagate = False
    return bridge


def remove_log_bridge(bridge: LogBridge) -> None:
    """Stop forwarding."""
    core = logging.getLogger(CORE_LOGGER)
    core.removeHandler(bridge)
    core.propagate = not core.handlers
