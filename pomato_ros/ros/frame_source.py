"""Frames with their times from a video file, a folder of images or a camera device."""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import yaml
from numpy.typing import NDArray

from pomato_ros.errors import PomatoError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
FOREIGN_SUFFIXES = frozenset({".heic", ".heif", ".avif", ".gif", ".dng", ".raw", ".cr2", ".nef", ".arw"})
SUBFOLDERS = ("", "frames", "images")  # where a folder keeps its images
CALIBRATION_FILE, STAMPS_FILE = "camera_info.yaml", "stamps.txt"
DEVICE_PATTERN = re.compile(r"^(?:/dev/video)?(\d+)$")
MOST_FAILED_READS = 64  # consecutive frames of a video that cannot be decoded before it counts as over
SHORTEST_LOSS_S = 0.5  # of the end of a video; less is the rounding of its length
Pixels = NDArray[np.uint8]


class SourceError(PomatoError, ValueError):
    """A video, folder or device that gives no frames; the message says why."""


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """One image and when it was taken, counted from the first one; None for a live camera."""

    image_bgr: Pixels  # (h, w, 3)
    offset_ns: int | None


@dataclass(slots=True)
class Skips:
    """Frames of the newest pass that could not be read, each as `name: reason`."""

    reasons: list[str] = field(default_factory=list)

    def sentence(self, shown: int = 3) -> str:
        """How many frames were left out and why, or nothing."""
        if not self.reasons:
            return ""
        more = f", and {len(self.reasons) - shown} more" if len(self.reasons) > shown else ""
        return f"left out {len(self.reasons)} that cannot be read: {'; '.join(self.reasons[:shown])}{more}"


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A folder of images, in the natural order of their names."""

    files: tuple[Path, ...]
    offsets_ns: tuple[int, ...]
    calibration_file: Path | None
    foreign: tuple[str, ...] = ()  # names of pictures in formats that are not read
    skips: Skips = field(default_factory=Skips)

    @property
    def count(self) -> int | None:
        """How many frames one pass gives, those that cannot be read among them."""
        return len(self.files)

    def frames(self) -> Iterator[SourceFrame]:
        """One pass over the folder; what cannot be read is left out and noted in ``skips``.

        Raises:
            SourceError: No file of the folder can be read.
        """
        self.skips.reasons.clear()
        depth = BitDepth()
        for file, offset_ns in zip(self.files, self.offsets_ns, strict=True):
            try:
                image_bgr = depth.as_8_bit(read_image(file))
            except UnreadableImage as error:
                self.skips.reasons.append(f"{file.name}: {error}")
                continue
            yield SourceFrame(image_bgr, offset_ns)
        if len(self.skips.reasons) == len(self.files):
            raise SourceError(f"no image of {self.files[0].parent} can be read: {self.skips.sentence()}")


@dataclass(frozen=True, slots=True)
class VideoSource:
    """A video file, or a camera device where ``live``."""

    target: str | int
    calibration_file: Path | None
    live: bool
    foreign: tuple[str, ...] = ()
    skips: Skips = field(default_factory=Skips)

    @property
    def count(self) -> int | None:
        """How many frames the file says one pass gives; None where only playing shows it."""
        if self.live:
            return None
        capture = open_capture(self.target)
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        return count if count > 0 else None

    def frames(self) -> Iterator[SourceFrame]:
        """One pass over the file with each frame's own time, or the camera's frames without end.

        A frame that cannot be decoded is left out and noted in ``skips``, and so is an end that comes before the
        length that the file states.

        Raises:
            SourceError: Nothing can be decoded, or the camera gives no more images.
        """
        self.skips.reasons.clear()
        capture = open_capture(self.target)
        try:
            yield from live_frames(capture, self.target) if self.live else file_frames(capture, self.skips)
        finally:
            capture.release()
        if self.skips.reasons and self.skips.reasons[-1] == NOTHING_DECODED:
            raise SourceError(f"no frame of '{self.target}' can be decoded; is the file whole and the codec known?")


NOTHING_DECODED = "nothing was decoded"


def live_frames(capture: Any, target: str | int) -> Iterator[SourceFrame]:
    """The frames of a camera until it stops."""
    while True:
        came, image_bgr = capture.read()
        if not came:
            raise SourceError(f"camera '{target}' gives no more images; is it still connected?")
        yield SourceFrame(np.asarray(image_bgr, np.uint8), None)


def file_frames(capture: Any, skips: Skips) -> Iterator[SourceFrame]:
    """The frames of a video file with their own times, over frames that cannot be decoded."""
    rate_hz = capture.get(cv2.CAP_PROP_FPS) or 30.0
    length_s = capture.get(cv2.CAP_PROP_FRAME_COUNT) / rate_hz
    first_ms = newest_ns = None
    index = failed = 0
    while failed <= MOST_FAILED_READS:
        came, image_bgr = capture.read()
        if not came:
            failed += 1
            continue
        if failed:
            skips.reasons.append(f"frame {index}: cannot be decoded")
        failed = 0
        time_ms = capture.get(cv2.CAP_PROP_POS_MSEC)
        first_ms = time_ms if first_ms is None else first_ms
        offset_ns = round((time_ms - first_ms) * 1e6)
        if newest_ns is not None and offset_ns <= newest_ns:  # a container without times
            offset_ns = newest_ns + round(1e9 / rate_hz)
        newest_ns = offset_ns
        index += 1
        yield SourceFrame(np.asarray(image_bgr, np.uint8), offset_ns)
    if newest_ns is None:
        skips.reasons.append(NOTHING_DECODED)
    elif length_s - newest_ns * 1e-9 - 1.0 / rate_hz > SHORTEST_LOSS_S:
        skips.reasons.append(f"the file states {length_s:.1f} s and ends after {newest_ns * 1e-9:.1f} s")


class UnreadableImage(PomatoError, ValueError):  # noqa: N818 - it is about the file, not an error of the program
    """An image file that cannot be decoded whole; the message says why."""


class BitDepth:
    """Brings images of 16 bits a channel to 8, by the range that the images of one pass really use.

    Cameras of 10 and 12 bits leave the upper bits zero. The range only grows: brightness does not flicker.
    """

    def __init__(self) -> None:
        """No image of 16 bits was seen yet."""
        self._bits = 8

    def as_8_bit(self, image: NDArray[Any]) -> Pixels:
        """The image with 8 bits a channel."""
        if image.dtype != np.uint16:
            return np.asarray(image, np.uint8)
        used = int(image.max(initial=0)).bit_length()
        self._bits = max(self._bits, next(bits for bits in (8, 10, 12, 14, 16) if used <= bits))
        return np.asarray(image >> (self._bits - 8), np.uint8)


def read_image(file: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """An image file as (h, w, 3) BGR of 8 or 16 bits a channel, turned as its EXIF orientation says.

    Raises:
        UnreadableImage: It is empty, cut off, or no image.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UnreadableImage(error.strerror or str(error)) from error
    if not data:
        raise UnreadableImage("the file is empty")
    if not ends_as_it_should(data) and is_truncated(data):
        raise UnreadableImage("the file is cut off")
    try:
        encoded = np.frombuffer(data, np.uint8)
        image_bgr = cv2.imdecode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        if image_bgr is not None and image_bgr.dtype not in (np.uint8, np.uint16):
            image_bgr = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise UnreadableImage(f"OpenCV cannot decode it ({error.err})") from error
    if image_bgr is None:
        raise UnreadableImage("OpenCV cannot decode it")
    return image_bgr


