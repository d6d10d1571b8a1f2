"""Pairs the messages of a second sensor with images by the nearest stamp, within a bound."""

import logging
from collections.abc import Collection
from typing import Any

from sensor_msgs.msg import CameraInfo

from pomato_ros.config import PomatoConfig
from pomato_ros.ros.conversions.stamps import stamp_ns_from_time
from pomato_ros.ros.status import SensorStatus
from pomato_ros.ros.streams import StreamMonitor
from pomato_ros.ros.time_buffer import TimeIndexedBuffer

LOG = logging.getLogger(__name__)

KEPT = 8  # messages; older ones are of images that the worker has passed
FIRST_OFFSET_NS = 20_000_000  # bound before the images' period is known
WAIT_S = 0.1  # for a message that is due and not here yet


class NearestStamp:
    """The newest messages of one sensor; put by the executor, taken by the worker."""

    def __init__(self, what: str, status: SensorStatus, images: StreamMonitor, max_offset_s: float) -> None:
        """None yet.

        Args:
            what: the sensor's messages in words, for reasons.
            status: counts what becomes of them.
            images: whose period gives the bound where ``max_offset_s`` is 0.
            max_offset_s: the bound, seconds.
        """
        self._what, self._status, self._images = what, status, images
        self._max_offset_ns = round(max_offset_s * 1e9)
        self._buffer = TimeIndexedBuffer(KEPT)

    def put(self, stamp_ns: int, message: Any) -> None:
        """Keep a message."""
        self._buffer.put(stamp_ns, message)

    def clear(self) -> None:
        """Time jumped: nothing kept is of the images to come."""
        self._buffer.clear()

    def bound_ns(self) -> int:
        """The largest offset of a pair."""
        period_s = self._images.period_s
        half_ns = FIRST_OFFSET_NS if period_s is None else round(0.5e9 * period_s)
        return self._max_offset_ns or half_ns

    def take(self, stamp_ns: int) -> Any | None:
        """The message next to ``stamp_ns``; None, counted and named, where there is none within the bound.

        Waits for one that is due, but not for a sensor that has fallen silent or is slower than the images.
        """
        bound_ns = self.bound_ns()
        found = self._buffer.nearest_after(lambda kept: not self._is_due(kept, stamp_ns, bound_ns), stamp_ns, WAIT_S)
        if found is None:
            self._status.note_unpaired(f"no {self._what} has come yet")
            return None
        offset_ns = found[0] - stamp_ns
        if abs(offset_ns) > bound_ns:
            self._status.note_unpaired(self._too_far(offset_ns, bound_ns))
            return None
        self._status.note_paired(offset_ns * 1e-6)
        return found[1]

    def _too_far(self, offset_ns: int, bound_ns: int) -> str:
        return (
            f"expected a {self._what} within {bound_ns * 1e-6:.1f} ms of the image, got one {offset_ns * 1e-6:+.1f} ms "
            "off; normal for a slower sensor, else synchronise both (one clock, hardware trigger) or raise "
            "depth_max_offset"
        )

    def _is_due(self, kept_ns: Collection[int], stamp_ns: int, bound_ns: int) -> bool:
        """Whether a nearer message than those kept is still to come within the bound, as far as its period says."""
        newest_ns = max(kept_ns, default=None)
        if newest_ns is None:
            return self._status.stream.publishers > 0
        period_s = self._status.stream.period_s
        if newest_ns >= stamp_ns or period_s is None:
            return stamp_ns - newest_ns > bound_ns
        steps = round((stamp_ns - newest_ns) * 1e-9 / period_s)
        return steps >= 1 and abs(newest_ns + steps * period_s * 1e9 - stamp_ns) <= bound_ns


class SecondSensor:
    """What every sensor beside the camera has: messages paired by stamp, a calibration, and drops that are counted."""

    def __init__(self, what: str, config: PomatoConfig, status: SensorStatus, images: StreamMonitor) -> None:
        """``what``: its messages in words; ``images``: the stream of the camera's images."""
        self._what, self._config, self._status = what, config, status
        self._messages = NearestStamp(what, status, images, config.sensor.depth_max_offset)
        self._info: CameraInfo | None = None
        self._logged = ""

    def on_message(self, message: Any) -> None:
        """An image came, on the executor's thread."""
        self._messages.put(stamp_ns_from_time(message.header.stamp), message)

    def on_camera_info(self, message: CameraInfo) -> None:
        """Its calibration came."""
        self._info = message

    def clear(self) -> None:
        """Time jumped."""
        self._messages.clear()

    def _drop(self, kind: str, reason: str) -> None:
        """Count an image that cannot be used; log it when its kind is another than the last one's."""
        self._status.drop(kind, reason)
        if kind != self._logged:
            LOG.warning("%s not used (%s; others are only counted): %s", self._what, kind, reason)
            self._logged = kind
