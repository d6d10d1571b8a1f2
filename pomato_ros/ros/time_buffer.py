"""Messages that go with an image: kept for a moment, and found by their stamps; time may jump."""

import threading
from collections import deque
from collections.abc import Callable, Collection
from typing import Any

KEPT = 50
Stamped = tuple[int, Any]  # a message with its stamp, ns


class TimeIndexedBuffer:
    """The newest messages of one topic; put by the executor, found by the worker."""

    def __init__(self, kept: int = KEPT) -> None:
        """Empty; ``kept``: most messages."""
        self._condition = threading.Condition()
        self._kept: deque[Stamped] = deque(maxlen=kept)
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

    def nearest(self, stamp_ns: int, tolerance_ns: int, timeout_s: float) -> Stamped | None:
        """The message with the stamp next to ``stamp_ns``, if they are within the tolerance.

        Waits for it as long as it may still come, but not for a topic that has fallen silent.
        """
        found = self.nearest_after(lambda kept: reached(kept, stamp_ns, tolerance_ns), stamp_ns, timeout_s)
        return found if found is not None and abs(found[0] - stamp_ns) <= tolerance_ns else None

    def nearest_after(
        self, is_settled: Callable[[Collection[int]], bool], stamp_ns: int, timeout_s: float
    ) -> Stamped | None:
        """The message next to ``stamp_ns``, however far; waits likewise until ``is_settled`` of the kept stamps."""
        with self._condition:
            self._wait_for(is_settled, timeout_s)
            return min(self._kept, key=lambda item: abs(item[0] - stamp_ns), default=None)

    def around(self, stamp_ns: int, timeout_s: float) -> tuple[Stamped | None, Stamped | None]:
        """The last message not after ``stamp_ns`` and the first not before it; waits likewise."""
        with self._condition:
            self._wait_for(lambda kept: reached(kept, stamp_ns, 0), timeout_s)
            before = max((item for item in self._kept if item[0] <= stamp_ns), key=lambda item: item[0], default=None)
            after = min((item for item in self._kept if item[0] >= stamp_ns), key=lambda item: item[0], default=None)
            return before, after

    def _wait_for(self, is_settled: Callable[[Collection[int]], bool], timeout_s: float) -> None:
        if not self._silent:
            self._silent = not self._condition.wait_for(
                lambda: is_settled([stamp_ns for stamp_ns, _ in self._kept]), timeout_s
            )


def reached(kept_ns: Collection[int], stamp_ns: int, tolerance_ns: int) -> bool:
    """Whether a topic has reached a stamp, or one within the tolerance of it is there."""
    return any(kept >= stamp_ns or stamp_ns - kept <= tolerance_ns for kept in kept_ns)
