"""ROS bags (MCAP, db3, ROS 1) read through `rosbags`, without ROS: colour, depth or right image, calibration."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection
from rosbags.typesys import Stores, get_typestore
from scipy.spatial.transform import Rotation

from pomato_ros.datasets.sensors.lens import Lens
from pomato_ros.datasets.sensors.sequence import SensorSequence
from pomato_ros.datasets.sensors.stamps import NS_PER_S, nearest_pairs
from pomato_ros.geometry.registration import DepthRegistration
from pomato_ros.geometry.rigid import invert, pose_from
from pomato_ros.structures import FloatArray, Frame, Intrinsics, PoseArray

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
INFO_TYPE, TF_TYPE = "sensor_msgs/msg/CameraInfo", "tf2_msgs/msg/TFMessage"
PNG_START = b"\x89PNG\r\n\x1a\n"
TO_RGB = {  # conversions of 8-bit encodings; None: it is RGB
    "rgb8": None,
    "bgr8": cv2.COLOR_BGR2RGB,
    "rgba8": cv2.COLOR_RGBA2RGB,
    "bgra8": cv2.COLOR_BGRA2RGB,
    "mono8": cv2.COLOR_GRAY2RGB,
    "8uc1": cv2.COLOR_GRAY2RGB,
    "8uc3": cv2.COLOR_BGR2RGB,
    "bayer_rggb8": cv2.COLOR_BayerBG2RGB,
    "bayer_bggr8": cv2.COLOR_BayerRG2RGB,
    "bayer_gbrg8": cv2.COLOR_BayerGR2RGB,
    "bayer_grbg8": cv2.COLOR_BayerGB2RGB,
}
DEPTH_UNITS = {"16uc1": ("u2", 1e-3), "mono16": ("u2", 1e-3), "32fc1": ("f4", 1.0)}  # type, metres a step
MAX_OFFSET_NS = 20_000_000


@dataclass(frozen=True, slots=True)
class Topics:
    """Which topics are read; empty: found by name and type."""

    image: str = ""
    depth: str = ""
    right: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a message lies in the bag."""

    stamp_ns: int  # of its header
    recorded_ns: int


@dataclass(frozen=True, slots=True)
class Stream:
    """All images of one topic, by the stamps of their headers, and their camera."""

    connection: Connection
    entries: tuple[Entry, ...]
    frame_id: str
    lens: Lens | None
    baseline_m: float | None  # -P[3] / P[0], where it is above 0


def is_bag(path: Path) -> bool:
    """Whether ``path`` is a bag: a file of ROS 1 or 2, or a folder with ``metadata.yaml``."""
    return path.suffix in (".bag", ".mcap", ".db3") or (path / "metadata.yaml").is_file()


def read_bag(path: Path, topics: Topics | None = None, max_offset_ns: int = MAX_OFFSET_NS) -> SensorSequence:
    """The frames of a bag, which stays open till the sequence is closed; depth of another camera is registered by TF.

    Args:
        path: bag file or folder.
        topics: which are read.
        max_offset_ns: depth or right images farther from the colour image than this are left out.

    Raises:
        ValueError: no colour topic, or messages of an encoding that is not known.
        OSError: the bag cannot be read.
    """
    reader = AnyReader([path], default_typestore=get_typestore(Stores.ROS2_JAZZY))
    reader.open()
    try:
        return sequence_of(reader, path.stem, choose_topics(reader, topics or Topics()), max_offset_ns)
    except BaseException:
        reader.close()
        raise


