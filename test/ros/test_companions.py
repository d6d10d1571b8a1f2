"""What belongs to an image is found by its stamp, waited for while it may come, and never across a jump in time."""

import threading
import time

from pomato_ros.ros.companions import KEPT, Companions

LONG_S = 10.0


def filled(*stamps_ns: int) -> Companions:
    companions = Companions()
    for stamp_ns in stamps_ns:
        companions.put(stamp_ns, f"at {stamp_ns}")
    return companions


def test_the_nearest_is_found_within_the_tolerance() -> None:
    companions = filled(100, 200, 300)
    assert companions.nearest(190, 20, LONG_S) == (200, "at 200")
    assert companions.nearest(210, 20, LONG_S) == (200, "at 200")
    assert companions.nearest(150, 20, LONG_S) is None  # 200 is past: none will come, so nobody waits


def test_one_that_comes_later_is_waited_for() -> None:
    companions = filled(100)
    timer = threading.Timer(0.05, companions.put, (200, "late"))
    timer.start()
    assert companions.nearest(200, 5, LONG_S) == (200, "late")


def test_a_silent_topic_is_waited_for_once() -> None:
    companions = filled(100)
    assert companions.nearest(200, 5, 0.01) is None
    started_s = time.monotonic()
    assert companions.nearest(300, 5, LONG_S) is None
    assert time.monotonic() - started_s < 0.5 * LONG_S
    companions.put(400, "back")
    timer = threading.Timer(0.05, companions.put, (500, "again"))
    timer.start()
    assert companions.nearest(500, 5, LONG_S) == (500, "again")


def test_neighbours_on_both_sides_are_found_whatever_their_order() -> None:
    companions = filled(300, 100, 200)
    assert companions.around(250, LONG_S) == ((200, "at 200"), (300, "at 300"))
    assert companions.around(200, LONG_S) == ((200, "at 200"), (200, "at 200"))
    assert companions.around(50, LONG_S) == (None, (100, "at 100"))
    assert companions.around(400, 0.0) == ((300, "at 300"), None)


def test_memory_ends_and_a_jump_empties_it() -> None:
    companions = filled(*range(3 * KEPT))
    assert companions.nearest(0, 5, LONG_S) is None
    assert companions.nearest(3 * KEPT - 1, 0, LONG_S) is not None
    companions.clear()
    assert companions.nearest(3 * KEPT - 1, 0, 0.0) is None
