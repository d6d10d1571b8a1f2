"""Plays a video, a folder of images or a camera as ``image`` and ``camera_info``, as a camera driver would.

Stamps keep the spacing of the recording, whatever the speed of playing, and start at the moment of the first frame.
A static transform from the base to the camera is sent too, so that a clip needs nothing else.
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
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from pomato_ros.ros.conversions.images import image_message, packed_bytes
from pomato_ros.ros.conversions.poses import transform_message
from pomato_ros.ros.conversions.stamps import NANOSECONDS_PER_SECOND, time_from_stamp_ns
from pomato_ros.ros.frame_source import (
    CameraFile,
    SourceError,
    SourceFrame,
    limit_size,
    open_source,
    read_camera_file,
)
from pomato_ros.ros.frames import assumed_mount
from pomato_ros.ros.signals import init_interruptible
from pomato_ros.ros.topics import CAMERA_INFO, IMAGE, TF_STATIC_TOPIC, Topic, tf_qos
from pomato_ros.ros.transforms import tf_message_type

JPEG_QUALITY = 90
SETTLE_S = 0.5  # a best-effort reader that was just met may not know its writer yet
PARAMETERS: dict[str, tuple[Any, str]] = {
    "video": ("", "video file, folder of images, or camera device (0, /dev/video0)"),
    "rate": (0.0, "images published a second; 0 plays as fast as recorded"),
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


class PlaybackError(RuntimeError):
    """The clip cannot be played; the message says why."""


@dataclass(frozen=True, slots=True)
class TimedFrame:
    """A frame, its stamp from the start of playing, and when it is due on the wall clock."""

    image_bgr: np.ndarray
    stamp_offset_ns: int
    due_s: float


class Timeline:
    """Gives every frame its stamp and its moment, over loops too."""

    def __init__(self, rate_hz: float) -> None:
        """``rate_hz`` 0: frames are due when their stamps say."""
        self._rate_hz = rate_hz
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
            now_s = time.monotonic() - self._started_s
            stamp_ns = max(round(now_s * NANOSECONDS_PER_SECOND), self._newest_ns + 1)
            due_s = now_s
        else:
            stamp_ns = self._loop_start_ns + frame.offset_ns
            due_s = self._count / self._rate_hz if self._rate_hz > 0.0 else stamp_ns * 1e-9
        if self._count and frame.offset_ns:
            self._gap_ns = stamp_ns - self._newest_ns
        self._newest_ns = stamp_ns
        self._count += 1
        return TimedFrame(frame.image_bgr, stamp_ns, due_s)


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
        self._source = open_source(str(self._value("video")), float(self._value("folder_rate")))
        self._camera = self._read_calibration()
        self._compressed = bool(self._value("compressed"))
        self._images = self._create_image_publisher()
        self._infos = self.create_publisher(CameraInfo, CAMERA_INFO.name, Topic("", None, "", depth=10).qos())
        self._static_transforms = self._publish_mount()

    def play(self, report: "Report") -> None:
        """Wait for subscribers, then publish every frame when it is due.

        Raises:
            PlaybackError: Nobody subscribed in time.
            SourceError: A frame cannot be read.
        """
        self._wait_for_subscribers()
        timeline, start_ns = Timeline(float(self._value("rate"))), self.get_clock().now().nanoseconds
        started_s = time.monotonic()
        for number, frame in enumerate(self._frames(timeline), start=1):
            self._sleep_until(started_s + frame.due_s)
            self._publish(frame, start_ns + frame.stamp_offset_ns)
            report.published(number, self._total())
        self._images.wait_for_all_acked(Duration(seconds=5))

    def _frames(self, timeline: Timeline) -> Iterator[TimedFrame]:
        limit, published = int(self._value("max_frames")), 0
        while True:
            timeline.begin_loop()
            for frame in self._source.frames():
                if limit and published >= limit:
                    return
                published += 1
                yield timeline.place(frame)
            if not self._value("loop"):
                return

    def _total(self) -> int | None:
        limit = int(self._value("max_frames"))
        count = None if self._value("loop") else self._source.count
        return min(filter(None, (limit, count)), default=None)

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

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
            rclpy.spin_once(self, timeout_sec=0.1)
            if time.monotonic() > deadline_s:
                got = self._images.get_subscription_count()
                raise PlaybackError(f"expected {expected} in time, got {got}; start the node first")
        self._sleep_until(time.monotonic() + SETTLE_S)

    def _is_heard_by(self, node: str) -> bool:
        """Whether a node of that name subscribes to the images; a lifecycle node does so once it is active."""
        listeners = self.get_subscriptions_info_by_topic(self._images.topic_name) if node else []
        return not node or any(info.node_name == node for info in listeners)

    def _sleep_until(self, due_s: float) -> None:
        while (remaining_s := due_s - time.monotonic()) > 0.0:
            rclpy.spin_once(self, timeout_sec=remaining_s)

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
    """Tells a parent process, on standard output, how far the clip is: one JSON object a line."""

    def __init__(self, *, enabled: bool) -> None:
        """Say nothing unless ``enabled``."""
        self._enabled = enabled

    def published(self, number: int, total: int | None) -> None:
        """``number`` frames of ``total`` are out."""
        if self._enabled:
            sys.stdout.write(json.dumps({"published": number, "total": total}) + "\n")
            sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of ``ros2 run pomato_ros frame_publisher``: 0 at the end of the clip, 1 if it could not be played."""
    argv = list(sys.argv if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="frame_publisher", description=__doc__)
    parser.add_argument("--progress", action="store_true", help="write progress as JSON lines to standard output")
    init_interruptible(argv)
    options = parser.parse_args(rclpy.utilities.remove_ros_args(argv)[1:])
    try:
        node = FramePublisher()
        node.play(Report(enabled=options.progress))
    except (SourceError, PlaybackError) as error:
        rclpy.logging.get_logger("frame_publisher").fatal(str(error))
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
