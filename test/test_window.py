"""The rolling window: when the key changes, that nothing is lost in between, and what is refused."""

import itertools

import numpy as np
import pytest

from pomato_ros.config import WindowOptions
from pomato_ros.errors import UnusableFrame
from pomato_ros.structures import PreparedFrame, Window
from pomato_ros.window import RollingWindow

SIZES = [(12, 4), (12, 1), (12, 11), (2, 1), (6, 5), (5, 2)]


def frame(number: int, size_hw: tuple[int, int] = (16, 32)) -> PreparedFrame:
    image = np.zeros((*size_hw, 3), np.uint8)
    return PreparedFrame(1000 + number, image, None, np.eye(3), (size_hw[1], size_hw[0]))


def windows_of(size: int, overlap: int, mode: str, count: int = 60) -> list[Window]:
    window = RollingWindow(size, overlap, mode)
    return [window.push(frame(number)) for number in range(count)]


def numbers(window: Window) -> list[int]:
    return [item.stamp_ns - 1000 for item in window.frames]


@pytest.mark.parametrize("mode", ["anchored", "rolling"])
@pytest.mark.parametrize(("size", "overlap"), SIZES)
def test_a_window_is_an_unbroken_run_that_ends_with_the_newest_frame(size: int, overlap: int, mode: str) -> None:
    for newest, window in enumerate(windows_of(size, overlap, mode)):
        seen = numbers(window)
        assert seen == list(range(newest - len(seen) + 1, newest + 1))
        assert len(seen) <= size


@pytest.mark.parametrize(("size", "overlap"), SIZES)
def test_an_anchored_key_stays_until_the_window_is_full_and_jumps_by_what_is_not_shared(
    size: int, overlap: int
) -> None:
    windows = windows_of(size, overlap, "anchored")
    assert all(window.key == 0 for window in windows)
    keys = [numbers(window)[0] for window in windows]
    for before, after in itertools.pairwise(windows):
        if numbers(after)[0] != numbers(before)[0]:
            assert len(before.frames) == size
            assert len(after.frames) == overlap + 1
            assert set(numbers(before)) & set(numbers(after)) == set(numbers(before)[-overlap:])
    changes = [number for number, (one, other) in enumerate(itertools.pairwise(keys), start=1) if one != other]
    assert changes == list(range(size, len(windows), size - overlap))
    assert sorted(set(keys)) == list(range(0, keys[-1] + 1, size - overlap))


def test_the_usual_window_changes_its_key_every_eight_frames() -> None:
    options = WindowOptions()
    keys = [numbers(window)[0] for window in windows_of(options.window_size, options.overlap, options.mode, 40)]
    assert keys == [0] * 12 + [8] * 8 + [16] * 8 + [24] * 8 + [32] * 4


@pytest.mark.parametrize(("size", "overlap"), SIZES)
def test_a_rolling_key_is_the_newest_frame_of_the_longest_window(size: int, overlap: int) -> None:
    for newest, window in enumerate(windows_of(size, overlap, "rolling")):
        assert window.key == len(window.frames) - 1
        assert len(window.frames) == min(newest + 1, size)


def test_a_window_given_out_stays_as_it_is() -> None:
    window = RollingWindow(3, 1, "rolling")
    first = window.push(frame(0))
    window.push(frame(1))
    window.clear()
    assert numbers(first) == [0]


@pytest.mark.parametrize("stamp", [3, 2])
def test_time_must_advance(stamp: int) -> None:
    window = RollingWindow(4, 1, "anchored")
    window.push(frame(3))
    with pytest.raises(UnusableFrame, match=f"expected a frame after 1003 ns, got one at {1000 + stamp} ns; clear"):
        window.push(frame(stamp))
    assert numbers(window.push(frame(4))) == [3, 4]


def test_the_size_must_stay() -> None:
    window = RollingWindow(4, 1, "anchored")
    window.push(frame(0))
    with pytest.raises(UnusableFrame, match=r"expected an image of height and width \(16, 32\), got \(32, 16\); clear"):
        window.push(frame(1, (32, 16)))
    assert len(window) == 1


def test_after_clearing_anything_may_come() -> None:
    window = RollingWindow(4, 1, "anchored")
    window.push(frame(9))
    window.clear()
    assert len(window) == 0
    assert numbers(window.push(frame(0, (48, 48)))) == [0]


@pytest.mark.parametrize("mode", ["anchored", "rolling"])
def test_a_shorter_size_holds_from_the_next_window_on(mode: str) -> None:
    window = RollingWindow(6, 2, mode)
    for number in range(3):
        window.push(frame(number))
    window.resize(4)
    lengths = [len(window.push(frame(number)).frames) for number in range(3, 11)]
    assert lengths == ([4, 5, 6, 3, 4, 3, 4, 3] if mode == "anchored" else [4] * 8)
    assert window.size == 4
    window.resize(6)
    lengths = [len(window.push(frame(number)).frames) for number in range(11, 18)]
    assert lengths == ([4, 3, 4, 5, 6, 3, 4] if mode == "anchored" else [5, 6, 6, 6, 6, 6, 6])


def test_the_next_key_of_a_window_at_hand_is_kept_when_the_size_changes() -> None:
    window = RollingWindow(6, 2, "anchored")
    promised = None
    for number in range(20):
        window.resize(4 if number > 4 else 6)
        now = window.push(frame(number))
        if promised is not None and len(now.frames) == 3:
            assert now.frames[0] is promised
        if now.next_key is not None:
            promised = now.frames[now.next_key]
