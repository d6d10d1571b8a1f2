"""Reads a recording of the node back into plain arrays, checking on the way that the outputs belong together."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomato_ros.evaluation.recorded_run import RecordedRun, RecordedStep, RecordedTracks, Showcase, showcase_worth
from pomato_ros.ros import topics
from pomato_ros.ros.conversions.cloud import cloud_records, unpacked_rgb
from pomato_ros.ros.conversions.image_decoding import decode_image
from pomato_ros.ros.conversions.poses import matrix_from_pose
from pomato_ros.ros.conversions.stamps import stamp_ns_from_time
from pomato_ros.ros.frames import OPTICAL_ROTATION, UNKNOWN_VARIANCE
from pomato_ros.ros.recording import RecordedMessage, read_recording

IMAGE_TOPIC = f"/{topics.IMAGE.name}"
MAX_PIXELS = 2**31
NEEDED = (topics.DEPTH_IMAGE, topics.DEPTH_INFO, topics.MASK_IMAGE, topics.ODOMETRY, topics.TRACKS)


def expected_topics(node_name: str) -> list[str]:
    """Every output that a run must have."""
    outputs = [topic.name.replace("~", node_name) for topic in topics.SCENE_OUTPUTS]
    return [*outputs, topics.TF_TOPIC, topics.DIAGNOSTICS.name]


def read_run(path: Path, node_name: str) -> RecordedRun:
    """The run of the node ``node_name`` (absolute) in a recording."""
    counts: Counter[str] = Counter({name: 0 for name in expected_topics(node_name)})
    images: dict[int, int] = {}
    outputs: dict[int, dict[str, RecordedMessage]] = defaultdict(dict)
    diagnostics: Any = None
    for record in read_recording(path):
        counts[record.topic] += 1
        if record.topic == IMAGE_TOPIC:
            images[stamp_of(record)] = record.published_ns
        elif record.topic.startswith(f"{node_name}/") and hasattr(record.message, "header"):
            outputs[stamp_of(record)][record.topic.replace(node_name, "~", 1)] = light(record)
        elif record.topic == topics.DIAGNOSTICS.name:
            diagnostics = record.message
    steps = [
        make_step(stamp, images[stamp], outputs[stamp]) for stamp in sorted(outputs) if whole(stamp, images, outputs)
    ]
    frames_in, passed_over = input_counters(diagnostics)
    return RecordedRun(dict(counts), tuple(steps), tuple(images), frames_in, passed_over)


def light(record: RecordedMessage) -> RecordedMessage:
    """Clouds and pictures are not kept for every step: only when they came."""
    kept = {topic.name for topic in NEEDED}
    name = "~/" + record.topic.split("/", 2)[2]
    return record if name in kept else RecordedMessage(record.topic, record.received_ns, record.published_ns, None)


def stamp_of(record: RecordedMessage) -> int:
    """The header's stamp."""
    return stamp_ns_from_time(record.message.header.stamp)


def whole(stamp: int, images: dict[int, int], outputs: dict[int, dict[str, RecordedMessage]]) -> bool:
    """Whether the image and all needed outputs of a stamp were recorded."""
    return stamp in images and all(topic.name in outputs[stamp] for topic in NEEDED)


def make_step(stamp_ns: int, image_published_ns: int, outputs: dict[str, RecordedMessage]) -> RecordedStep:
    """One step from its messages."""
    messages = {topic: outputs[topic.name].message for topic in NEEDED}
    return RecordedStep(
        stamp_ns=stamp_ns,
        image_published_ns=image_published_ns,
        outputs_published_ns=max(record.published_ns for record in outputs.values()),
        depth=float_image(messages[topics.DEPTH_IMAGE]),
        camera_matrix=np.array(messages[topics.DEPTH_INFO].k, np.float64).reshape(3, 3),
        mask=decode_image(messages[topics.MASK_IMAGE], MAX_PIXELS)[..., 0] > 0,
        odom_from_camera=camera_pose(messages[topics.ODOMETRY]),
        tracks=recorded_tracks(messages[topics.TRACKS]),
        has_points=topics.POINTS.name in outputs,
    )


def float_image(message: Any) -> NDArray[np.float32]:
    """The (h, w) values of a 32FC1 image."""
    return np.frombuffer(message.data, np.float32).reshape(message.height, message.width)


def camera_pose(odometry: Any) -> NDArray[np.float64] | None:
    """Odom <- optical of a camera that looks forward from the base, as the frame publisher mounts it."""
    if odometry.pose.covariance[0] >= UNKNOWN_VARIANCE:
        return None
    pose = matrix_from_pose(odometry.pose.pose)
    pose[:3, :3] = pose[:3, :3] @ OPTICAL_ROTATION
    return pose


def recorded_tracks(message: Any) -> RecordedTracks:
    """Ids, positions and motion of a TrackArray."""
    positions = [(track.position.x, track.position.y, track.position.z) for track in message.tracks]
    return RecordedTracks(
        ids=np.array([track.id for track in message.tracks], np.int64),
        positions_odom=np.array(positions, np.float64).reshape(-1, 3),
        dynamic=np.array([track.dynamic for track in message.tracks], bool),
    )


def input_counters(diagnostics: Any) -> tuple[int, int]:
    """frames_in and frames_passed_over of the last diagnostics."""
    statuses = [] if diagnostics is None else diagnostics.status
    values = {pair.key: pair.value for status in statuses if status.name.endswith(": input") for pair in status.values}
    return int(values.get("frames_in", 0)), int(values.get("frames_passed_over", 0))


def read_showcase(path: Path, node_name: str, run: RecordedRun) -> Showcase:
    """The picture material of the step that shows most."""
    stamp_ns = showcase_stamp(run)
    wanted = {IMAGE_TOPIC, topics.POINTS.name.replace("~", node_name)}
    image_rgb, records = None, None
    for record in read_recording(path, wanted):
        if stamp_of(record) != stamp_ns:
            continue
        if record.topic == IMAGE_TOPIC:
            image_rgb = decode_image(record.message, MAX_PIXELS)
        else:
            records = cloud_records(record.message)
    if image_rgb is None or records is None:
        raise ValueError(f"{path} holds no image or no points of {stamp_ns} ns")
    step = next(step for step in run.steps if step.stamp_ns == stamp_ns)
    points = np.stack([records[axis] for axis in "xyz"], axis=-1)
    colours = unpacked_rgb(np.ascontiguousarray(records["rgb"]))
    return Showcase(step, image_rgb, points, colours, records["dynamic"].astype(bool))


def showcase_stamp(run: RecordedRun) -> int:
    """The step to show: in the later half, tracked, with something moving but not everything."""
    return max(run.steps[len(run.steps) // 2 :], key=showcase_worth).stamp_ns
