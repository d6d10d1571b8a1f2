"""TUM RGB-D, Bonn, 7-Scenes and EuRoC folders as sequences to evaluate on."""

from pathlib import Path

from pomato_ros.datasets.papers.sequence import PaperSequence, of_sensor_sequence
from pomato_ros.datasets.sensors.layouts import open_sequence, recognise_layout

FOLDERS = ("*", "*/*")


def sensor_sequences(root: Path, layout: str) -> list[PaperSequence]:
    """All recordings of a layout at most two folders below ``root``, which may be one itself.

    Raises:
        FileNotFoundError: there is none.
    """
    like = "tum_rgbd" if layout == "bonn" else layout
    places = [root, *sorted(path for pattern in FOLDERS for path in root.glob(pattern) if path.is_dir())]
    folders = [path for path in places if recognise_layout(path) == like and path.name != "mav0"]
    if not folders:
        raise FileNotFoundError(f"no recording of the layout {layout} in {root}; see docs/datasets.md for its files")
    return [of_sensor_sequence(open_sequence(folder, layout)) for folder in folders]
