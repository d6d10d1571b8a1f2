"""Nothing that a message or a call does ends the node: services always answer, and the executor goes on.

rclpy raises what a callback raises out of ``spin``, leaves the caller of a service without an answer, and keeps a
callback group locked when a message cannot be read.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.executors import Executor, ExternalShutdownException
from rclpy.node import Node

LOG = logging.getLogger(__name__)
MOST_PARAMETERS = 1000
PAUSE_S = 0.01  # after a failure, so that one that comes back at once does not take the whole processor
ServiceCallback = Callable[[Any, Any], Any]


def answer_always(node: Node) -> None:
    """Let every service of ``node`` refuse, with the reason, where its callback raises; call when all are created."""
    for service in node.services:
        service.callback = answered(service.callback)


def answered(callback: ServiceCallback) -> ServiceCallback:
    """The callback, with what it raises turned into a refusal and a log line."""

    def answer(request: Any, response: Any) -> Any:
        count = len(getattr(request, "parameters", ()))
        if count > MOST_PARAMETERS:  # they would keep images and everybody else waiting
            return refusal(request, response, f"expected at most {MOST_PARAMETERS} parameters in one call, got {count}")
        try:
            return callback(request, response)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            LOG.warning("refused a call of %s: %s", type(request).__name__.removesuffix("_Request"), reason)
            return refusal(request, response, reason)

    return answer


def refusal(request: Any, response: Any, reason: str) -> Any:
    """The response that says no; one result for each parameter where the service sets parameters."""
    refused = SetParametersResult(successful=False, reason=reason)
    if hasattr(response, "results"):
        while len(response.results) < len(request.parameters):
            response.results.append(refused)
    elif hasattr(response, "result") and isinstance(response.result, SetParametersResult):
        response.result = refused
    elif hasattr(response, "success"):
        response.success = False
        if hasattr(response, "message"):
            response.message = reason
    return response


def spin_once(executor: Executor, node: Node, timeout_s: float) -> str:
    """Run what is ready; empty, or one sentence about what a callback raised, which is logged with its traceback.

    Raises:
        KeyboardInterrupt: The process is asked to end.
        ExternalShutdownException: The context was shut down.
    """
    try:
        executor.spin_once(timeout_sec=timeout_s)
    except ExternalShutdownException:
        raise
    except Exception as error:
        LOG.exception("a callback failed; the node goes on")
        unlock_callbacks(node)
        time.sleep(PAUSE_S)
        return f"{type(error).__name__}: {error}"
    return ""


def unlock_callbacks(node: Node) -> None:
    """Free what a failed callback left locked; only where one thread spins, so that nothing else can be running."""
    group = node.default_callback_group
    entity = group._active_entity if isinstance(group, MutuallyExclusiveCallbackGroup) else None
    if entity is not None:
        group.ending_execution(entity)
        entity._executor_event = False
