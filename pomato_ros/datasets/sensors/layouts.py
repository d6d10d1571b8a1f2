"""Opens a recording of any known layout, named or recognised by what lies in the folder."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pomato_ros.datasets.sensors.euroc import read_euroc
from pomato_ros.datasets.sensors.kitti_stereo import FOLDERS, read_kitti_stereo
from pomato_ros.datasets.sensors.sequence import SensorSequence
from pomato_ros.datasets.sensors.seven_scenes import read_seven_scenes
from pomato_ros.datasets.sensors.tum_rgbd import read_tum_rgbd

LAYOUTS: Mapping[str, Callable[..., SensorSequence]] = MappingProxyType(
    {
        "tum_rgbd": read_tum_rgbd,
        "bonn": read_tum_rgbd,
        "seven_scenes": read_seven_scenes,
        "kitti": read_kitti_stereo,
        "euroc": read_euroc,
    }
)


def recognise_layout(folder: Path) -> str | None:
    """Name of the layout of ``folder``, or None where it is none that is known."""
    if (folder / "rgb").is_dir() and (folder / "depth").is_dir():
        return "tum_rgbd"
    if next(folder.glob("frame-*.depth.png"), None) is not None:
        return "seven_scenes"
    if any((folder / left).is_dir() and (folder / right).is_dir() for left, right, *_ in FOLDERS):
        return "kitti"
    if any((root / "cam0" / "sensor.yaml").is_file() for root in (folder, folder / "mav0")):
        return "euroc"
    return None


def open_sequence(folder: Path, layout: str = "auto", **options: Any) -> SensorSequence:
    """The recording in ``folder``.

    Args:
        folder: of one recording.
        layout: one of :data:`LAYOUTS`; auto recognises it.
        options: further arguments of the layout's reader.

    Raises:
        ValueError: no such layout, or none that is known in the folder.
        OSError: a file is missing.
    """
    name = recognise_layout(folder) if layout == "auto" else layout
    if name is None or name not in LAYOUTS:
        what = f"no known layout in {folder}" if layout == "auto" else f"no layout '{layout}'"
        raise ValueError(f"{what}; expected one of {', '.join(LAYOUTS)}")
    if name == "bonn":
        options = {"camera": "bonn", **options}
    return LAYOUTS[name](folder, **options)
