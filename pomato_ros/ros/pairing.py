"""Pairs the messages of a second sensor with images by the nearest stamp, within a bound."""

import threading
from collections import deque
from typing import Any

from pomato_ros.ros.status import SensorStatus
from pomato_ros.ros.streams import StreamMonitor

KEPT = 8  # messages; older ones are of images that the worker has passed
FIRST_OFFSET_NS = 20_000_000  # bound before the images' period is known
WAIT_S = 0.1  # for a message that is due and not here yet


class NearestStamp:
    """The newest messages of one sensor; put by the executor, taken by the worker."""

    def __init__(self, what: str, status: SensorStatus, images: StreamMonitor, max_offset_s: float) -> None:
        """None yet.

        Args:
            what: the sensor's messages in words, for reasons.
            status: counts what becomes of them.
            images: whose period gives the bound where ``max_offset_s`` is 0.
            max_offset_s: the bound, seconds.
        """
        self._what, self._status, self._images = what, status, images
        self._max_offset_ns = round(max_offset_s * 1e9)
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

    def bound_ns(self) -> int:
        """The largest offset of a pair."""
        period_s = self._images.period_s
        half_ns = FIRST_OFFSET_NS if period_s is None else round(0.5e9 * period_s)
        return self._max_offset_ns or half_ns

    def take(self, stamp_ns: int) -> Any | None:
        """The message next to ``stamp_ns``; None, counted and named, where there is none within the bound.

        Waits for one that is due, but not for a sensor that has fallen silent or is slower than the images.
        """
        bound_ns = self.bound_ns()
        with self._condition:
            if not self._silent and self._is_due(stamp_ns, bound_ns):
                self._silent = not self._condition.wait_for(lambda: not self._is_due(stamp_ns, bound_ns), WAIT_S)
            found = min(self._kept, key=lambda item: abs(item[0] - stamp_ns), default=None)
        if found is None:
            self._status.note_unpaired(f"no {self._what} has come yet")
            return None
        offset_ns = found[0] - stamp_ns
        if abs(offset_ns) > bound_ns:
            self._status.note_unpaired(self._too_far(offset_ns, bound_ns))
            return None
        self._status.note_paired(offset_ns * 1e-6)
        return found[1]

    def _too_far(self, offset_ns: int, bound_ns: int) -> str:
        return (
            f"expected a {self._what} within {bound_ns * 1e-6:.1f} ms of the image, got one {offset_ns * 1e-6:+.1f} ms "
            "off; normal for a slower sensor, else synchronise both (one clock, hardware trigger) or raise "
            "depth_max_offset"
        )

    def _is_due(self, stamp_ns: int, bound_ns: int) -> bool:
        """Whether a nearer message than those kept is still to come within the bound, as far as its period says."""
        newest_ns = max((kept for kept, _ in self._kept), default=None)
        if newest_ns is None:
            return self._status.stream.publishers > 0
        period_s = self._status.stream.period_s
        if newest_ns >= stamp_ns or period_s is None:
            return stamp_ns - newest_ns > bound_ns
        steps = round((stamp_ns - newest_ns) * 1e-9 / period_s)
        return steps >= 1 and abs(newest_ns + steps * period_s * 1e9 - stamp_ns) <= bound_ns
