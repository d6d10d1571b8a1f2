"""ParallelDomain-4D: driving scenes, each seen by 19 cameras (3 on the car, 16 around it).

Layout (TRI's DGP): ``scene_000000/`` with ``scene_{hash}.json``, ``calibration/{hash}.json``,
``rgb/{camera}/{time}.png`` (RGBA) and ``depth/{camera}/{time}.npz`` (array ``data``, metres along the optical axis; the
sky is kilometres away). The scene's JSON lists, under ``data``, each camera image with its file, its depth map
(annotation ``6``) and its pose: the optical camera in the world. Images or depth maps of some frames are missing; those
frames are left out.

No truth of motion is read, as in the paper.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pomato_ros.datasets.files import (
    check_pose,
    corner_intrinsics,
    list_files,
    metric_depth,
    parse_json,
    pick,
    read_npz,
    read_rgb,
    require_file,
)
from pomato_ros.datasets.recording import RecordedClip
from pomato_ros.geometry.rigid import matrix_from_quaternion_xyzw, pose_from

FAR_M = 500.0
DEPTH_ANNOTATION = "6"  # DGP's number for depth
DISTORTION = ("fisheye", "k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2", "skew")


@dataclass(frozen=True, slots=True)
class Shot:
    """What the scene's JSON says of one image."""

    image: Path
    depth: Path
    world_from_camera: NDArray[np.float64]
    calibration: Path


@dataclass(frozen=True)
class ParallelDomain4DSequence:
    """One camera of one scene."""

    folder: Path
    camera: str

    @property
    def name(self) -> str:
        """Scene and camera."""
        return f"{self.folder.name}/{self.camera}"

    @cached_property
    def _shots(self) -> list[Shot]:
        """The camera's frames that are there, in time."""
        path = list_files(self.folder, "scene_*.json", "the scene's JSON of ParallelDomain-4D")[0]
        scene = parse_json(path.read_bytes(), path)
        try:
            calibrations = {
                key: sample["calibration_key"] for sample in scene["samples"] for key in sample["datum_keys"]
            }
            data = [item for item in scene["data"] if item["id"]["name"] == self.camera and "image" in item["datum"]]
            shots = [self._shot(item["datum"]["image"], calibrations[item["key"]]) for item in data]
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{path}: expected DGP's samples and data with images, got trouble with {error!r}; fetch it again"
            ) from error
        there = [shot for shot in shots if shot.image.is_file() and shot.depth.is_file()]
        if not there:
            raise FileNotFoundError(
                f"{path} names no frame of {self.camera} that has image and depth; fetch both parts"
            )
        return sorted(there, key=lambda shot: shot.image.name)

    def __len__(self) -> int:
        """The number of frames."""
        return len(self._shots)

    def read(self, frames: Sequence[int]) -> RecordedClip:
        """See :meth:`pomato_ros.datasets.recording.RecordedSequence.read`."""
        shots: list[Shot] = pick(self._shots, frames, self.name)
        rgb = np.stack([read_rgb(shot.image) for shot in shots])
        size_wh = (rgb.shape[2], rgb.shape[1])
        depth = [metric_depth(read_npz(shot.depth, "data", "a depth map"), FAR_M) for shot in shots]
        cameras = [read_pinhole(shot.calibration, self.camera) for shot in shots]
        return RecordedClip(
            images=torch.from_numpy(rgb),
            depth_m=torch.from_numpy(np.stack(depth)),
            world_from_camera=torch.from_numpy(np.stack([shot.world_from_camera for shot in shots])),
            intrinsics=tuple(corner_intrinsics(k["fx"], k["fy"], k["cx"], k["cy"], size_wh) for k in cameras),
        )

    def _shot(self, image: Mapping[str, Any], calibration_key: str) -> Shot:
        """One image of the scene's JSON."""
        rotation, translation = image["pose"]["rotation"], image["pose"]["translation"]
        pose = pose_from(
            matrix_from_quaternion_xyzw([rotation[axis] for axis in ("qx", "qy", "qz", "qw")]),
            [translation[axis] for axis in ("x", "y", "z")],
        )
        return Shot(
            image=self.folder / image["filename"],
            depth=self.folder / image["annotations"][DEPTH_ANNOTATION],
            world_from_camera=check_pose(pose, f"pose of {image['filename']} in {self.folder}"),
            calibration=self.folder / "calibration" / f"{calibration_key}.json",
        )


def read_pinhole(path: Path, camera: str) -> Mapping[str, float]:
    """fx, fy, cx, cy of a camera in a calibration file.

    Raises:
        OSError: it is missing.
        ValueError: it has no such camera, or the camera is not a pinhole.
    """
    content = parse_json(require_file(path, "DGP's calibration").read_bytes(), path)
    try:
        values: Mapping[str, float] = dict(zip(content["names"], content["intrinsics"], strict=True))[camera]
        pinhole = {key: float(values[key]) for key in ("fx", "fy", "cx", "cy")}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected intrinsics of {camera}, got trouble with {error!r}; fetch it again"
        ) from error
    bent = {key: values[key] for key in DISTORTION if values.get(key, 0)}
    if bent:
        raise ValueError(f"{path}: expected {camera} to be a pinhole, got {bent}; rectify its images and depth first")
    return pinhole


def find_sequences(root: Path) -> list[ParallelDomain4DSequence]:
    """All cameras of all scenes.

    Raises:
        FileNotFoundError: there is none.
    """
    folders = sorted(folder for folder in root.glob("scene_*/rgb/*") if folder.is_dir())
    if not folders:
        raise FileNotFoundError(f"no ParallelDomain-4D in {root}: expected scene_000000/rgb/CAMERA or the like")
    return [ParallelDomain4DSequence(folder.parents[1], folder.name) for folder in folders]
