import threading

import pytest

from pomato_ros.ros.intake import JUMP_BACK_NS, LATE_FRAMES_IN_A_ROW, NewestFrame, StampMonitor, StampVerdict

SECOND_NS = 1_000_000_000
STRANGE = StampVerdict.UNCONFIRMED


def test_the_newest_frame_wins_and_the_others_are_passed_over() -> None:
    newest = NewestFrame()
    assert [newest.put(message) for message in "abc"] == [False, True, True]
    arrival = newest.take()
    assert arrival is not None
    assert arrival.message == "c"
    assert newest.put("d") is False


def test_taking_waits_for_a_frame() -> None:
    newest = NewestFrame()
    taken = []
    reader = threading.Thread(target=lambda: taken.append(newest.take()))
    reader.start()
    newest.put("a")
    reader.join(5.0)
    assert taken[0].message == "a"


def test_closing_wakes_the_reader_with_nothing() -> None:
    newest = NewestFrame()
    taken = []
    reader = threading.Thread(target=lambda: taken.append(newest.take()))
    reader.start()
    newest.close()
    reader.join(5.0)
    assert taken == [None]


def test_a_cleared_frame_is_gone() -> None:
    newest = NewestFrame()
    newest.put("a")
    newest.clear()
    assert newest.put("b") is False


@pytest.mark.parametrize(
    ("stamps", "verdicts"),
    [
        ([5, 6, 7], [StampVerdict.NEW] * 3),
        ([5, 5, 6], [StampVerdict.NEW, StampVerdict.REPEATED, StampVerdict.NEW]),
        ([5, 4, 6], [StampVerdict.NEW, StampVerdict.LATE, StampVerdict.NEW]),
        ([2 * JUMP_BACK_NS, 5, 6, 7], [StampVerdict.NEW, STRANGE, StampVerdict.JUMP, StampVerdict.NEW]),
        ([2 * JUMP_BACK_NS, 5, 2 * JUMP_BACK_NS + 6], [StampVerdict.NEW, STRANGE, StampVerdict.NEW]),
        ([5, 3600 * SECOND_NS, 6, 7], [StampVerdict.NEW, STRANGE, StampVerdict.NEW, StampVerdict.NEW]),
        ([5, 3600 * SECOND_NS, 3601 * SECOND_NS], [StampVerdict.NEW, STRANGE, StampVerdict.NEW]),
        (  # two cameras on one topic, neither of which goes on from the last frame
            [9000 * SECOND_NS, 5, 300 * SECOND_NS, 6, 301 * SECOND_NS, 7],
            [StampVerdict.NEW, STRANGE, STRANGE, StampVerdict.JUMP, STRANGE, StampVerdict.NEW],
        ),
        ([5, 300 * SECOND_NS, 6, 301 * SECOND_NS, 7], [StampVerdict.NEW, STRANGE] * 2 + [StampVerdict.NEW]),
    ],
)
def test_verdicts(stamps: list[int], verdicts: list[StampVerdict]) -> None:
    monitor = StampMonitor()
    assert [monitor.judge(stamp, received_ns=index) for index, stamp in enumerate(stamps)] == verdicts


def test_a_gap_in_stamps_as_long_as_the_silence_is_no_jump() -> None:
    monitor = StampMonitor()
    monitor.judge(0, 0)
    assert monitor.judge(600 * SECOND_NS, 600 * SECOND_NS) is StampVerdict.NEW


def test_frames_that_stay_late_are_a_jump() -> None:
    monitor = StampMonitor()
    monitor.judge(1000, 0)
    verdicts = [monitor.judge(10 + index, 0) for index in range(LATE_FRAMES_IN_A_ROW + 1)]
    assert verdicts[-2:] == [StampVerdict.JUMP, StampVerdict.NEW]


def test_after_forgetting_any_stamp_is_new() -> None:
    monitor = StampMonitor()
    monitor.judge(10 * JUMP_BACK_NS, 0)
    monitor.forget()
    assert monitor.judge(1, 0) is StampVerdict.NEW
