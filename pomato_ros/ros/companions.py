"""Messages that go with an image: kept for a moment, and found by their stamps; time may jump."""

import threading
from collections import deque
from typing import Any

KEPT = 50


class Companions:
    """The newest messages of one topic; put by the executor, found by the worker."""

    def __init__(self) -> None:
        """None yet."""
        self._condition = threading.Condition()
        self._kept: deque[tuple[int, Any]] = deque(maxlen=KEPT)
        self._silent = False  # the last wait was in vain, and nothing has come since

    def put(self, stamp_ns: int, message: Any) -> None:
        """Keep a message."""
        with self._condition:
            self._kept.append((stamp_ns, message))
            self._silent = False
            self._condition.notify_all()

    def clear(self) -> None:
        """Time jumped: nothing kept is of the images to come."""
        with self._condition:
            self._kept.clear()

    def nearest(self, stamp_ns: int, tolerance_ns: int, timeout_s: float) -> tuple[int, Any] | None:
        """The message with the stamp next to ``stamp_ns`` and its stamp, if they are within the tolerance.

        Waits for it as long as it may still come, but not for a topic that has fallen silent.
        """
        with self._condition:
            self._wait_for(stamp_ns, tolerance_ns, timeout_s)
            found = min(self._kept, key=lambda item: abs(item[0] - stamp_ns), default=None)
            return found if found is not None and abs(found[0] - stamp_ns) <= tolerance_ns else None

    def around(self, stamp_ns: int, timeout_s: float) -> tuple[tuple[int, Any] | None, tuple[int, Any] | None]:
        """The last message not after ``stamp_ns`` and the first not before it, each with its stamp; waits likewise."""
        with self._condition:
            self._wait_for(stamp_ns, 0, timeout_s)
            before = max((item for item in self._kept if item[0] <= stamp_ns), key=lambda item: item[0], default=None)
            after = min((item for item in self._kept if item[0] >= stamp_ns), key=lambda item: item[0], default=None)
            return before, after

    def _wait_for(self, stamp_ns: int, tolerance_ns: int, timeout_s: float) -> None:
        """Until the topic has reached a stamp, or one within the tolerance of it is there."""

        def is_there() -> bool:
            return any(kept >= stamp_ns or stamp_ns - kept <= tolerance_ns for kept, _ in self._kept)

        if not self._silent:
            self._silent = not self._condition.wait_for(is_there, timeout_s)
