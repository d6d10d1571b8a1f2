"""What the engine found in a recording, as data sets that others train on: DAVIS, COCO video, KITTI and TAP-Vid.

| form | files |
|---|---|
| `davis` | ``JPEGImages/480p/NAME/00000.jpg``, ``Annotations/480p/NAME/00000.png`` (0 rests, 255 moves) |
| `coco` | ``coco/NAME.json``: videos, one category, an annotation for each moving object with a mask a frame (RLE) |
| `kitti` | ``kitti/NAME/depth/0000000000.png`` (uint16, metres x 256, 0 unknown), ``poses``, ``times``, ``calib.txt`` |
| `tapvid` | ``tapvid/NAME.npz``: points (n, t, 2) in 0..1, occluded (n, t), tracks_XYZ (t, n, 3) world |

All images and labels have the size at which the network sees the recording.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.errors import ConfigError
from pomato_ros.geometry.rigid import invert, transform
from pomato_ros.sinks.point_files import write_whole
from pomato_ros.structures import MaskArray, SceneEstimate

FORMS = ("davis", "coco", "kitti", "tapvid")
KITTI_STEPS_PER_M = 256.0
LEAST_PIXELS = 16  # of a region that becomes an object's mask


@dataclass
class LabelWriter:
    """Takes scenes one after the other; images and maps go to disk at once, tables at the end.

    Attributes:
        out: folder of the data set.
        name: of the sequence.
        forms: some of :data:`FORMS`.
    """

    out: Path
    name: str
    forms: Sequence[str] = FORMS
    _count: int = 0
    _stamps_ns: list[int] = field(default_factory=list)
    _poses: list[NDArray[np.float64]] = field(default_factory=list)
    _matrix: NDArray[np.float64] | None = None
    _size_wh: tuple[int, int] = (0, 0)
    _objects: dict[int, dict[int, MaskArray]] = field(default_factory=dict)
    _tracks: dict[int, dict[int, tuple[NDArray[np.float64], NDArray[np.float64], bool]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse forms that are not known.

        Raises:
            ConfigError: there is none of this name.
        """
        unknown = sorted(set(self.forms) - set(FORMS))
        if unknown or not self.forms:
            raise ConfigError(f"expected forms of {', '.join(FORMS)}, got {', '.join(unknown) or 'none'}")

    def add(self, scene: SceneEstimate) -> None:
        """Write what belongs to one frame."""
        height, width = scene.dynamic_mask.shape
        self._size_wh, self._matrix = (width, height), scene.intrinsics.matrix()
        self._stamps_ns.append(scene.stamp_ns)
        unknown = np.full((4, 4), np.nan)
        self._poses.append(unknown if scene.world_from_camera is None else scene.world_from_camera)
        if "davis" in self.forms:
            self._write_davis(scene)
        if "kitti" in self.forms:
            write_png(self.out / "kitti" / self.name / "depth" / f"{self._count:010d}.png", kitti_depth(scene))
        if "coco" in self.forms:
            for identity, mask in object_masks(scene).items():
                self._objects.setdefault(identity, {})[self._count] = mask
        if "tapvid" in self.forms:
            self._keep_tracks(scene)
        self._count += 1

    def finish(self) -> None:
        """Write the tables."""
        if "kitti" in self.forms and self._matrix is not None:
            self._write_kitti_tables(self._matrix)
        if "coco" in self.forms:
            write_whole(self.out / "coco" / f"{self.name}.json", json.dumps(self._coco()) + "\n")
        if "tapvid" in self.forms:
            stream = io.BytesIO()
            arrays: dict[str, Any] = self._tapvid()
            np.savez_compressed(stream, **arrays)
            write_whole(self.out / "tapvid" / f"{self.name}.npz", stream.getvalue())

    def _write_davis(self, scene: SceneEstimate) -> None:
        place = self.out / "{}" / "480p" / self.name / f"{self._count:05d}"
        _, encoded = cv2.imencode(".jpg", scene.image_rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        write_whole(Path(str(place).format("JPEGImages") + ".jpg"), encoded.tobytes())
        write_png(Path(str(place).format("Annotations") + ".png"), scene.dynamic_mask.astype(np.uint8) * 255)

    def _write_kitti_tables(self, matrix: NDArray[np.float64]) -> None:
        folder = self.out / "kitti" / self.name
        first = next((pose for pose in self._poses if np.isfinite(pose).all()), np.eye(4))
        rows = (invert(first) @ pose for pose in self._poses)
        write_whole(folder / "poses.txt", "".join(" ".join(f"{v:.9g}" for v in row[:3].ravel()) + "\n" for row in rows))
        seconds = (f"{(stamp - self._stamps_ns[0]) * 1e-9:.6e}\n" for stamp in self._stamps_ns)
        write_whole(folder / "times.txt", "".join(seconds))
        projection = np.concatenate((matrix, np.zeros((3, 1))), axis=1).ravel()
        write_whole(folder / "calib.txt", "P0: " + " ".join(f"{value:.9g}" for value in projection) + "\n")

    def _keep_tracks(self, scene: SceneEstimate) -> None:
        tracks = scene.tracks
        rows = zip(tracks.ids.tolist(), tracks.pixels, tracks.positions_world, tracks.visible.tolist(), strict=True)
        for identity, pixel, position, visible in rows:
            seen = (np.asarray(pixel, np.float64), np.asarray(position, np.float64), bool(visible))
            self._tracks.setdefault(int(identity), {})[self._count] = seen

    def _coco(self) -> dict[str, Any]:
        """COCO's video form: one video, one category, an annotation for each object."""
        width, height = self._size_wh
        files = [f"{self.name}/{number:05d}.jpg" for number in range(self._count)]
        video = {"id": 1, "width": width, "height": height, "length": self._count, "file_names": files}
        annotations = []
        for number, (identity, masks) in enumerate(sorted(self._objects.items()), start=1):
            frames = range(self._count)
            segmentations = [run_lengths(masks[t]) if t in masks else None for t in frames]
            annotations.append(
                {
                    "id": number,
                    "video_id": 1,
                    "category_id": 1,
                    "track_id": identity,
                    "iscrowd": 0,
                    "segmentations": segmentations,
                    "areas": [int(masks[t].sum()) if t in masks else None for t in frames],
                    "bboxes": [bounding_box(masks[t]) if t in masks else None for t in frames],
                    "width": width,
                    "height": height,
                }
            )
        return {"videos": [video], "categories": [{"id": 1, "name": "moving"}], "annotations": annotations}

    def _tapvid(self) -> dict[str, Any]:
        """Arrays of TAP-Vid's form, with the points' places in the world beside them."""
        identities = sorted(self._tracks)
        points = np.zeros((len(identities), self._count, 2), np.float32)
        occluded = np.ones((len(identities), self._count), bool)
        world = np.full((self._count, len(identities), 3), np.nan, np.float32)
        size = np.maximum(np.array(self._size_wh, np.float64), 1)
        for row, identity in enumerate(identities):
            for number, (pixel, position, visible) in self._tracks[identity].items():
                world[number, row] = position
                if visible and np.isfinite(pixel).all():
                    points[row, number] = (pixel + 0.5) / size
                    occluded[row, number] = False
        ids = np.array(identities, np.int64)
        return {"ids": ids, "points": points, "occluded": occluded, "tracks_XYZ": world}


def object_masks(scene: SceneEstimate) -> dict[int, MaskArray]:
    """Mask (h, w) of each visible object: the region of what moves that holds most of the object's own points."""
    if scene.world_from_camera is None or not len(scene.objects.ids):
        return {}
    count, labels = cv2.connectedComponents(scene.dynamic_mask.astype(np.uint8), connectivity=8)
    masks: dict[int, MaskArray] = {}
    height, width = labels.shape
    camera = transform(invert(scene.world_from_camera), scene.objects.points_world)
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = (camera @ scene.intrinsics.matrix().T)[:, :2] / camera[:, 2:]
    inside = (camera[:, 2] > 0) & (pixels > -0.5).all(axis=-1) & (pixels < (width - 0.5, height - 0.5)).all(axis=-1)
    for row in np.flatnonzero(scene.objects.visible):
        own = np.rint(pixels[inside & (scene.objects.point_rows == row)]).astype(int)
        votes = np.bincount(labels[own[:, 1], own[:, 0]], minlength=count)[1:]
        if votes.any():
            mask = labels == int(votes.argmax()) + 1
            if mask.sum() >= LEAST_PIXELS:
                masks[int(scene.objects.ids[row])] = mask
    return masks


def run_lengths(mask: MaskArray) -> dict[str, Any]:
    """COCO's uncompressed run-length form: lengths of runs of 0 and 1 in turn, column by column, from 0 on."""
    flat = np.asarray(mask, np.uint8).ravel(order="F")
    ends = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate(([0], ends, [flat.size]))).tolist()
    return {"size": list(mask.shape), "counts": ([0] if flat.size and flat[0] else []) + runs}


def bounding_box(mask: MaskArray) -> list[int]:
    """x, y, width, height in px."""
    rows, columns = np.nonzero(mask)
    left, top = int(columns.min()), int(rows.min())
    return [left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1]


def kitti_depth(scene: SceneEstimate) -> NDArray[np.uint16]:
    """(h, w) depth in steps of 1/256 of the unit, 0 where unknown or too far for 16 bits."""
    steps = np.nan_to_num(scene.depth, nan=0.0, posinf=0.0, neginf=0.0) * KITTI_STEPS_PER_M
    return np.where((steps > 0) & (steps < 65535), np.rint(steps), 0).astype(np.uint16)


def write_png(path: Path, values: NDArray[Any]) -> None:
    """Write an image of 8 or 16 bits as a whole."""
    _, encoded = cv2.imencode(".png", values)
    write_whole(path, encoded.tobytes())
