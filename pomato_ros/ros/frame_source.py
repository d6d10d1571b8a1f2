"""Frames with their times from a video file, a folder of images or a camera device."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
SUBFOLDERS = ("", "frames", "images")  # where a folder keeps its images
CALIBRATION_FILE, STAMPS_FILE = "camera_info.yaml", "stamps.txt"
DEVICE_PATTERN = re.compile(r"^(?:/dev/video)?(\d+)$")
Pixels = NDArray[np.uint8]


class SourceError(ValueError):
    """A video, folder or device that gives no frames; the message says why."""


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """One image and when it was taken, counted from the first one; None for a live camera."""

    image_bgr: Pixels  # (h, w, 3)
    offset_ns: int | None


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A folder of images, in the natural order of their names."""

    files: tuple[Path, ...]
    offsets_ns: tuple[int, ...]
    calibration_file: Path | None

    @property
    def count(self) -> int | None:
        """How many frames one pass gives."""
        return len(self.files)

    def frames(self) -> Iterator[SourceFrame]:
        """One pass over the folder."""
        for file, offset_ns in zip(self.files, self.offsets_ns, strict=True):
            image_bgr = cv2.imread(str(file), cv2.IMREAD_COLOR)
            if image_bgr is None:
                raise SourceError(f"{file} is no image that can be read; remove it or convert it")
            yield SourceFrame(np.asarray(image_bgr, np.uint8), offset_ns)


@dataclass(frozen=True, slots=True)
class VideoSource:
    """A video file, or a camera device where ``live``."""

    target: str | int
    calibration_file: Path | None
    live: bool

    @property
    def count(self) -> int | None:
        """How many frames one pass gives; None where only playing tells."""
        if self.live:
            return None
        capture = open_capture(self.target)
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        return count if count > 0 else None

    def frames(self) -> Iterator[SourceFrame]:
        """One pass over the file, or the camera's frames without end."""
        capture = open_capture(self.target)
        rate_hz = capture.get(cv2.CAP_PROP_FPS) or 30.0
        index = 0
        try:
            while True:
                came, image_bgr = capture.read()
                if not came:
                    return
                offset_ns = None if self.live else round(index * 1e9 / rate_hz)
                yield SourceFrame(np.asarray(image_bgr, np.uint8), offset_ns)
                index += 1
        finally:
            capture.release()


def open_source(video: str, folder_rate_hz: float) -> FolderSource | VideoSource:
    """The source that ``video`` names: a device (``0`` or ``/dev/video0``), a folder or a file.

    A ``camera_info.yaml`` and a ``stamps.txt`` (one integer in ns a line) beside the images are used.
    ``folder_rate_hz`` spaces the images of a folder without stamps.

    Raises:
        SourceError: Nothing is there, or it holds no frames.
    """
    device = DEVICE_PATTERN.match(video)
    if device:
        return VideoSource(int(device.group(1)), None, live=True)
    path = Path(video).expanduser()
    if path.is_dir():
        return open_folder(path, folder_rate_hz)
    if not path.is_file():
        raise SourceError(f"no video, folder or device at '{video}' (looked for {path.absolute()})")
    open_capture(str(path)).release()
    return VideoSource(str(path), beside(path.parent, CALIBRATION_FILE), live=False)


def open_folder(folder: Path, rate_hz: float) -> FolderSource:
    """A folder of images, or one that keeps them in ``frames`` or ``images``."""
    for name in SUBFOLDERS:
        files = image_files(folder / name)
        if files:
            offsets_ns = stamp_offsets(beside(files[0].parent, STAMPS_FILE), len(files), rate_hz)
            return FolderSource(files, offsets_ns, beside(files[0].parent, CALIBRATION_FILE))
    raise SourceError(
        f"no images in {folder}: expected {', '.join(sorted(IMAGE_SUFFIXES))} there or in frames/, images/"
    )


def image_files(folder: Path) -> tuple[Path, ...]:
    """The images of a folder in natural order: frame2 before frame10."""
    if not folder.is_dir():
        return ()
    files = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    return tuple(sorted(files, key=natural_key))


def natural_key(path: Path) -> list[tuple[int, str]]:
    """Sorts digits by their number and the rest by letters."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def beside(folder: Path, name: str) -> Path | None:
    """A file of this name in the folder or in the one above it."""
    return next((path for path in (folder / name, folder.parent / name) if path.is_file()), None)


def stamp_offsets(file: Path | None, count: int, rate_hz: float) -> tuple[int, ...]:
    """Times from the first frame, ns: from ``stamps.txt``, else evenly spaced.

    Raises:
        SourceError: Another number of stamps than images, or stamps that do not rise.
    """
    if file is None:
        return tuple(round(index * 1e9 / rate_hz) for index in range(count))
    stamps = [int(line) for line in file.read_text(encoding="ascii").split()]
    if len(stamps) != count:
        raise SourceError(f"{file}: expected {count} stamps, one for each image, got {len(stamps)}")
    if any(later <= earlier for earlier, later in zip(stamps, stamps[1:], strict=False)):
        raise SourceError(f"{file}: expected stamps that rise")
    return tuple(stamp - stamps[0] for stamp in stamps)


def open_capture(target: str | int) -> Any:
    """OpenCV's reader of a video or a camera.

    Raises:
        SourceError: It cannot be opened.
    """
    capture = cv2.VideoCapture(target)
    if not capture.isOpened():
        raise SourceError(
            f"'{target}' cannot be opened as a video; is the file whole, the camera free and the codec known?"
        )
    return capture


@dataclass(frozen=True, slots=True)
class CameraFile:
    """A calibration file as ROS writes it (camera_calibration_parsers)."""

    width_px: int
    height_px: int
    distortion_model: str
    distortion: tuple[float, ...]
    camera_matrix: tuple[float, ...]  # 9, row-major
    rectification: tuple[float, ...]  # 9
    projection: tuple[float, ...]  # 12


def read_camera_file(path: Path) -> CameraFile:
    """Read a ROS calibration file.

    Raises:
        SourceError: A field is missing or has another length.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        camera = CameraFile(
            width_px=int(content["image_width"]),
            height_px=int(content["image_height"]),
            distortion_model=str(content["distortion_model"]),
            distortion=numbers(content["distortion_coefficients"]),
            camera_matrix=numbers(content["camera_matrix"]),
            rectification=numbers(content["rectification_matrix"]),
            projection=numbers(content["projection_matrix"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(
            f"{path}: expected a calibration as camera_calibration writes it; missing or bad: {error}"
        ) from error
    lengths = len(camera.camera_matrix), len(camera.rectification), len(camera.projection)
    if lengths != (9, 9, 12):
        raise SourceError(f"{path}: expected matrices of 9, 9 and 12 numbers, got {lengths}")
    return camera


def numbers(matrix: Any) -> tuple[float, ...]:
    """The data of one matrix entry."""
    return tuple(float(value) for value in matrix["data"])


def limit_size(image_bgr: Pixels, max_side_px: int) -> Pixels:
    """The image, reduced so that its long side is at most ``max_side_px``; 0 leaves it as it is."""
    long_side = max(image_bgr.shape[:2])
    if max_side_px <= 0 or long_side <= max_side_px:
        return image_bgr
    scale = max_side_px / long_side
    size = (round(image_bgr.shape[1] * scale), round(image_bgr.shape[0] * scale))
    return np.asarray(cv2.resize(image_bgr, size, interpolation=cv2.INTER_AREA), np.uint8)
