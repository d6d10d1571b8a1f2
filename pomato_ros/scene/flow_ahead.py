"""Flow found in a thread of its own, before it is asked for, while the pose is solved.

OpenCV holds no lock of the interpreter while it searches. One thread does all the searching, in the order of the
requests, and no answer of :class:`pomato_ros.scene.flow.FlowCache` depends on earlier ones: timing changes no result.
"""

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait

import numpy as np
from numpy.typing import NDArray

from pomato_ros.config import FlowTuning
from pomato_ros.scene.flow import FlowCache
from pomato_ros.structures import Correspondence, MaskArray


class FlowAhead:
    """A :class:`pomato_ros.scene.flow.FlowCache` that works ahead."""

    def __init__(self, tuning: FlowTuning | None = None) -> None:
        """An empty cache; ``tuning`` None: the defaults."""
        self._cache = FlowCache(tuning)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="flow")
        self._requests: dict[int, Future[Correspondence | None]] = {}  # of the newest frame, by gap

    def reset(self) -> None:
        """Remove all frames."""
        self._finish()
        self._cache.reset()

    @property
    def frame_count(self) -> int:
        """Frames kept: gaps up to one less can be asked for."""
        return self._cache.frame_count

    def push(self, stamp_ns: int, gray: NDArray[np.uint8], valid: MaskArray | None = None) -> None:
        """Add the newest frame; arguments and errors as of :meth:`pomato_ros.scene.flow.FlowCache.push`."""
        self._finish()
        self._cache.push(stamp_ns, gray, valid)

    def prepare(self, gaps: Iterable[int]) -> None:
        """Begin to search for correspondences that will be asked for, in this order; gaps without a frame are left."""
        for gap in gaps:
            if gap < self._cache.frame_count and gap not in self._requests:
                self._requests[gap] = self._thread.submit(self._cache.correspondence, gap)

    def correspondence(self, gap: int) -> Correspondence | None:
        """As :meth:`pomato_ros.scene.flow.FlowCache.correspondence`; waits until it is found."""
        self.prepare((gap,))
        return self._requests[gap].result() if gap in self._requests else None

    def _finish(self) -> None:
        """Drop what is not begun, and wait for the rest."""
        for request in self._requests.values():
            request.cancel()
        wait([request for request in self._requests.values() if not request.cancelled()])
        self._requests.clear()
