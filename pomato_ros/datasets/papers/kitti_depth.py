"""KITTI depth: images of the raw drives and sparse depth of the laser.

``DRIVE/proj_depth/groundtruth/image_02/0000000005.png`` (uint16, metres x 256, 0 = none) below ``val`` or ``train``,
and ``DATE/DRIVE/image_02/data/0000000005.png`` of the raw data below the same root.
"""

from pathlib import Path

import numpy as np

from pomato_ros.datasets.files import list_files, read_png, read_rgb, require_file
from pomato_ros.datasets.papers.sequence import PaperSequence
from pomato_ros.structures import Frame

STEPS_PER_M = 256.0
RATE_HZ = 10.0
TRUTH = Path("proj_depth") / "groundtruth" / "image_02"


def find_sequences(root: Path) -> list[PaperSequence]:
    """All drives that have depth, by name.

    Raises:
        FileNotFoundError: there is none.
    """
    folders = sorted(path.parents[2] for path in root.glob(f"**/{TRUTH.as_posix()}"))
    if not folders:
        raise FileNotFoundError(f"no KITTI depth in {root}: expected val/DRIVE_sync/{TRUTH.as_posix()}/0000000005.png")
    return [_sequence(root, folder) for folder in folders]


def _sequence(root: Path, folder: Path) -> PaperSequence:
    depths = list_files(folder / TRUTH, "*.png", "depth maps of KITTI")
    date = folder.name[: len("2011_09_26")]
    images = [root / date / folder.name / "image_02" / "data" / path.name for path in depths]
    require_file(images[0], "the raw drive's images")

    def read_frame(number: int) -> Frame:
        return Frame(round((number + 1) * 1e9 / RATE_HZ), read_rgb(images[number]))

    return PaperSequence(
        folder.name,
        len(depths),
        read_frame,
        lambda number: read_png(depths[number], np.uint16, 1).astype(np.float32) / np.float32(STEPS_PER_M),
    )