def sequence_of(reader: AnyReader, name: str, chosen: Topics, max_offset_ns: int) -> SensorSequence:
    """The frames of an open bag; arguments as in :func:`read_bag`."""
    colour = open_stream(reader, chosen.image)
    depth = open_stream(reader, chosen.depth) if chosen.depth else None
    right = open_stream(reader, chosen.right) if chosen.right and not depth else None
    other = depth or right
    partner = {} if other is None else partners(colour, other, max_offset_ns)
    registration = None if depth is None else registration_of(reader, colour, depth)

    def read_frame(t: int) -> Frame:
        entry = colour.entries[t]
        image = decode_colour(read_message(reader, colour, entry))
        frame = Frame(entry.stamp_ns, image)
        if colour.lens is not None:
            image = colour.lens.rectify(image)
            frame = Frame(entry.stamp_ns, image, colour.lens.rectified, valid=colour.lens.valid)
        if other is None or t not in partner:
            return frame
        message = read_message(reader, other, other.entries[partner[t]])
        if right is not None:
            right_rgb = decode_colour(message)
            right_rgb = right_rgb if right.lens is None else right.lens.rectify(right_rgb)
            return dataclasses.replace(frame, right_rgb=right_rgb, baseline_m=right.baseline_m)
        depth_m = decode_depth(message)
        if registration is not None:
            return dataclasses.replace(frame, depth_m=registration.register(depth_m))
        return dataclasses.replace(
            frame, depth_m=depth_m if colour.lens is None else colour.lens.rectify_depth(depth_m)
        )

    return SensorSequence(
        name=name,
        layout="bag",
        stamps_ns=tuple(entry.stamp_ns for entry in colour.entries),
        read_frame=read_frame,
        facts={**{kind: topic for kind, topic in dataclasses.asdict(chosen).items() if topic}, "paired": len(partner)},
        close=reader.close,
    )


def choose_topics(reader: AnyReader, asked: Topics) -> Topics:
    """The topics asked for, others by name: depth, right (or infra2), and the first colour image that is neither.

    Raises:
        ValueError: a topic is not there, or no colour image is.
    """
    images = [connection.topic for connection in reader.connections if connection.msgtype in IMAGE_TYPES]
    missing = [topic for topic in (asked.image, asked.depth, asked.right) if topic and topic not in images]
    if missing:
        raise ValueError(f"no image topic {', '.join(missing)} in the bag; it has {', '.join(images) or 'none'}")
    depths = [topic for topic in images if "depth" in topic.lower() and "confidence" not in topic.lower()]
    aligned = [topic for topic in depths if any(word in topic for word in ("aligned", "registered"))]
    rights = [topic for topic in images if any(word in topic.lower() for word in ("right", "infra2", "cam1"))]
    colours = [topic for topic in images if topic not in depths and topic not in rights and "mask" not in topic]
    if not asked.image and not colours:
        raise ValueError(f"expected a colour image topic, the bag has {', '.join(images) or 'no images'}; name one")
    return Topics(
        image=asked.image or colours[0],
        depth=asked.depth or next(iter(aligned + depths), ""),
        right=asked.right or next(iter(rights), ""),
    )


def open_stream(reader: AnyReader, topic: str) -> Stream:
    """The images of a topic, with the calibration beside it.

    Raises:
        ValueError: the topic has no message.
    """
    connection = next(item for item in reader.connections if item.topic == topic)
    entries, frame_id = [], ""
    for _, recorded_ns, raw in reader.messages([connection]):
        message: Any = reader.deserialize(raw, connection.msgtype)
        header = message.header
        entries.append(Entry(header.stamp.sec * NS_PER_S + header.stamp.nanosec, recorded_ns))
        frame_id = header.frame_id
    kept = rising(sorted(entries, key=lambda entry: entry.stamp_ns))
    if not kept:
        raise ValueError(f"expected images on {topic}, the bag holds none")
    lens, baseline_m = read_calibration(reader, topic)
    return Stream(connection, kept, frame_id, lens, baseline_m)


def rising(entries: list[Entry]) -> tuple[Entry, ...]:
    """Those with a stamp of their own."""
    later = (b.stamp_ns > a.stamp_ns for a, b in zip(entries, entries[1:], strict=False))
    return tuple(entry for entry, kept in zip(entries, (True, *later), strict=True) if kept)


