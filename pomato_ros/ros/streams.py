"""What became of a sensor's messages: arrived, lost on the way, overtaken in the queue, or never made by the sensor."""

import time
from collections import deque

import numpy as np

RECENT_S = 10.0
PERIODS_KEPT = 31
GAP_PERIODS = 1.5  # an interval longer than this many periods has a gap
LONGEST_PAUSE = 20.0  # periods; a longer interval is a pause or another time, nothing that was left out
LONGEST_GAP = 1000  # sequence numbers that jump farther belong to another publisher


class RateMeter:
    """Events a second over the last ten seconds."""

    def __init__(self) -> None:
        """Start with no event."""
        self._times_s: deque[float] = deque(maxlen=1000)

    def tick(self) -> None:
        """Count one event now."""
        self._times_s.append(time.monotonic())

    def recent(self) -> int:
        """Events of the last ten seconds."""
        now = time.monotonic()
        return sum(now - moment <= RECENT_S for moment in tuple(self._times_s))

    def rate_hz(self) -> float:
        """Events a second; 0 with fewer than two recent events."""
        now = time.monotonic()
        recent = [moment for moment in tuple(self._times_s) if now - moment <= RECENT_S]
        return (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 1 and recent[-1] > recent[0] else 0.0

    def seconds_since(self) -> float | None:
        """Seconds since the newest event; None before the first."""
        return time.monotonic() - self._times_s[-1] if self._times_s else None


class Tally:
    """A total, and how much of it is recent."""

    def __init__(self) -> None:
        """Start at zero."""
        self.total = 0
        self._meter = RateMeter()

    def add(self, count: int) -> None:
        """Count events now."""
        self.total += count
        for _ in range(min(count, 100)):
            self._meter.tick()

    def recent(self) -> int:
        """Events of the last ten seconds, as far as they are kept."""
        return self._meter.recent()


class StreamMonitor:
    """Accounts for every message of one topic; written by the executor, read by the diagnostics.

    A publisher numbers its messages: a number that is missing was lost on the way (the middleware reports those) or
    overtaken in the reader's queue. Stamps farther apart than the sensor's period, with no number missing, are
    messages that the sensor or its driver never made.
    """

    def __init__(self) -> None:
        """Nothing came yet."""
        self.topic = ""  # empty where the topic is not used
        self.publishers = 0
        self.reliable: bool | None = None  # how the subscription listens; None: not subscribed
        self.arrivals = RateMeter()
        self.taken = 0
        self.lost = Tally()  # between publisher and this node
        self.overtaken = Tally()  # by newer ones, in the queue before this node's executor
        self.skipped = Tally()  # by the sensor or its driver
        self._missing_numbers = 0
        self._last: tuple[int, int | None] | None = None  # stamp (ns) and number
        self._periods_ns: deque[float] = deque(maxlen=PERIODS_KEPT)

    @property
    def arrived(self) -> int:
        """Messages that reached this node, those that a newer one overtook in the queue among them."""
        return self.taken + self.overtaken.total

    @property
    def period_s(self) -> float | None:
        """The sensor's usual period, seconds; None before three intervals."""
        periods = tuple(self._periods_ns)
        return float(np.median(periods)) * 1e-9 if len(periods) >= 3 else None

    def note(self, stamp_ns: int, number: int | None) -> None:
        """A message came; ``number`` is its publisher's count, None where the middleware gives none."""
        self.note_arrival()
        last, self._last = self._last, (stamp_ns, number)
        if last is None:
            return
        steps = 1
        if number is not None and last[1] is not None and 0 < number - last[1] < LONGEST_GAP:
            steps = number - last[1]
            self._note_missing_numbers(steps - 1)
        self._note_interval(stamp_ns - last[0], steps)

    def note_arrival(self) -> None:
        """A message without a stamp of its own came."""
        self.taken += 1
        self.arrivals.tick()

    def note_lost(self, count: int) -> None:
        """The middleware reports messages lost on the way."""
        self.lost.add(count)
        self._missing_numbers -= count

    def forget_stamps(self) -> None:
        """Time jumped, or the publisher is another one."""
        self._last = None
        self._periods_ns.clear()

    def _note_missing_numbers(self, count: int) -> None:
        """Those that the middleware has not reported were overtaken in the queue."""
        self._missing_numbers += count
        if self._missing_numbers > 0:
            self.overtaken.add(self._missing_numbers)
            self._missing_numbers = 0
        elif count == 0 and self._missing_numbers < 0:
            self._missing_numbers = 0

    def _note_interval(self, interval_ns: int, steps: int) -> None:
        period_s = self.period_s
        if interval_ns <= 0:
            return
        intervals = interval_ns * 1e-9 / period_s if period_s else 0.0
        if steps - 1 + GAP_PERIODS < intervals < LONGEST_PAUSE:
            self.skipped.add(round(intervals) - steps)
        self._periods_ns.append(interval_ns / steps)
