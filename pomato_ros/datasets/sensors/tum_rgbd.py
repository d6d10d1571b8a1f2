"""TUM RGB-D benchmark folders, and Bonn's, which follow them: rgb/, depth/, lists of stamps, groundtruth.txt.

Depth PNGs hold 1/5000 m, registered to the colour image; 0 is none. Colour and depth are exposed at different times:
pairs come from ``associations.txt`` or, without it, are those nearest in time within a bound.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pomato_ros.datasets.files import read_png, read_rgb
from pomato_ros.datasets.sensors.lens import Lens
from pomato_ros.datasets.sensors.sequence import SensorSequence
from pomato_ros.datasets.sensors.stamps import interpolate_poses, nearest_pairs, read_tum_trajectory, stamp_ns
from pomato_ros.structures import Frame, Intrinsics, PoseArray

STEPS_PER_M = 5000.0
MAX_OFFSET_NS = 20_000_000  # between colour and depth, as the benchmark's own association tool has it
MAX_POSE_GAP_NS = 100_000_000  # between the two true poses that enclose an image
CAMERA_FILE = "camera.txt"  # optional: fx fy cx cy [k1 k2 p1 p2 k3]
CAMERAS = {  # fx fy cx cy k1 k2 p1 p2 k3, px; the benchmark's "intrinsic camera calibration", and Bonn's page
    "freiburg1": (517.3, 516.5, 318.6, 255.3, 0.2624, -0.9531, -0.0054, 0.0026, 1.1633),
    "freiburg2": (520.9, 521.0, 325.1, 249.7, 0.2312, -0.7849, -0.0033, -0.0001, 0.9172),
    "freiburg3": (535.4, 539.2, 320.1, 247.6),
    "bonn": (542.822841, 542.576870, 315.593520, 237.756098, 0.039903, -0.099343, -0.000730, -0.000144, 0.0),
    "kinect": (525.0, 525.0, 319.5, 239.5),  # the ROS default that the benchmark gives for an unknown camera
}
SHORT_NAMES = {"fr1": "freiburg1", "fr2": "freiburg2", "fr3": "freiburg3"}


@dataclass(frozen=True, slots=True)
class ImagePair:
    """One colour image and its depth image."""

    stamp_ns: int  # of the colour image
    colour: Path
    depth: Path
    offset_ns: int  # depth after colour


def read_tum_rgbd(folder: Path, camera: str = "auto", max_offset_ns: int = MAX_OFFSET_NS) -> SensorSequence:
    """The recording in ``folder``.

    Args:
        folder: holds ``rgb``, ``depth``, optionally ``associations.txt``, ``groundtruth.txt`` and ``camera.txt``.
        camera: one of :data:`CAMERAS`; auto: from ``camera.txt``, else from the folder's name.
        max_offset_ns: colour images without a depth image this near are left out.

    Raises:
        ValueError: no pair of images, or files that hold something else.
        OSError: a file is missing.
    """
    pairs = image_pairs(folder, max_offset_ns)
    if not pairs:
        raise ValueError(
            f"{folder}: expected colour images in rgb/ and depth images in depth/ within {max_offset_ns * 1e-6:g} ms "
            "of each other, found no pair; check the stamps or allow a larger offset"
        )
    name, numbers = camera_numbers(folder, camera)
    height, width = read_rgb(pairs[0].colour).shape[:2]
    fx, fy, cx, cy, *distortion = numbers
    lens = Lens(Intrinsics(fx, fy, cx, cy, width, height), tuple(distortion))

    def read_frame(t: int) -> Frame:
        pair = pairs[t]
        depth_m = read_png(pair.depth, np.uint16, 1).astype(np.float32) / np.float32(STEPS_PER_M)
        return Frame(
            stamp_ns=pair.stamp_ns,
            image_rgb=lens.rectify(read_rgb(pair.colour)),
            intrinsics=lens.rectified,
            depth_m=lens.rectify_depth(depth_m),
            valid=lens.valid,
        )

    offsets_ms = np.array([pair.offset_ns for pair in pairs]) * 1e-6
    return SensorSequence(
        name=folder.name,
        layout="bonn" if name == "bonn" else "tum_rgbd",
        stamps_ns=tuple(pair.stamp_ns for pair in pairs),
        read_frame=read_frame,
        world_from_camera=true_poses(folder, [pair.stamp_ns for pair in pairs]),
        facts={
            "camera": name,
            "depth_offset_ms_median": float(np.median(offsets_ms)),
            "depth_offset_ms_worst": float(np.abs(offsets_ms).max()),
        },
    )


def image_pairs(folder: Path, max_offset_ns: int) -> list[ImagePair]:
    """Colour images with their depth images, by time; those of a stamp that came before are left out."""
    listed = folder / "associations.txt"
    if listed.is_file():
        rows = [line.split() for line in listed.read_text().splitlines() if line.strip() and line[0] != "#"]
        colour = [(stamp_ns(row[0]), folder / row[1]) for row in rows]
        depth = [(stamp_ns(row[2]), folder / row[3]) for row in rows]
        pairs = [
            ImagePair(a[0], a[1], b[1], b[0] - a[0])
            for a, b in zip(colour, depth, strict=True)
            if abs(b[0] - a[0]) <= max_offset_ns
        ]
    else:
        colour, depth = stamped_images(folder, "rgb"), stamped_images(folder, "depth")
        matched = nearest_pairs([stamp for stamp, _ in colour], [stamp for stamp, _ in depth], max_offset_ns)
        pairs = [ImagePair(colour[a][0], colour[a][1], depth[b][1], offset_ns) for a, b, offset_ns in matched]
    pairs.sort(key=lambda pair: pair.stamp_ns)
    return [pair for before, pair in zip([None, *pairs], pairs, strict=False) if later(before, pair)]


def later(before: ImagePair | None, pair: ImagePair) -> bool:
    """Whether ``pair`` has a stamp of its own."""
    return before is None or pair.stamp_ns > before.stamp_ns


def stamped_images(folder: Path, kind: str) -> list[tuple[int, Path]]:
    """Stamp and path of each image, by time: from ``KIND.txt`` or, without it, from the names in ``KIND/``."""
    listed = folder / f"{kind}.txt"
    if listed.is_file():
        rows = [line.split() for line in listed.read_text().splitlines() if line.strip() and line[0] != "#"]
        return sorted((stamp_ns(row[0]), folder / row[1]) for row in rows)
    files = [path for path in (folder / kind).glob("*.*") if path.suffix.lower() in (".png", ".jpg", ".jpeg")]
    return sorted((stamp_ns(path.stem), path) for path in files)


def camera_numbers(folder: Path, camera: str) -> tuple[str, tuple[float, ...]]:
    """Name of the camera, and fx fy cx cy with the lens's distortion, if any.

    Raises:
        ValueError: there is no camera of that name, or ``camera.txt`` holds something else.
    """
    written = folder / CAMERA_FILE
    if camera == "auto" and written.is_file():
        numbers = tuple(float(value) for value in written.read_text().split())
        if len(numbers) not in (4, 8, 9):
            raise ValueError(f"{written}: expected fx fy cx cy [k1 k2 p1 p2 [k3]], got {len(numbers)} numbers")
        return CAMERA_FILE, numbers
    name = named_camera(folder.resolve()) if camera == "auto" else camera
    if name not in CAMERAS:
        raise ValueError(f"expected a camera among auto, {', '.join(CAMERAS)}, got '{camera}'")
    return name, CAMERAS[name]


def named_camera(folder: Path) -> str:
    """The camera that the name of the folder or of the one above it speaks of; else the benchmark's default."""
    spoken = f"{folder.parent.name} {folder.name}".lower()
    for short, name in SHORT_NAMES.items():
        if short in spoken or name in spoken:
            return name
    return "bonn" if "bonn" in spoken else "kinect"


def true_poses(folder: Path, stamps_ns: list[int]) -> PoseArray | None:
    """(t, 4, 4) of ``groundtruth.txt`` at the stamps, NaN where it has gaps; None: there is no file."""
    path = folder / "groundtruth.txt"
    if not path.is_file():
        return None
    return interpolate_poses(*read_tum_trajectory(path), stamps_ns, MAX_POSE_GAP_NS)
