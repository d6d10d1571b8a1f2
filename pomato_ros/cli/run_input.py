"""What `pomato run` can read: recordings of known layouts, bags, videos and folders of images, all as frames."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pomato_ros.datasets.sensors.bag import Topics, is_bag, read_bag
from pomato_ros.datasets.sensors.layouts import open_sequence, recognise_layout
from pomato_ros.datasets.sensors.lens import Lens
from pomato_ros.datasets.sensors.sequence import SensorSequence
from pomato_ros.ros.frame_source import FolderSource, VideoSource, open_source, read_camera_file
from pomato_ros.structures import Frame, Intrinsics

FIRST_STAMP_NS = 1  # frames count from here, so that no stamp is zero


@dataclass(frozen=True, slots=True)
class RunInput:
    """Frames in order, and the recording that they belong to where there is one."""

    name: str
    layout: str  # of the recording, or video or images
    frames: Iterator[Frame]
    count: int | None  # None: not known before the end
    sequence: SensorSequence | None  # with truth and masks


def open_input(
    source: str, layout: str, rate_hz: float, topics: Topics, disparity_offset_px: float, limit: int | None
) -> RunInput:
    """The input that ``source`` names.

    Args:
        source: folder of a recording, bag, video file, folder of images.
        layout: of a recording; auto recognises it.
        rate_hz: of images in a folder without stamps.
        topics: of a bag.
        disparity_offset_px: true minus measured disparity of a KITTI pair.
        limit: most frames; None: all.

    Raises:
        ValueError: nothing there that can be read.
        OSError: a file is missing or broken.
    """
    path = Path(source).expanduser()
    if layout != "auto" or (path.is_dir() and recognise_layout(path) is not None):
        found = recognise_layout(path) if layout == "auto" else layout
        options = {"disparity_offset_px": disparity_offset_px} if found == "kitti" and disparity_offset_px else {}
        return of_sequence(open_sequence(path, layout, **options).first(limit))
    if is_bag(path):
        return of_sequence(read_bag(path, topics).first(limit))
    images = open_source(source, rate_hz)
    kind = "images" if isinstance(images, FolderSource) else "video"
    count = images.count if limit is None or images.count is None else min(limit, images.count)
    return RunInput(path.stem, kind, plain_frames(images, limit), count, None)


def of_sequence(sequence: SensorSequence) -> RunInput:
    """A recording as input."""
    return RunInput(sequence.name, sequence.layout, iter(sequence), len(sequence), sequence)


def plain_frames(images: FolderSource | VideoSource, limit: int | None) -> Iterator[Frame]:
    """Frames of a video or folder, calibrated by a ``camera_info.yaml`` beside them."""
    lens = None if images.calibration_file is None else lens_of_file(images.calibration_file)
    for number, frame in enumerate(images.frames()):
        if number == limit:
            return
        image_rgb = np.ascontiguousarray(frame.image_bgr[..., ::-1])
        stamp_ns = FIRST_STAMP_NS + (number if frame.offset_ns is None else frame.offset_ns)
        if lens is None:
            yield Frame(stamp_ns, image_rgb)
        else:
            yield Frame(stamp_ns, lens.rectify(image_rgb), lens.rectified, valid=lens.valid)


def lens_of_file(path: Path) -> Lens:
    """The lens that a ROS calibration file describes, kept at the raw image's camera matrix."""
    camera = read_camera_file(path)
    fx, _, cx, _, fy, cy, *_ = camera.camera_matrix
    raw = Intrinsics(fx, fy, cx, cy, camera.width_px, camera.height_px)
    return Lens(raw, tuple(camera.distortion))