def read_calibration(reader: AnyReader, topic: str) -> tuple[Lens | None, float | None]:
    """Lens and baseline from the first ``camera_info`` in the namespace of an image topic; None where there is none."""
    place = topic.rsplit("/", 1)[0]
    places = (place, place.rsplit("/", 1)[0])  # image/compressed lies one level deeper
    found = [
        item for item in reader.connections if item.msgtype == INFO_TYPE and item.topic.rsplit("/", 1)[0] in places
    ]
    for connection, _, raw in reader.messages(found[:1]):
        return lens_of(reader.deserialize(raw, connection.msgtype))
    return None, None


def lens_of(info: Any) -> tuple[Lens | None, float | None]:
    """Lens and baseline of a CameraInfo; K[0] = 0 is uncalibrated."""
    k = np.asarray(getattr(info, "k", getattr(info, "K", None)), np.float64).reshape(3, 3)
    d = tuple(float(value) for value in getattr(info, "d", getattr(info, "D", ())))
    r = np.asarray(getattr(info, "r", getattr(info, "R", None)), np.float64).reshape(3, 3)
    p = np.asarray(getattr(info, "p", getattr(info, "P", None)), np.float64).reshape(3, 4)
    if not k[0, 0] > 0:
        return None, None
    raw, projected = (camera_of(matrix, info) for matrix in (k, p))
    rectified = projected if p[0, 0] > 0 else raw
    turn = r if np.allclose(r @ r.T, np.eye(3), atol=1e-6) else np.eye(3)
    baseline_m = float(-p[0, 3] / p[0, 0]) if p[0, 0] > 0 and p[0, 3] < 0 else None
    return Lens(raw, d[:8], rectified, turn), baseline_m


