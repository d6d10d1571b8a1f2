"""Between the image callback and the worker: one slot for the newest frame, and a watch over its stamps."""

import threading
import time
from dataclasses import dataclass
from enum import Enum
from typing import Any

JUMP_BACK_NS = 500_000_000  # a frame this much older than the last one is a jump in time, not a late frame
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
    JUMP = "time jumped back"


class StampMonitor:
    """Tells late and repeated frames from a clock that jumped back (a bag that loops, a simulation restarted)."""

    def __init__(self) -> None:
        """Start with no frame seen."""
        self._newest_ns: int | None = None
        self._late_in_a_row = 0

    def judge(self, stamp_ns: int) -> StampVerdict:
        """The verdict on the next frame; NEW and JUMP make it the newest."""
        verdict = self._verdict(stamp_ns)
        if verdict in (StampVerdict.NEW, StampVerdict.JUMP):
            self._newest_ns, self._late_in_a_row = stamp_ns, 0
        return verdict

    def forget(self) -> None:
        """Accept any stamp next."""
        self._newest_ns, self._late_in_a_row = None, 0

    def _verdict(self, stamp_ns: int) -> StampVerdict:
        if self._newest_ns is None or stamp_ns > self._newest_ns:
            return StampVerdict.NEW
        if stamp_ns == self._newest_ns:
            return StampVerdict.REPEATED
        self._late_in_a_row += 1
        far_back = self._newest_ns - stamp_ns >= JUMP_BACK_NS
        return StampVerdict.JUMP if far_back or self._late_in_a_row >= LATE_FRAMES_IN_A_ROW else StampVerdict.LATE