def ends_as_it_should(data: bytes) -> bool:
    """Whether a JPEG or PNG ends with its own end mark, which most do."""
    return (data[:2] == b"\xff\xd8" and data[-2:] == b"\xff\xd9") or (data[:4] == b"\x89PNG" and data[-8:-4] == b"IEND")


def is_truncated(data: bytes) -> bool:
    """Whether Pillow, which refuses images that are cut off, cannot load one that it recognises."""
    try:
        image = PIL.Image.open(io.BytesIO(data))
    except (OSError, ValueError, PIL.Image.DecompressionBombError):
        return False  # not known to Pillow: OpenCV decides
    try:
        image.load()
    except (OSError, ValueError, SyntaxError):
        return True
    return False


def open_source(video: str, folder_rate_hz: float) -> FolderSource | VideoSource:
    """The source that ``video`` names: a device (``0`` or ``/dev/video0``), a folder or a file; ``~`` is the home.

    A ``camera_info.yaml`` and a ``stamps.txt`` (one integer in ns a line) beside the images are used.
    ``folder_rate_hz`` spaces the images of a folder without stamps.

    Raises:
        SourceError: Nothing is there, or it holds no frames.
    """
    if not video.strip():
        raise SourceError("no source: set video to a video file, a folder of images or a camera device (0)")
    device = DEVICE_PATTERN.match(video)
    if device:
        return VideoSource(int(device.group(1)), None, live=True)
    path = expanded(video)
    if path.is_dir():
        return open_folder(path, folder_rate_hz)
    if not path.is_file():
        raise SourceError(f"no video, folder or device at '{video}' (looked for {path.absolute()})")
    open_capture(str(path)).release()
    return VideoSource(str(path), beside(path.parent, CALIBRATION_FILE), live=False)


