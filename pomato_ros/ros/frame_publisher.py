"""Plays a video, a folder of images or a camera as ``image`` and ``camera_info``, as a camera driver would.

Stamps start at the moment of the first frame and agree with the pace of playing, so that they keep up with the clock.
With ``publish_clock`` they keep the spacing of the recording instead, and /clock runs at that pace: set use_sim_time in
the other nodes. A static transform from the base to the camera is sent too, so that a clip needs nothing else.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import rclpy
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.duration import Duration
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from pomato_ros.errors import PomatoError
from pomato_ros.ros.conversions.images import image_message, packed_bytes
from pomato_ros.ros.conversions.poses import transform_message
from pomato_ros.ros.conversions.stamps import NANOSECONDS_PER_SECOND, time_from_stamp_ns
from pomato_ros.ros.frame_source import (
    CameraFile,
    SourceFrame,
    foreign_sentence,
    limit_size,
    open_source,
    read_camera_file,
)
from pomato_ros.ros.frames import assumed_mount
from pomato_ros.ros.signals import init_interruptible, own_arguments
from pomato_ros.ros.topics import CAMERA_INFO, IMAGE, TF_STATIC_TOPIC, Topic, tf_qos
from pomato_ros.ros.transforms import tf_message_type
from pomato_ros.ros.usage import usage_text
from pomato_ros.ros.waiting import is_subscriber

JPEG_QUALITY = 90
SETTLE_S = 0.5  # a best-effort reader that was just met may not know its writer yet
LATE_S = 0.1  # a frame that comes later than this moves the time of all frames after it
LONGEST_SPIN_S = 0.1  # between two checks for a signal
CLOCK_PERIOD_S = 0.01
CLOCK_TOPIC = "/clock"
PUBLISHER_TOPICS = (
    ("image, or image/compressed", "sensor_msgs/Image, CompressedImage", "out: the frames"),
    ("camera_info", "sensor_msgs/CameraInfo", "out: camera_info.yaml beside the images, or zeros"),
    ("/tf_static", "tf2_msgs/TFMessage", "out: base_frame to frame_id"),
    (CLOCK_TOPIC, "rosgraph_msgs/Clock", "out: with publish_clock"),
)
PARAMETERS: dict[str, tuple[Any, str]] = {
    "video": ("", "video file, folder of images, or camera device (0, /dev/video0)"),
    "rate": (0.0, "images published a second; 0 plays as fast as recorded"),
    "publish_clock": (
        False,
        "keep the stamps of the recording whatever the rate, and publish /clock with that time, for use_sim_time",
    ),
    "folder_rate": (15.0, "images a second at which a folder without stamps.txt was recorded"),
    "loop": (False, "begin again at the end; stamps go on rising"),
    "max_frames": (0, "stop after this many images; 0 means all"),
    "max_side_px": (0, "reduce larger images to this long side; 0 leaves them as they are"),
    "compressed": (False, "publish image/compressed (JPEG) instead of image"),
    "frame_id": ("camera_optical_frame", "frame of the images"),
    "base_frame": ("base_link", "parent of the static transform to frame_id, camera looking forward; empty sends none"),
    "wait_for_subscribers": (1, "wait for this many subscribers of the image before the first one"),
    "wait_for_node": ("", "wait for a subscription of this node too; empty waits for no one in particular"),
    "wait_timeout": (120.0, "give up waiting for them after this many seconds"),
}


class PlaybackError(PomatoError, RuntimeError):
    """The clip cannot be played; the message says why."""


@dataclass(frozen=True, slots=True)
class TimedFrame:
    """A frame, its stamp from the start of playing, and when it is due on the wall clock."""

    image_bgr: np.ndarray
    stamp_offset_ns: int
    due_s: float


class Timeline:
    """Gives every frame its stamp and its moment, over loops too."""

    def __init__(self, rate_hz: float, *, keep_recorded_stamps: bool = False) -> None:
        """``rate_hz`` 0: frames are due when their recorded times say.

        Stamps are those moments too, unless ``keep_recorded_stamps``: then they are spaced as recorded.
        """
        self._rate_hz = rate_hz
        self._keeps_recorded_stamps = keep_recorded_stamps
        self._count = 0
        self._loop_start_ns = 0
        self._newest_ns = 0
        self._gap_ns = NANOSECONDS_PER_SECOND // 15
        self._started_s = time.monotonic()

    def begin_loop(self) -> None:
        """The next pass goes on one frame gap after the last frame."""
        if self._count:
            self._loop_start_ns = self._newest_ns + self._gap_ns

    def place(self, frame: SourceFrame) -> TimedFrame:
        """Stamp and due time of the next frame; a live camera's frames are due at once and stamped now."""
        if frame.offset_ns is None:
            recorded_ns = max(round((time.monotonic() - self._started_s) * NANOSECONDS_PER_SECOND), self._newest_ns + 1)
        else:
            recorded_ns = self._loop_start_ns + frame.offset_ns
        if self._count and frame.offset_ns:
            self._gap_ns = recorded_ns - self._newest_ns
        paced = self._rate_hz > 0.0 and frame.offset_ns is not None
        due_ns = round(self._count * NANOSECONDS_PER_SECOND / self._rate_hz) if paced else recorded_ns
        self._newest_ns = recorded_ns
        self._count += 1
        stamp_ns = recorded_ns if self._keeps_recorded_stamps else due_ns
        return TimedFrame(frame.image_bgr, stamp_ns, due_ns * 1e-9)


