"""PointOdyssey (version 1.2): rendered indoor and outdoor scenes with long tracks on everything.

Layout: ``{split}/{sequence}/`` with ``rgbs/rgb_00000.jpg``, ``depths/depth_00000.png`` and ``anno.npz``. Depth has 16
bits, 65535 for 1000 m along the optical axis. Of ``anno.npz``, all with a row for each frame: ``intrinsics`` (3, 3),
``extrinsics`` (4, 4) from the world to the optical camera, ``trajs_3d`` (n, 3) in the world, ``valids`` and ``visibs``
(n). Some sequences have no ``trajs_3d``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from pomato_ros.datasets.files import (
    check_pose,
    corner_intrinsics,
    list_files,
    metric_depth,
    pick,
    read_npz_rows,
    read_png,
    read_rgb,
)
from pomato_ros.datasets.recording import RecordedClip, Tracks
from pomato_ros.geometry.rigid import invert

DEPTH_STEP_M = 1000.0 / 65535.0
FAR_M = 1000.0
ANNOTATION = "PointOdyssey's annotation (version 1.2: anno.npz)"


@dataclass(frozen=True)
class PointOdysseySequence:
    """One sequence folder."""

    folder: Path
    name: str

    @cached_property
    def _frames(self) -> list[tuple[Path, Path, int]]:
        """Image, depth and row of the annotation of each frame."""
        images = list_files(self.folder / "rgbs", "rgb_*.jpg", "PointOdyssey's images")
        numbers = [image.stem.removeprefix("rgb_") for image in images]
        depths = [self.folder / "depths" / f"depth_{number}.png" for number in numbers]
        return list(zip(images, depths, map(int, numbers), strict=True))

    def __len__(self) -> int:
        """The number of frames."""
        return len(self._frames)

    def read(self, frames: Sequence[int]) -> RecordedClip:
        """See :meth:`pomato_ros.datasets.recording.RecordedSequence.read`."""
        images, depths, rows = zip(*pick(self._frames, frames, self.name), strict=True)
        annotation = self.folder / "anno.npz"
        cameras = read_npz_rows(annotation, "intrinsics", rows, ANNOTATION).astype(np.float64)
        extrinsics = read_npz_rows(annotation, "extrinsics", rows, ANNOTATION).astype(np.float64)
        camera_from_world = [
            check_pose(pose, f"{annotation}, extrinsics {row}") for pose, row in zip(extrinsics, rows, strict=True)
        ]
        rgb = np.stack([read_rgb(path) for path in images])
        size_wh = (rgb.shape[2], rgb.shape[1])
        depth = [metric_depth(read_png(path, np.uint16, 1) * DEPTH_STEP_M, FAR_M) for path in depths]
        return RecordedClip(
            images=torch.from_numpy(rgb),
            depth_m=torch.from_numpy(np.stack(depth)),
            world_from_camera=torch.from_numpy(invert(np.stack(camera_from_world))),
            intrinsics=tuple(corner_intrinsics(k[0, 0], k[1, 1], k[0, 2], k[1, 2], size_wh) for k in cameras),
            tracks=self._tracks(annotation, rows),
        )

    def _tracks(self, annotation: Path, rows: Sequence[int]) -> Tracks | None:
        """The tracks at some frames, if the sequence has any."""
        points = read_npz_rows(annotation, "trajs_3d", rows, ANNOTATION)
        if points.ndim != 3:
            return None
        known = read_npz_rows(annotation, "valids", rows, ANNOTATION).astype(bool) & np.isfinite(points).all(axis=-1)
        visible = read_npz_rows(annotation, "visibs", rows, ANNOTATION).astype(bool)
        points_world = np.where(known[..., None], points, 0.0).astype(np.float64)
        return Tracks(torch.from_numpy(points_world), torch.from_numpy(known), torch.from_numpy(visible))


def find_sequences(root: Path, split: str = "train") -> list[PointOdysseySequence]:
    """The sequences of a split.

    Raises:
        FileNotFoundError: there is none.
    """
    files = list_files(root / split, "*/anno.npz", "sequence folders of PointOdyssey, version 1.2")
    return [PointOdysseySequence(file.parent, file.parent.name) for file in files]
