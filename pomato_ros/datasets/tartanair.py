"""TartanAir (version 1): drone-like flights through worlds that stand still, rendered by AirSim.

Layout: ``{environment}/{Easy,Hard}/P000/`` (the environment's name may come twice) with ``image_left/000000_left.png``,
``depth_left/000000_left_depth.npy`` (metres along the optical axis; the sky is kilometres away) and ``pose_left.txt``,
a line ``tx ty tz qx qy qz qw`` for each frame: the camera in a world with z down, camera axes forward, right, down.
Every camera sees 90 degrees across.

As in the paper, the few things that move in some environments, which nothing marks, are taken to stand still.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pomato_ros.datasets.files import (
    corner_intrinsics,
    list_files,
    metric_depth,
    pick,
    read_npy,
    read_rgb,
    require_file,
)
from pomato_ros.datasets.recording import RecordedClip
from pomato_ros.geometry.rigid import compose, matrix_from_quaternion_xyzw, pose_from

FAR_M = 1000.0
DIFFICULTIES = ("Easy", "Hard")
# columns: the optical axes right, down, forward in the dataset's camera axes forward, right, down
BODY_FROM_OPTICAL = pose_from([[0, 0, 1], [1, 0, 0], [0, 1, 0]], np.zeros(3))


@dataclass(frozen=True)
class TartanAirSequence:
    """One trajectory folder."""

    folder: Path
    name: str

    @cached_property
    def _frames(self) -> list[tuple[Path, Path, NDArray[np.float64]]]:
        """Image, depth and world_from_camera of each frame."""
        images = list_files(self.folder / "image_left", "*_left.png", "TartanAir's left images")
        depths = [self.folder / "depth_left" / f"{image.stem}_depth.npy" for image in images]
        poses = read_poses(self.folder / "pose_left.txt")
        if len(poses) != len(images):
            raise ValueError(
                f"{self.folder}: expected a line of pose_left.txt for each of {len(images)} images, got {len(poses)}; "
                "fetch both again"
            )
        return list(zip(images, depths, poses, strict=True))

    def __len__(self) -> int:
        """The number of frames."""
        return len(self._frames)

    def read(self, frames: Sequence[int]) -> RecordedClip:
        """See :meth:`pomato_ros.datasets.recording.RecordedSequence.read`."""
        images, depths, poses = zip(*pick(self._frames, frames, self.name), strict=True)
        rgb = np.stack([read_rgb(path) for path in images])
        height, width = rgb.shape[1:3]
        camera = corner_intrinsics(width / 2, width / 2, width / 2, height / 2, (width, height))
        depth = [metric_depth(read_npy(path, "a depth map of TartanAir"), FAR_M) for path in depths]
        return RecordedClip(
            images=torch.from_numpy(rgb),
            depth_m=torch.from_numpy(np.stack(depth)),
            world_from_camera=torch.from_numpy(np.stack(poses)),
            intrinsics=(camera,) * len(rgb),
            still=True,
        )


def read_poses(path: Path) -> NDArray[np.float64]:
    """world_from_camera (t, 4, 4), optical, of a pose file.

    Raises:
        OSError: it is missing.
        ValueError: a line is not a pose.
    """
    text = require_file(path, "TartanAir's poses").read_text()
    try:
        rows = np.array([line.split() for line in text.splitlines() if line.strip()], dtype=np.float64).reshape(-1, 7)
        world_from_body = pose_from(matrix_from_quaternion_xyzw(rows[:, 3:]), rows[:, :3])
    except ValueError as error:
        raise ValueError(f"{path}: expected lines 'tx ty tz qx qy qz qw', got {error}; fetch it again") from error
    return compose(world_from_body, BODY_FROM_OPTICAL)


def find_sequences(root: Path) -> list[TartanAirSequence]:
    """All trajectories.

    Raises:
        FileNotFoundError: there is none.
    """
    patterns = [f"{depth}/{name}/P*/pose_left.txt" for depth in ("*", "*/*") for name in DIFFICULTIES]
    folders = sorted(file.parent for pattern in patterns for file in root.glob(pattern))
    if not folders:
        raise FileNotFoundError(f"no TartanAir in {root}: expected ENVIRONMENT/Easy/P000/pose_left.txt or the like")
    return [TartanAirSequence(folder, folder.relative_to(root).as_posix()) for folder in folders]