class PlaybackClock:
    """The time on /clock: the stamp of each frame at the moment it is due, and straight between two frames."""

    def __init__(self, start_ns: int) -> None:
        """Stand still at ``start_ns`` until the first frame."""
        self._stamps_ns = (start_ns, start_ns)
        self._due_s = (0.0, 0.0)

    def approach(self, stamp_ns: int, due_s: float) -> None:
        """Reach ``stamp_ns`` at ``due_s`` on the monotonic clock, from the frame before."""
        self._stamps_ns = (self._stamps_ns[1], stamp_ns)
        self._due_s = (self._due_s[1], due_s)

    def now_ns(self, now_s: float) -> int:
        """The time at ``now_s`` on the monotonic clock; never past the frame that comes next."""
        (start_ns, end_ns), (start_s, end_s) = self._stamps_ns, self._due_s
        if now_s >= end_s or start_s == 0.0:
            return end_ns if now_s >= end_s else start_ns
        share = max(0.0, now_s - start_s) / (end_s - start_s)
        return start_ns + int(share * (end_ns - start_ns))


class FramePublisher(Node):
    """Publishes one source once, or for ever with ``loop``."""

    def __init__(self, **node_options: Any) -> None:
        """Declare the parameters and open the source.

        Raises:
            SourceError: The source gives no frames.
        """
        super().__init__("frame_publisher", **node_options)
        for name, (default, text) in PARAMETERS.items():
            # `-p video:=0` is a number to ROS, and still a camera
            descriptor = ParameterDescriptor(description=text, read_only=True, dynamic_typing=name == "video")
            self.declare_parameter(name, default, descriptor)
        self._check_numbers()
        self._source = open_source(str(self._value("video")), float(self._value("folder_rate")))
        if self._source.foreign:
            self.get_logger().warning(f"{self._value('video')}: {foreign_sentence(self._source.foreign)}")
        self._camera = self._read_calibration()
        self._compressed = bool(self._value("compressed"))
        self._images = self._create_image_publisher()
        self._infos = self.create_publisher(CameraInfo, CAMERA_INFO.name, Topic("", None, "", depth=10).qos())
        self._static_transforms = self._publish_mount()
        self._playback_clock = PlaybackClock(time.time_ns()) if self._value("publish_clock") else None
        self._clock_publisher = (
            self.create_publisher(Clock, CLOCK_TOPIC, Topic("", None, "").qos()) if self._playback_clock else None
        )

    @property
    def skipped(self) -> int:
        """Frames of the newest pass that could not be read."""
        return len(self._source.skips.reasons)

    def play(self, report: "Report") -> None:
        """Wait for subscribers, then publish every frame when it is due.

        Raises:
            PlaybackError: Nobody subscribed in time.
            SourceError: No frame can be read.
        """
        self._wait_for_subscribers()
        rate_hz, keep = float(self._value("rate")), self._playback_clock is not None
        started_s, start_ns = time.monotonic(), self._start_ns()
        for number, frame in enumerate(self._frames(Timeline(rate_hz, keep_recorded_stamps=keep)), start=1):
            late_s = time.monotonic() - started_s - frame.due_s
            if late_s > LATE_S:  # what cannot be played in time must not fall ever farther behind the clock
                started_s += late_s
                start_ns += 0 if keep else round(late_s * NANOSECONDS_PER_SECOND)
            stamp_ns, due_s = start_ns + frame.stamp_offset_ns, started_s + frame.due_s
            if self._playback_clock is not None:
                self._playback_clock.approach(stamp_ns, due_s)
            self._sleep_until(due_s)
            self._publish(frame, stamp_ns)
            report.published(number, self._total())
        self._images.wait_for_all_acked(Duration(seconds=5))

    def _start_ns(self) -> int:
        return self.get_clock().now().nanoseconds if self._playback_clock is None else self._playback_clock.now_ns(0.0)

    def _frames(self, timeline: Timeline) -> Iterator[TimedFrame]:
        limit, published = int(self._value("max_frames")), 0
        while True:
            timeline.begin_loop()
            for frame in self._source.frames():
                if limit and published >= limit:
                    return
                published += 1
                yield timeline.place(frame)
            self._report_skips()
            if not self._value("loop"):
                return

    def _report_skips(self) -> None:
        sentence = self._source.skips.sentence()
        if sentence:
            self.get_logger().warning(f"{self._value('video')}: {sentence}")

    def _total(self) -> int | None:
        limit = int(self._value("max_frames"))
        count = None if self._value("loop") else self._source.count
        return min(filter(None, (limit, count)), default=None)

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _check_numbers(self) -> None:
        for name in ("rate", "max_frames", "max_side_px", "wait_for_subscribers", "wait_timeout"):
            value = float(self._value(name))
            if not (np.isfinite(value) and value >= 0.0):
                raise PlaybackError(f"{name}: expected a finite number, 0 or more, got {value}")

    def _read_calibration(self) -> CameraFile | None:
        file = self._source.calibration_file
        if file is None:
            self.get_logger().info("no camera_info.yaml beside the images: publishing an uncalibrated camera_info")
        return None if file is None else read_camera_file(file)

    def _create_image_publisher(self) -> Any:
        qos = Topic("", None, "", depth=10).qos()
        if self._compressed:
            return self.create_publisher(CompressedImage, self.resolve_topic_name(IMAGE.name) + "/compressed", qos)
        return self.create_publisher(Image, IMAGE.name, qos)

    def _publish_mount(self) -> Any | None:
        base_frame, message_type = str(self._value("base_frame")), tf_message_type()
        if not base_frame or message_type is None:
            return None
        publisher = self.create_publisher(message_type, TF_STATIC_TOPIC, tf_qos(latched=True))
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=base_frame)
        mount = transform_message(assumed_mount(), header, str(self._value("frame_id")))
        publisher.publish(message_type(transforms=[mount]))
        return publisher

    def _wait_for_subscribers(self) -> None:
        wanted, node = int(self._value("wait_for_subscribers")), str(self._value("wait_for_node"))
        deadline_s = time.monotonic() + self._value("wait_timeout")
        expected = f"{wanted} subscribers on '{self._images.topic_name}'" + (f", '{node}' among them" if node else "")
        self.get_logger().info(f"waiting for {expected}")
        while self._images.get_subscription_count() < wanted or not self._is_heard_by(node):
            self._spin(LONGEST_SPIN_S)
            if time.monotonic() > deadline_s:
                got = self._images.get_subscription_count()
                raise PlaybackError(f"expected {expected} in time, got {got}; start the node first")
        self._sleep_until(time.monotonic() + SETTLE_S)

    def _is_heard_by(self, node: str) -> bool:
        """Whether that node subscribes to the images; a lifecycle node does so once it is active."""
        return not node or is_subscriber(self, self._images.topic_name, node)

    def _sleep_until(self, due_s: float) -> None:
        while (remaining_s := due_s - time.monotonic()) > 0.0:
            self._spin(min(remaining_s, LONGEST_SPIN_S))

    def _spin(self, seconds: float) -> None:
        """Spin for a moment; signals are seen between two of them, and /clock goes on."""
        if self._playback_clock is None or self._clock_publisher is None:
            rclpy.spin_once(self, timeout_sec=seconds)
            return
        rclpy.spin_once(self, timeout_sec=min(seconds, CLOCK_PERIOD_S))
        self._clock_publisher.publish(Clock(clock=time_from_stamp_ns(self._playback_clock.now_ns(time.monotonic()))))

    def _publish(self, frame: TimedFrame, stamp_ns: int) -> None:
        header = Header(stamp=time_from_stamp_ns(stamp_ns), frame_id=str(self._value("frame_id")))
        image_bgr = limit_size(frame.image_bgr, int(self._value("max_side_px")))
        self._infos.publish(camera_info_message(self._camera, (image_bgr.shape[1], image_bgr.shape[0]), header))
        self._images.publish(self._image_message(image_bgr, header))

    def _image_message(self, image_bgr: np.ndarray, header: Header) -> Any:
        if not self._compressed:
            return image_message(image_bgr, "bgr8", header)
        _, data = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        return CompressedImage(header=header, format="bgr8; jpeg compressed bgr8", data=packed_bytes(data))


