"""Frames of anything that lies on disk: a recorded camera's folder, a bag, a video file, or a folder of images."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import yaml

from pomato_ros.datasets.files import read_rgb
from pomato_ros.datasets.sensors.layouts import open_sequence, recognise_layout
from pomato_ros.errors import UnusableFrame
from pomato_ros.structures import Frame, Intrinsics

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v"})
BAG_SUFFIXES = frozenset({".bag", ".db3", ".mcap"})
SUBFOLDERS = ("", "frames", "images", "rgb")
USUAL_RATE_HZ = 30.0  # where nothing says when an image was taken
STAMPS_FILE = "stamps.txt"
CALIBRATION_FILE = "camera_info.yaml"


class FrameSequence(Protocol):
    """Frames in the order of time, as often as they are asked for."""

    @property
    def name(self) -> str:
        """Short name of the recording."""

    def __len__(self) -> int:
        """Number of frames, as far as it is known before reading."""

    def __iter__(self) -> Iterator[Frame]:
        """All frames."""


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """Images in the natural order of their names."""

    name: str
    files: tuple[Path, ...]
    stamps_ns: tuple[int, ...]
    intrinsics: Intrinsics | None = None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.files)

    def __iter__(self) -> Iterator[Frame]:
        """All frames."""
        return (self.read_frame(number) for number in range(len(self)))

    def read_frame(self, number: int) -> Frame:
        """One frame."""
        return Frame(self.stamps_ns[number], read_rgb(self.files[number]), self.intrinsics)


@dataclass(frozen=True, slots=True)
class VideoFile:
    """A video, decoded from its beginning each time."""

    name: str
    path: Path

    def __len__(self) -> int:
        """Number of frames that the file announces."""
        capture = self._open()
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        return max(count, 0)

    def __iter__(self) -> Iterator[Frame]:
        """All frames; times are the file's own."""
        capture = self._open()
        rate_hz = capture.get(cv2.CAP_PROP_FPS) or USUAL_RATE_HZ
        last_ns, number = -1, 0
        try:
            while True:
                stamp_ns = round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
                came, image_bgr = capture.read()
                if not came:
                    return
                last_ns = stamp_ns if stamp_ns > last_ns else round(number * 1e9 / rate_hz)
                yield Frame(last_ns + 1, np.ascontiguousarray(image_bgr[..., ::-1], dtype=np.uint8))
                number += 1
        finally:
            capture.release()

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self.path))
        if not capture.isOpened():
            raise UnusableFrame(f"{self.path} cannot be opened as a video; is the file whole and its codec known?")
        return capture


def open_frames(path: Path) -> FrameSequence:
    """The frames of ``path``.

    Raises:
        UnusableFrame: nothing that can be read lies there.
    """
    if _is_bag(path):
        from pomato_ros.datasets.sensors.bag import read_bag

        return read_bag(path)
    if path.is_dir():
        if recognise_layout(path) is not None:
            return open_sequence(path)
        return open_images(path)
    if path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES:
        return VideoFile(path.stem, path)
    raise UnusableFrame(
        f"expected a folder of images, a recorded sequence, a ROS bag or a video, got {path}; videos end in "
        + ", ".join(sorted(VIDEO_SUFFIXES))
    )


def _is_bag(path: Path) -> bool:
    """Whether ``path`` is a ROS bag, a file or a folder with its metadata."""
    return path.suffix.lower() in BAG_SUFFIXES or (path.is_dir() and (path / "metadata.yaml").is_file())


def open_images(folder: Path) -> ImageFolder:
    """The images of a folder, or of ``frames``, ``images`` or ``rgb`` in it; stamps from ``stamps.txt`` (ns) if there.

    Raises:
        UnusableFrame: there are none, or another number of stamps.
    """
    for name in SUBFOLDERS:
        place = folder / name
        found = place.iterdir() if place.is_dir() else iter(())
        files = sorted(
            (f for f in found if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith(".")), key=natural_key
        )
        if files:
            return ImageFolder(folder.name, tuple(files), _stamps(place, len(files)), _camera(place))
    raise UnusableFrame(f"no images in {folder}; expected {', '.join(sorted(IMAGE_SUFFIXES))} there or in a subfolder")


def natural_key(path: Path) -> list[tuple[int, str]]:
    """Sorts digits by their number and the rest by letters: frame2 before frame10."""
    return [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", path.name)]


def _camera(folder: Path) -> Intrinsics | None:
    """The pinhole camera of a ``camera_info.yaml`` beside the images or above them, if its images are rectified."""
    file = _beside(folder, CALIBRATION_FILE)
    if file is None:
        return None
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    try:
        matrix = [float(value) for value in content["camera_matrix"]["data"]]
        distorted = any(float(value) for value in content["distortion_coefficients"]["data"])
        size = int(content["image_width"]), int(content["image_height"])
    except (KeyError, TypeError, ValueError) as error:
        raise UnusableFrame(f"{file}: expected a calibration as camera_calibration writes it, got {error}") from error
    if distorted or len(matrix) != 9:
        raise UnusableFrame(f"{file}: expected rectified images, whose distortion is 0; rectify them first")
    return Intrinsics(matrix[0], matrix[4], matrix[2], matrix[5], *size)


def _beside(folder: Path, name: str) -> Path | None:
    """A file of this name in the folder or in the one above it."""
    return next((place / name for place in (folder, folder.parent) if (place / name).is_file()), None)


def _stamps(folder: Path, count: int) -> tuple[int, ...]:
    file = _beside(folder, STAMPS_FILE)
    if file is None:
        return tuple(round((number + 1) * 1e9 / USUAL_RATE_HZ) for number in range(count))
    stamps = tuple(int(line) for line in file.read_text(encoding="ascii").split())
    if len(stamps) != count:
        raise UnusableFrame(f"{file}: expected {count} stamps, one for each image, got {len(stamps)}")
    return stamps


def frames_between(sequence: FrameSequence, start: int, count: int) -> Iterator[Frame]:
    """Frames ``start`` to ``start + count - 1`` of a sequence, read directly where it can be."""
    read = getattr(sequence, "read_frame", None)
    if callable(read):
        yield from (read(number) for number in range(start, min(start + count, len(sequence))))
        return
    yield from islice(iter(sequence), start, start + count)


def backend_for(first: Frame, otherwise: str) -> str:
    """The backend of the sensors that a recording's first frame has; ``otherwise`` where it is an image alone."""
    if first.intrinsics is None:
        return otherwise
    if first.depth_m is not None:
        return "rgbd"
    return "stereo" if first.right_rgb is not None else otherwise
