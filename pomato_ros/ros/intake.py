"""Between the image callback and the worker: one slot for the newest frame, and a watch over its stamps."""

import threading
import time
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Any

JUMP_BACK_NS = 500_000_000  # a frame this much older than the last one is of another time, not a late frame
STRANGE_KEPT = 4  # stamps that wait for confirmation: two cameras on one topic may take turns
FAR_AHEAD_NS = 10_000_000_000  # and so is one whose stamp runs ahead of its arrival by more
LATE_FRAMES_IN_A_ROW = 3  # that many late frames in a row are a jump too


@dataclass(frozen=True, slots=True)
class Arrival:
    """An image message and when it came, on the steady clock."""

    message: Any
    received_ns: int
    after_passed_over: bool = False  # earlier ones came too, while the worker was busy: the camera was not silent


class NewestFrame:
    """Holds the newest arrival until the worker takes it; an older one that was never taken is passed over."""

    def __init__(self) -> None:
        """Start empty and open."""
        self._condition = threading.Condition()
        self._arrival: Arrival | None = None
        self._closed = False

    def put(self, message: Any) -> bool:
        """Store a message; True if one that nobody took was passed over for it."""
        with self._condition:
            passed_over = self._arrival is not None
            self._arrival = Arrival(message, time.monotonic_ns(), passed_over)
            self._condition.notify()
            return passed_over

    def take(self) -> Arrival | None:
        """Wait for an arrival and take it; None once closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._arrival is not None or self._closed)
            arrival, self._arrival = self._arrival, None
            return None if self._closed else arrival

    def clear(self) -> bool:
        """Forget an arrival that was not taken; True if there was one."""
        with self._condition:
            forgotten = self._arrival is not None
            self._arrival = None
            return forgotten

    @property
    def closed(self) -> bool:
        """Whether the worker is to end."""
        return self._closed

    def close(self) -> None:
        """Wake the worker for good."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def sleep(self, seconds: float) -> None:
        """Wait, but not longer than until closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._closed, timeout=seconds)


class StampVerdict(Enum):
    """What a frame's stamp says about it."""

    NEW = "newer than the last frame"
    REPEATED = "stamp equals the last frame's"
    LATE = "older than the last frame"
    UNCONFIRMED = "far from the last frame's, and no second frame says so yet"
    JUMP = "time jumped back"


class StampMonitor:
    """Judges each frame by its stamp: late, repeated, one of a clock that jumped, or one that no other frame supports.

    One frame with a strange stamp decides nothing. Stamps far from where the last ones lead are those of a new time
    once a second frame goes on from them: a bag that loops, a simulation restarted, a clock that was set.
    """

    def __init__(self) -> None:
        """Start with no frame seen."""
        self._newest: tuple[int, int] | None = None  # stamp and arrival, ns
        self._strange: deque[tuple[int, int]] = deque(maxlen=STRANGE_KEPT)
        self._late_in_a_row = 0

    def judge(self, stamp_ns: int, received_ns: int) -> StampVerdict:
        """The verdict on the next frame; NEW and JUMP make it the newest.

        Args:
            stamp_ns: of the image.
            received_ns: when it came, on the steady clock.
        """
        verdict = self._verdict(stamp_ns, received_ns)
        if verdict is StampVerdict.UNCONFIRMED:
            self._strange.append((stamp_ns, received_ns))
        elif verdict in (StampVerdict.NEW, StampVerdict.JUMP):
            self._newest, self._late_in_a_row = (stamp_ns, received_ns), 0
            self._strange.clear()
        return verdict

    def forget(self) -> None:
        """Accept any stamp next."""
        self._newest, self._late_in_a_row = None, 0
        self._strange.clear()

    def _verdict(self, stamp_ns: int, received_ns: int) -> StampVerdict:
        if self._newest is None:
            return StampVerdict.NEW
        newest_ns, newest_received_ns = self._newest
        if stamp_ns == newest_ns:
            return StampVerdict.REPEATED
        ahead_ns = stamp_ns - newest_ns
        if ahead_ns <= -JUMP_BACK_NS or ahead_ns > received_ns - newest_received_ns + FAR_AHEAD_NS:
            return self._verdict_on_strange(stamp_ns, received_ns)
        if ahead_ns > 0:
            return StampVerdict.NEW
        self._late_in_a_row += 1
        return StampVerdict.JUMP if self._late_in_a_row >= LATE_FRAMES_IN_A_ROW else StampVerdict.LATE

    def _verdict_on_strange(self, stamp_ns: int, received_ns: int) -> StampVerdict:
        """A jump, or new after a gap, if it goes on from one of the last strange stamps."""
        confirmed = any(
            0 < stamp_ns - strange_ns <= received_ns - strange_received_ns + FAR_AHEAD_NS
            for strange_ns, strange_received_ns in self._strange
        )
        if not confirmed:
            return StampVerdict.UNCONFIRMED
        return StampVerdict.NEW if self._newest is not None and stamp_ns > self._newest[0] else StampVerdict.JUMP