def camera_info_message(camera: CameraFile | None, size_wh: tuple[int, int], header: Header) -> CameraInfo:
    """The CameraInfo of a published image: scaled if the image was, all zeros if the camera is not calibrated."""
    message = CameraInfo(header=header, width=int(size_wh[0]), height=int(size_wh[1]))
    if camera is None:
        return message
    scale_x, scale_y = size_wh[0] / camera.width_px, size_wh[1] / camera.height_px
    message.distortion_model = camera.distortion_model
    message.d = list(camera.distortion)
    message.k = scale_rows(camera.camera_matrix, 3, scale_x, scale_y)
    message.r = list(camera.rectification)
    message.p = scale_rows(camera.projection, 4, scale_x, scale_y)
    return message


def scale_rows(matrix: Sequence[float], columns: int, scale_x: float, scale_y: float) -> list[float]:
    """A row-major K or P for an image resized by the two factors; pixel centres are at integers."""
    scaled = np.reshape(np.asarray(matrix, np.float64), (3, columns)).copy()
    scaled[0] *= scale_x
    scaled[1] *= scale_y
    scaled[0, 2] += (scale_x - 1.0) / 2
    scaled[1, 2] += (scale_y - 1.0) / 2
    return [float(value) for value in scaled.reshape(-1)]


