"""DAVIS: ``JPEGImages/480p/NAME/00000.jpg``, ``Annotations/480p/NAME/00000.png``, ``ImageSets/2016/val.txt``."""

from pathlib import Path

import cv2
import numpy as np

from pomato_ros.datasets.files import list_files, read_rgb, require_file
from pomato_ros.datasets.papers.sequence import PaperSequence
from pomato_ros.structures import Frame, MaskArray

RATE_HZ = 24.0
LIST = Path("ImageSets") / "2016" / "val.txt"


def find_sequences(root: Path, resolution: str = "480p") -> list[PaperSequence]:
    """The sequences of the 2016 validation list, or all of them where the list is absent.

    Raises:
        FileNotFoundError: there is none.
    """
    images = root / "JPEGImages" / resolution
    names = listed_names(root / LIST) or sorted(path.name for path in images.glob("*") if path.is_dir())
    if not names:
        raise FileNotFoundError(f"no DAVIS in {root}: expected JPEGImages/{resolution}/NAME/00000.jpg")
    return [_sequence(images / name, root / "Annotations" / resolution / name) for name in names]


def listed_names(path: Path) -> list[str]:
    """Sequences of a list whose lines are ``/JPEGImages/480p/NAME/00000.jpg /Annotations/...`` or names alone."""
    if not path.is_file():
        return []
    words = [line.split()[0] for line in path.read_text().splitlines() if line.strip()]
    return list(dict.fromkeys(Path(word).parent.name if "/" in word else word for word in words))


def _sequence(images: Path, masks: Path) -> PaperSequence:
    files = list_files(images, "*.jpg", "images of DAVIS")

    def read_frame(number: int) -> Frame:
        return Frame(round((number + 1) * 1e9 / RATE_HZ), read_rgb(files[number]))

    def read_mask(number: int) -> MaskArray:
        path = require_file(masks / f"{files[number].stem}.png", "an annotation of DAVIS")
        levels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if levels is None:
            raise OSError(f"could not read {path}: expected a PNG image; fetch it again")
        return np.asarray(levels.max(axis=-1) if levels.ndim == 3 else levels) > 0

    return PaperSequence(images.name, len(files), read_frame, read_mask=read_mask)