def expanded(path: str) -> Path:
    """The path with ``~`` as the home; left as it is where there is no such home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def open_folder(folder: Path, rate_hz: float) -> FolderSource:
    """A folder of images, or one that keeps them in ``frames`` or ``images``."""
    if not (np.isfinite(rate_hz) and rate_hz > 0.0):
        raise SourceError(f"folder_rate: expected images a second above 0, got {rate_hz}")
    for name in SUBFOLDERS:
        files = files_with(folder / name, IMAGE_SUFFIXES)
        if files:
            offsets_ns = stamp_offsets(beside(files[0].parent, STAMPS_FILE), len(files), rate_hz)
            foreign = tuple(path.name for path in files_with(folder / name, FOREIGN_SUFFIXES))
            return FolderSource(files, offsets_ns, beside(files[0].parent, CALIBRATION_FILE), foreign)
    foreign = tuple(path.name for name in SUBFOLDERS for path in files_with(folder / name, FOREIGN_SUFFIXES))
    raise SourceError(
        f"no images in {folder}: expected {', '.join(sorted(IMAGE_SUFFIXES))} there or in frames/, images/"
        + (f"; {foreign_sentence(foreign)}" if foreign else "")
    )


def foreign_sentence(names: tuple[str, ...]) -> str:
    """What pictures of other formats are there and what to do with them."""
    return f"{len(names)} pictures such as {names[0]} are of a format that is not read: convert them to JPEG or PNG"


def files_with(folder: Path, suffixes: frozenset[str]) -> tuple[Path, ...]:
    """The files of a folder with one of the suffixes in natural order (frame2 before frame10), without hidden ones."""
    if not folder.is_dir():
        return ()
    files = [path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith(".")]
    return tuple(sorted((path for path in files if path.is_file()), key=natural_key))


def natural_key(path: Path) -> list[tuple[int, str]]:
    """Sorts digits by their number and the rest by letters."""
    parts = re.split(r"([0-9]+)", path.name)
    return [(int(part), "") if index % 2 else (-1, part) for index, part in enumerate(parts)]


def beside(folder: Path, name: str) -> Path | None:
    """A file of this name in the folder or in the one above it."""
    return next((path for path in (folder / name, folder.parent / name) if path.is_file()), None)


def stamp_offsets(file: Path | None, count: int, rate_hz: float) -> tuple[int, ...]:
    """Times from the first frame, ns: from ``stamps.txt``, else evenly spaced.

    Raises:
        SourceError: Another number of stamps than images, lines that are no integers, or stamps that do not rise.
    """
    if file is None:
        return tuple(round(index * 1e9 / rate_hz) for index in range(count))
    stamps = read_stamps(file)
    if len(stamps) != count:
        raise SourceError(f"{file}: expected {count} stamps, one for each image, got {len(stamps)}")
    if any(later <= earlier for earlier, later in zip(stamps, stamps[1:], strict=False)):
        raise SourceError(f"{file}: expected stamps that rise")
    return tuple(stamp - stamps[0] for stamp in stamps)


def read_stamps(file: Path) -> list[int]:
    """The integers of a stamps file, ns."""
    try:
        lines = file.read_text(encoding="ascii").split()
    except UnicodeDecodeError as error:
        raise SourceError(f"{file}: expected one integer in ns a line, got bytes that are no ASCII text") from error
    for number, line in enumerate(lines, start=1):
        if not re.fullmatch(r"-?[0-9]{1,19}", line):
            raise SourceError(f"{file}: expected one integer in ns a line, got {line[:40]!r} as number {number}")
    return [int(line) for line in lines]


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
        SourceError: It is no YAML, a field is missing, or a value is impossible.
    """
    content = read_yaml(path)
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
    check_camera(path, camera)
    return camera


def read_yaml(path: Path) -> Any:
    """The plain data of a small YAML file."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, OSError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise SourceError(
            f"{path}: expected a YAML file of plain values, got one that cannot be read: {first_line}"
        ) from error


def check_camera(path: Path, camera: CameraFile) -> None:
    """Raise where no camera can have these numbers."""
    lengths = len(camera.camera_matrix), len(camera.rectification), len(camera.projection)
    if lengths != (9, 9, 12):
        raise SourceError(f"{path}: expected matrices of 9, 9 and 12 numbers, got {lengths}")
    if camera.width_px < 1 or camera.height_px < 1:
        raise SourceError(
            f"{path}: expected image_width and image_height above 0, got {camera.width_px} x {camera.height_px}"
        )
    values = (*camera.camera_matrix, *camera.distortion, *camera.rectification, *camera.projection)
    if not np.isfinite(values).all():
        raise SourceError(f"{path}: expected finite numbers, got NaN or infinity")
    if camera.camera_matrix[0] <= 0.0 or camera.camera_matrix[4] <= 0.0:
        raise SourceError(
            f"{path}: expected focal lengths above 0 px in camera_matrix, got {camera.camera_matrix[0]} and "
            f"{camera.camera_matrix[4]}; leave the file away if the camera is not calibrated"
        )


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
