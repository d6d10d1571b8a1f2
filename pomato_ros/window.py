"""The rolling window: which frames the network sees together, and which of them is the key."""

from pomato_ros.errors import UnusableFrame
from pomato_ros.structures import PreparedFrame, Window


class RollingWindow:
    """Collects frames; every push gives the window to evaluate now.

    ``anchored``: the key is the first frame. A window that is full when the next frame comes starts over from its last
    ``overlap`` frames, so the key changes every ``size - overlap`` frames (12 and 4: every 8).
    ``rolling``: the key is the newest frame and the oldest leaves.
    """

    def __init__(self, size: int, overlap: int, mode: str) -> None:
        """Options as in :class:`pomato_ros.config.WindowOptions`."""
        self._size, self._overlap, self._mode = size, overlap, mode
        self._next_size = size
        self._frames: list[PreparedFrame] = []

    def __len__(self) -> int:
        """Frames held."""
        return len(self._frames)

    @property
    def size(self) -> int:
        """Frames of the window at hand when it is full."""
        return self._size

    def resize(self, size: int) -> None:
        """Change the size from the next window on, so that a key and what was made of its pairs last as planned."""
        self._next_size = size

    def push(self, frame: PreparedFrame) -> Window:
        """Add the newest frame.

        Raises:
            UnusableFrame: the frame is not newer than the last one, or of another size; clear the window first.
        """
        if self._frames:
            self._check_follows(frame)
        if not self._frames or len(self._frames) == self._size or self._mode == "rolling":
            self._begin_window()
        self._frames.append(frame)
        newest = len(self._frames) - 1
        if self._mode == "rolling":
            return Window(tuple(self._frames), key=newest)
        next_key = self._size - self._overlap
        return Window(tuple(self._frames), key=0, next_key=next_key if newest >= next_key else None)

    def _begin_window(self) -> None:
        """Let go of the frames that the window of the next frame does not have."""
        full = len(self._frames) == self._size
        self._size = self._next_size
        if self._mode == "rolling":
            self._frames = self._frames[max(0, len(self._frames) - (self._size - 1)) :]
        elif full:
            self._frames = self._frames[-self._overlap :]

    def clear(self) -> None:
        """Forget all frames."""
        self._frames = []

    def _check_follows(self, frame: PreparedFrame) -> None:
        last = self._frames[-1]
        if frame.stamp_ns <= last.stamp_ns:
            raise UnusableFrame(
                f"expected a frame after {last.stamp_ns} ns, got one at {frame.stamp_ns} ns; clear the window when "
                "time jumps back"
            )
        if frame.size_hw != last.size_hw:
            raise UnusableFrame(
                f"expected an image of height and width {last.size_hw}, got {frame.size_hw}; clear the "
                "window when the size changes"
            )
