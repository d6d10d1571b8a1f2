"""What belongs to an image is found by its stamp, waited for while it may come, and never across a jump in time."""

import threading
import time

from pomato_ros.ros.time_buffer import KEPT, TimeIndexedBuffer

LONG_S = 10.0


def filled(*stamps_ns: int) -> TimeIndexedBuffer:
    buffer = TimeIndexedBuffer()
    for stamp_ns in stamps_ns:
        buffer.put(stamp_ns, f"at {stamp_ns}")
    return buffer


def test_the_nearest_is_found_within_the_tolerance() -> None:
    buffer = filled(100, 200, 300)
    assert buffer.nearest(190, 20, LONG_S) == (200, "at 200")
    assert buffer.nearest(210, 20, LONG_S) == (200, "at 200")
    assert buffer.nearest(150, 20, LONG_S) is None  # 200 is past: none will come, so nobody waits


def test_one_that_comes_later_is_waited_for() -> None:
    buffer = filled(100)
    timer = threading.Timer(0.05, buffer.put, (200, "late"))
    timer.start()
    assert buffer.nearest(200, 5, LONG_S) == (200, "late")


def test_a_silent_topic_is_waited_for_once() -> None:
    buffer = filled(100)
    assert buffer.nearest(200, 5, 0.01) is None
    started_s = time.monotonic()
    assert buffer.nearest(300, 5, LONG_S) is None
    assert time.monotonic() - started_s < 0.5 * LONG_S
    buffer.put(400, "back")
    timer = threading.Timer(0.05, buffer.put, (500, "again"))
    timer.start()
    assert buffer.nearest(500, 5, LONG_S) == (500, "again")


def test_neighbours_on_both_sides_are_found_whatever_their_order() -> None:
    buffer = filled(300, 100, 200)
    assert buffer.around(250, LONG_S) == ((200, "at 200"), (300, "at 300"))
    assert buffer.around(200, LONG_S) == ((200, "at 200"), (200, "at 200"))
    assert buffer.around(50, LONG_S) == (None, (100, "at 100"))
    assert buffer.around(400, 0.0) == ((300, "at 300"), None)


def test_memory_ends_and_a_jump_empties_it() -> None:
    buffer = filled(*range(3 * KEPT))
    assert buffer.nearest(0, 5, LONG_S) is None
    assert buffer.nearest(3 * KEPT - 1, 0, LONG_S) is not None
    buffer.clear()
    assert buffer.nearest(3 * KEPT - 1, 0, 0.0) is None
