"""Forwards the core's Python logging to the node's logger, so that one log tells everything."""

import logging

from rclpy.impl.rcutils_logger import RcutilsLogger

CORE_LOGGER = "pomato_ros"


class LogBridge(logging.Handler):
    """Writes each record with the node's logger, at the record's own level."""

    def __init__(self, logger: RcutilsLogger) -> None:
        """Forward to ``logger``."""
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Forward one record; one call a level, since rclpy ties a level to the line that logs."""
        text = f"{record.name.removeprefix(CORE_LOGGER + '.')}: {self.format(record)}"
        if record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        elif record.levelno >= logging.INFO:
            self._logger.info(text)
        else:
            self._logger.debug(text)


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