def camera_of(matrix: NDArray[np.float64], info: Any) -> Intrinsics:
    """Intrinsics of a camera or projection matrix."""
    fx, fy, cx, cy = (float(matrix[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return Intrinsics(fx, fy, cx, cy, int(info.width), int(info.height))


def partners(colour: Stream, other: Stream, max_offset_ns: int) -> dict[int, int]:
    """Number of the other image for each number of a colour image that has one near in time."""
    stamps = [[entry.stamp_ns for entry in stream.entries] for stream in (colour, other)]
    return {a: b for a, b, _ in nearest_pairs(stamps[0], stamps[1], max_offset_ns)}


def registration_of(reader: AnyReader, colour: Stream, depth: Stream) -> DepthRegistration | None:
    """How depth gets onto the colour image; None: it belongs to its pixels already, by frame or by camera.

    Raises:
        ValueError: the cameras differ and TF does not relate them.
    """
    if colour.lens is None or depth.lens is None or depth.frame_id == colour.frame_id:
        return None
    pose = static_transform(reader, colour.frame_id, depth.frame_id)
    if pose is None:
        if depth.lens.raw == colour.lens.raw:
            return None
        raise ValueError(
            f"depth is of another camera ({depth.frame_id}) than the image ({colour.frame_id}), and /tf_static does "
            "not relate them; record /tf_static, or the driver's aligned depth"
        )
    return DepthRegistration(depth.lens.rectified, colour.lens.rectified, pose)


def static_transform(reader: AnyReader, target: str, source: str) -> PoseArray | None:
    """``target_from_source`` (4, 4) by the static transforms of the bag; None: they do not relate the frames."""
    parents: dict[str, tuple[str, PoseArray]] = {}
    found = [item for item in reader.connections if item.msgtype == TF_TYPE and item.topic.endswith("tf_static")]
    for connection, _, raw in reader.messages(found):
        message: Any = reader.deserialize(raw, connection.msgtype)
        for stamped in message.transforms:
            t, q = stamped.transform.translation, stamped.transform.rotation
            pose = pose_from(Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix(), [t.x, t.y, t.z])
            parents[stamped.child_frame_id.lstrip("/")] = (stamped.header.frame_id.lstrip("/"), pose)
    chains = [dict(ancestors(frame.lstrip("/"), parents)) for frame in (target, source)]
    common = next((frame for frame in chains[1] if frame in chains[0]), None)
    return None if common is None else invert(chains[0][common]) @ chains[1][common]


def ancestors(frame: str, parents: dict[str, tuple[str, PoseArray]]) -> Iterator[tuple[str, PoseArray]]:
    """Each frame above ``frame``, itself first, with ``that_from_frame``."""
    pose, seen = np.eye(4), set()
    while frame not in seen:
        yield frame, pose
        seen.add(frame)
        if frame in parents:
            frame, step = parents[frame]
            pose = step @ pose


def read_message(reader: AnyReader, stream: Stream, entry: Entry) -> Any:
    """One message of a stream.

    Raises:
        OSError: it is not where it was.
    """
    window = {"start": entry.recorded_ns, "stop": entry.recorded_ns + 1}
    for connection, _, raw in reader.messages([stream.connection], **window):
        return reader.deserialize(raw, connection.msgtype)
    raise OSError(f"no message of {stream.connection.topic} at {entry.recorded_ns}; the bag has changed")


def decode_colour(message: Any) -> NDArray[np.uint8]:
    """(h, w, 3) RGB of an Image or CompressedImage.

    Raises:
        ValueError: an encoding that is not known, or less data than it says.
    """
    if not hasattr(message, "encoding"):
        bgr = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
        if bgr is None:
            raise ValueError(f"expected a JPEG or PNG image, got {len(message.data)} bytes of '{message.format}'")
        return np.ascontiguousarray(bgr[..., ::-1])
    encoding = message.encoding.lower()
    if encoding not in TO_RGB:
        raise ValueError(f"expected an encoding among {', '.join(TO_RGB)}, got '{message.encoding}'")
    conversion = TO_RGB[encoding]
    pixels = rows_of(message, "u1")
    channels = pixels.shape[1] // message.width
    pixels = pixels[:, : message.width * channels].reshape(message.height, message.width, channels)
    pixels = pixels[..., 0] if channels == 1 else pixels
    return np.ascontiguousarray(pixels if conversion is None else cv2.cvtColor(pixels, conversion))


def decode_depth(message: Any) -> FloatArray:
    """(h, w) metres of an Image (16UC1 mm, 32FC1 m) or of PNG-compressed depth; 0 or NaN where there is none.

    Raises:
        ValueError: an encoding that is not known, or less data than it says.
    """
    if not hasattr(message, "encoding"):
        data = bytes(message.data)
        start = data.find(PNG_START)  # compressedDepth puts 12 bytes of quantisation before it
        stored = None if start < 0 else cv2.imdecode(np.frombuffer(data[start:], np.uint8), cv2.IMREAD_UNCHANGED)
        if stored is None or stored.dtype != np.uint16:
            raise ValueError(f"expected PNG-compressed 16UC1 depth, got '{message.format}'")
        return stored.astype(np.float32) * np.float32(1e-3)
    encoding = message.encoding.lower()
    if encoding not in DEPTH_UNITS:
        raise ValueError(f"expected a depth encoding among 16UC1, 32FC1, got '{message.encoding}'")
    kind, unit = DEPTH_UNITS[encoding]
    return rows_of(message, kind)[:, : message.width].astype(np.float32) * np.float32(unit)


def rows_of(message: Any, kind: str) -> NDArray[Any]:
    """(h, step / size) values of an Image, padding included, in the machine's byte order.

    Raises:
        ValueError: the message has less data than it says.
    """
    stored = np.dtype((">" if message.is_bigendian else "<") + kind)
    size = message.height * message.step
    if len(message.data) < size or not size:
        raise ValueError(f"expected {message.height} rows of {message.step} bytes, got {len(message.data)} bytes")
    values = np.frombuffer(bytes(message.data[:size]), stored).reshape(message.height, -1)
    return values.astype(np.dtype(kind))
