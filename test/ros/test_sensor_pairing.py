"""Messages of a second sensor are paired by the nearest stamp, and waited for only where they are due."""

import threading
import time

import pytest

from pomato_ros.ros.pairing import KEPT, WAIT_S, NearestStamp
from pomato_ros.ros.status import SensorStatus
from pomato_ros.ros.streams import StreamMonitor

PERIOD_NS = 40_000_000


def make(max_offset_s: float = 0.0, *, depth_period_ns: int = PERIOD_NS) -> tuple[NearestStamp, SensorStatus]:
    """A sensor whose images come every 40 ms and whose own period is known."""
    images, status = StreamMonitor(), SensorStatus()
    status.stream.publishers = 1
    for index in range(5):
        images.note(index * PERIOD_NS, None)
        status.stream.note(index * depth_period_ns, None)
    return NearestStamp("depth image", status, images, max_offset_s), status


def test_the_bound_is_half_the_images_interval_or_what_is_given() -> None:
    assert make()[0].bound_ns() == PERIOD_NS // 2
    assert make(0.005)[0].bound_ns() == 5_000_000


def test_the_nearest_of_those_kept_is_taken_with_its_offset() -> None:
    pairing, status = make()
    for stamp_ns in (0, 30_000_000, 55_000_000):
        pairing.put(stamp_ns, stamp_ns)
    assert pairing.take(PERIOD_NS) == 30_000_000
    assert (status.paired, status.offset_ms()) == (1, pytest.approx(-10.0))


def test_one_beyond_the_bound_is_counted_and_named() -> None:
    pairing, status = make()
    pairing.put(100_000_000, "late")
    assert pairing.take(PERIOD_NS) is None
    assert status.unpaired == 1
    assert "got one +60.0 ms off" in status.last_unpaired


def test_one_that_is_due_is_waited_for() -> None:
    pairing, _ = make()
    pairing.put(4 * PERIOD_NS, "earlier")
    timer = threading.Timer(0.02, pairing.put, (5 * PERIOD_NS, "due"))
    timer.start()
    assert pairing.take(5 * PERIOD_NS) == "due"
    timer.join()


def test_a_slower_sensor_is_not_waited_for_between_its_messages() -> None:
    pairing, _ = make(depth_period_ns=4 * PERIOD_NS)
    pairing.put(0, "first")
    started_s = time.monotonic()
    assert [pairing.take(step * PERIOD_NS) for step in range(4)] == ["first", None, None, None]
    assert time.monotonic() - started_s < WAIT_S


def test_a_silent_sensor_is_waited_for_once() -> None:
    pairing, _ = make()
    pairing.put(0, "last")
    started_s = time.monotonic()
    assert [pairing.take(step * PERIOD_NS) for step in range(2, 12)] == [None] * 10
    assert time.monotonic() - started_s < 2 * WAIT_S


def test_memory_ends_and_a_jump_empties_it() -> None:
    pairing, _ = make()
    for index in range(3 * KEPT):
        pairing.put(index * PERIOD_NS, index)
    assert pairing.take((2 * KEPT - 1) * PERIOD_NS) is None  # the last one that is gone
    assert pairing.take(2 * KEPT * PERIOD_NS) == 2 * KEPT
    pairing.clear()
    assert pairing.take(0) is None