class Report:
    """Says to a parent process, on standard output, how far the clip is: one JSON object a line."""

    def __init__(self, *, enabled: bool) -> None:
        """Say nothing unless ``enabled``."""
        self._enabled = enabled

    def published(self, number: int, total: int | None) -> None:
        """``number`` frames of ``total`` are out."""
        self._write({"published": number, "total": total})

    def ended(self, skipped: int) -> None:
        """The clip is over; ``skipped`` frames could not be read."""
        if skipped:
            self._write({"skipped": skipped})

    def _write(self, facts: dict[str, int | None]) -> None:
        if self._enabled:
            sys.stdout.write(json.dumps(facts) + "\n")
            sys.stdout.flush()


def make_parser() -> argparse.ArgumentParser:
    """The command line; everything else is a ROS parameter, and the help lists those."""
    parser = argparse.ArgumentParser(
        prog="frame_publisher",
        description=__doc__,
        epilog=usage_text(PUBLISHER_TOPICS, {name: (str(value), text) for name, (value, text) in PARAMETERS.items()}),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--progress", action="store_true", help="write progress as JSON lines to standard output")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of ``ros2 run pomato_ros frame_publisher``: 0 at the end of the clip, 1 if it could not be played."""
    argv = list(sys.argv if arguments is None else arguments)
    options = make_parser().parse_args(own_arguments(argv))
    report = Report(enabled=options.progress)
    try:
        init_interruptible(argv)
        node = FramePublisher()
        node.play(report)
        report.ended(node.skipped)
    except (PomatoError, ParameterException) as error:
        rclpy.logging.get_logger("frame_publisher").fatal(str(error))
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
