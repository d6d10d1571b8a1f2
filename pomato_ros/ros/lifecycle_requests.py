"""Calls of ``change_state``, answered so that a lifecycle manager may work beside ``autostart``.

A manager, as Nav2's, asks for ``configure`` and then for ``activate``, and checks after each that the node is inactive
and then active. A node that has started itself is active already: asked to configure it goes back to inactive (model
and publishers stay), and comes back by itself if nobody asks for its state or activates it soon.
"""

import logging
from collections.abc import Callable
from typing import Any, Protocol

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.clock import Clock
from rclpy.lifecycle import TransitionCallbackReturn

LOG = logging.getLogger(__name__)
COME_BACK_S = 0.5
NAMES = {
    Transition.TRANSITION_CONFIGURE: "configure",
    Transition.TRANSITION_ACTIVATE: "activate",
    Transition.TRANSITION_DEACTIVATE: "deactivate",
    Transition.TRANSITION_CLEANUP: "cleanup",
}
TARGETS = {"configure": "inactive", "activate": "active", "deactivate": "inactive", "cleanup": "unconfigured"}
Answer = Callable[[ChangeState.Request, ChangeState.Response], ChangeState.Response]


class Managed(Protocol):
    """What is asked of the node."""

    def trigger_activate(self) -> TransitionCallbackReturn:
        """Inactive to active."""

    def trigger_deactivate(self) -> TransitionCallbackReturn:
        """Active to inactive."""

    def create_timer(self, timer_period_sec: float, callback: Callable[[], None], *, clock: Clock) -> Any:
        """A timer."""

    def destroy_timer(self, timer: Any) -> bool:
        """Remove a timer."""


class LifecycleRequests:
    """Stands before rclpy's own answer, which raises where a transition is not possible."""

    def __init__(
        self, node: Managed, state: Callable[[], str], answer: Answer, clock: Clock, *, come_back: bool
    ) -> None:
        """Answer calls for ``node``.

        Args:
            node: whose state is asked to change.
            state: label of its present state.
            answer: rclpy's own.
            clock: of the timer.
            come_back: activate again where ``configure`` was asked of an active node and nobody activates it.
        """
        self._node, self._state, self._answer, self._clock = node, state, answer, clock
        self._come_back = come_back
        self._timer: Any = None

    def __call__(self, request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
        """Change the state as far as that is possible; say whether the node is now where the caller wants it."""
        asked, state = request.transition.label or NAMES.get(request.transition.id, ""), self._state()
        self._stay()
        if TARGETS.get(asked) == state:
            LOG.info("asked to %s while %s: nothing to do", asked, state)
            response.success = True
            return response
        if asked == "configure" and state == "active":
            LOG.info("asked to configure while active, as lifecycle managers do: inactive until it is activated")
            response.success = self._node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
            if self._come_back:
                self._timer = self._node.create_timer(COME_BACK_S, self._activate_again, clock=self._clock)
            return response
        return self._answer(request, response)

    def watched(self, get_state: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """The answer of ``get_state``; whoever asks for it manages the node, which then waits to be activated."""

        def answer(request: Any, response: Any) -> Any:
            self._stay()
            return get_state(request, response)

        return answer

    def _stay(self) -> None:
        """Somebody else decides from here on."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
            self._timer = None

    def _activate_again(self) -> None:
        self._stay()
        if self._state() == "inactive":
            LOG.warning("nobody activated the node after configure: activating it, as autostart says")
            self._node.trigger_activate()
