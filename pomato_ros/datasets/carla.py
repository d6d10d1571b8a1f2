"""Carla: the driving sequences that POMATO's authors rendered with the simulator (samples of them are public).

Layout: sequence folders with ``{view}_RGB/000001.png``, ``{view}_RawDepth/000001.png`` for the views Left, Middle and
Right, and ``camera_data/intrinsics.npy`` (3, 3) and ``extrinsics.npy`` (t, 4, 4), one pose for each frame. Depth is the
simulator's own code: (R + 256 G + 65536 B) / (2^24 - 1) of 1000 m along the optical axis, sky at the end of it.

Nothing published says which view the poses belong to, nor in which convention they are. Taken here: the middle view,
and the simulator's ``Transform.get_matrix()``, from the camera to the world, both with Unreal's left-handed axes
forward, right, up. :meth:`pomato_ros.datasets.recording.RecordedClip.agreement` tells on real files whether this is so,
and ``poses`` takes the other conventions. No truth of motion is there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pomato_ros.datasets.files import (
    check_pose,
    corner_intrinsics,
    list_files,
    metric_depth,
    pick,
    read_npy,
    read_png,
    read_rgb,
)
from pomato_ros.datasets.recording import RecordedClip
from pomato_ros.geometry.rigid import invert, pose_from

FAR_M = 999.0  # short of the depth code's end, where the sky is
DEPTH_STEP_M = 1000.0 / (2**24 - 1)
VIEW = "Middle"
# columns: the optical axes right, down, forward in Unreal's forward, right, up; a mirror, as Unreal is left-handed
UNREAL_FROM_OPTICAL = pose_from([[0, 0, 1], [1, 0, 0], [0, -1, 0]], np.zeros(3))
WORLD_FROM_UNREAL_WORLD = pose_from(np.diag([1, -1, 1]), np.zeros(3))  # y to the left instead of to the right


class PoseConvention(Enum):
    """What the matrices in extrinsics.npy are."""

    UNREAL_WORLD_FROM_CAMERA = "unreal_world_from_camera"
    UNREAL_CAMERA_FROM_WORLD = "unreal_camera_from_world"
    OPTICAL_WORLD_FROM_CAMERA = "optical_world_from_camera"
    OPTICAL_CAMERA_FROM_WORLD = "optical_camera_from_world"

    def world_from_camera(self, stored: NDArray[np.float64]) -> NDArray[np.float64]:
        """Poses (..., 4, 4) of the optical camera in a right-handed world."""
        inverted = self in (PoseConvention.UNREAL_CAMERA_FROM_WORLD, PoseConvention.OPTICAL_CAMERA_FROM_WORLD)
        pose = invert(stored) if inverted else stored
        if self in (PoseConvention.OPTICAL_WORLD_FROM_CAMERA, PoseConvention.OPTICAL_CAMERA_FROM_WORLD):
            return pose
        return np.asarray(WORLD_FROM_UNREAL_WORLD @ pose @ UNREAL_FROM_OPTICAL)


@dataclass(frozen=True)
class CarlaSequence:
    """One view of one sequence folder."""

    folder: Path
    name: str
    poses: PoseConvention = PoseConvention.UNREAL_WORLD_FROM_CAMERA

    @cached_property
    def _frames(self) -> list[tuple[Path, Path, NDArray[np.float64]]]:
        """Image, depth and world_from_camera of each frame."""
        images = list_files(self.folder / f"{VIEW}_RGB", "*.png", "Carla's images")
        depths = [self.folder / f"{VIEW}_RawDepth" / image.name for image in images]
        path = self.folder / "camera_data" / "extrinsics.npy"
        stored = read_npy(path, "Carla's poses").astype(np.float64)
        if stored.shape != (len(images), 4, 4):
            raise ValueError(
                f"{path}: expected a pose (4, 4) for each of {len(images)} images, got an array of {stored.shape}; "
                "fetch both again"
            )
        checked = [check_pose(pose, f"{path}, pose {number}") for number, pose in enumerate(stored)]
        return list(zip(images, depths, self.poses.world_from_camera(np.stack(checked)), strict=True))

    def __len__(self) -> int:
        """The number of frames."""
        return len(self._frames)

    def read(self, frames: Sequence[int]) -> RecordedClip:
        """See :meth:`pomato_ros.datasets.recording.RecordedSequence.read`."""
        images, depths, poses = zip(*pick(self._frames, frames, self.name), strict=True)
        rgb = np.stack([read_rgb(path) for path in images])
        path = self.folder / "camera_data" / "intrinsics.npy"
        k = read_npy(path, "Carla's camera")
        if k.shape != (3, 3):
            raise ValueError(f"{path}: expected a camera matrix (3, 3), got an array of {k.shape}; fetch it again")
        camera = corner_intrinsics(k[0, 0], k[1, 1], k[0, 2], k[1, 2], (rgb.shape[2], rgb.shape[1]))
        return RecordedClip(
            images=torch.from_numpy(rgb),
            depth_m=torch.from_numpy(np.stack([metric_depth(read_depth(path), FAR_M) for path in depths])),
            world_from_camera=torch.from_numpy(np.stack(poses)),
            intrinsics=(camera,) * len(rgb),
        )


def read_depth(path: Path) -> NDArray[np.float64]:
    """A depth map (h, w), metres.

    Raises:
        OSError: it is missing or broken.
        ValueError: it is not a colour image.
    """
    return read_png(path, np.uint8, 3).astype(np.float64) @ (DEPTH_STEP_M * np.array([1.0, 256.0, 65536.0]))


def find_sequences(root: Path, poses: PoseConvention = PoseConvention.UNREAL_WORLD_FROM_CAMERA) -> list[CarlaSequence]:
    """All sequences in ``root``, up to two folders deep; ``root`` may be one itself.

    Raises:
        FileNotFoundError: there is none.
    """
    patterns = [f"{depth}camera_data/extrinsics.npy" for depth in ("", "*/", "*/*/")]
    folders = sorted(file.parents[1] for pattern in patterns for file in root.glob(pattern))
    if not folders:
        raise FileNotFoundError(
            f"no Carla sequence in {root}: expected SEQUENCE/camera_data/extrinsics.npy or the like"
        )
    return [CarlaSequence(folder, folder.relative_to(root).as_posix(), poses) for folder in folders]
