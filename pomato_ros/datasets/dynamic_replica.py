"""DynamicReplica: people and animals in scanned rooms, a stereo pair, with long tracks of the left camera.

Layout: ``{split}/frame_annotations_{split}.jgz`` (gzipped JSON, an entry for each image) and the files that it names,
relative to ``{split}``: ``{sequence}_source_{left,right}/images/*.png``, ``depths/*.geometric.png`` (the 16 bits of a
half float, metres along the optical axis, times ``scale_adjustment``) and ``trajectories/000000.pth`` (tensors
``traj_3d_world`` (n, 3) and ``verts_inds_vis`` (n), the same n points in all frames).

Cameras follow PyTorch3D: a row of coordinates in the world times R plus T is one in the camera, whose axes point left,
up and forward; focal length and principal point are in units of half the image (``ndc_isotropic``: of half its shorter
side), the latter to the left and up from the middle.
"""

import gzip
import pickle
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pomato_ros.datasets.files import (
    READ_ERRORS,
    check_pose,
    corner_intrinsics,
    metric_depth,
    parse_json,
    pick,
    read_png,
    read_rgb,
    require_file,
)
from pomato_ros.datasets.recording import RecordedClip, Tracks
from pomato_ros.geometry.rigid import invert, pose_from
from pomato_ros.structures import Intrinsics

FAR_M = 1000.0
UNPICKLE_ERRORS = (pickle.UnpicklingError, RuntimeError, AttributeError, ImportError, IndexError, TypeError)
OPTICAL_FROM_PYTORCH3D = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True, slots=True)
class Entry:
    """What the annotation says of one image."""

    image: Path
    depth: Path
    depth_scale: float
    trajectories: Path | None
    size_wh: tuple[int, int]
    viewpoint: Mapping[str, Any]
    frame_number: int


@dataclass(frozen=True, slots=True)
class DynamicReplicaSequence:
    """One camera of one sequence."""

    name: str
    entries: tuple[Entry, ...]

    def __len__(self) -> int:
        """The number of frames."""
        return len(self.entries)

    def read(self, frames: Sequence[int]) -> RecordedClip:
        """See :meth:`pomato_ros.datasets.recording.RecordedSequence.read`."""
        entries: list[Entry] = pick(self.entries, frames, self.name)
        depth = [metric_depth(entry.depth_scale * read_half_floats(entry.depth), FAR_M) for entry in entries]
        return RecordedClip(
            images=torch.from_numpy(np.stack([read_rgb(entry.image) for entry in entries])),
            depth_m=torch.from_numpy(np.stack(depth)),
            world_from_camera=torch.from_numpy(np.stack([world_from_camera(entry) for entry in entries])),
            intrinsics=tuple(intrinsics_of(entry) for entry in entries),
            tracks=read_tracks([entry.trajectories for entry in entries]),
        )


def read_half_floats(path: Path) -> NDArray[np.float32]:
    """The half floats (h, w) whose bits a 16-bit PNG holds.

    Raises:
        OSError: it is missing or broken.
        ValueError: it has not 16 bits a pixel.
    """
    return read_png(path, np.uint16, 1).view(np.float16).astype(np.float32)


def world_from_camera(entry: Entry) -> NDArray[np.float64]:
    """The pose (4, 4) of an optical camera.

    Raises:
        ValueError: it is not rigid.
    """
    rotation, translation = (np.asarray(entry.viewpoint[key], dtype=np.float64) for key in ("R", "T"))
    camera_from_world = pose_from(OPTICAL_FROM_PYTORCH3D @ rotation.T, OPTICAL_FROM_PYTORCH3D @ translation)
    return invert(check_pose(camera_from_world, f"viewpoint of {entry.image}"))


def intrinsics_of(entry: Entry) -> Intrinsics:
    """The camera.

    Raises:
        ValueError: its parameters are in units that are not known.
    """
    half_size = 0.5 * np.array(entry.size_wh)
    units = str(entry.viewpoint["intrinsics_format"]).lower()
    if units == "ndc_isotropic":
        unit_px = np.full(2, half_size.min())
    elif units == "ndc_norm_image_bounds":
        unit_px = half_size
    else:
        raise ValueError(
            f"viewpoint of {entry.image}: expected intrinsics_format ndc_isotropic or ndc_norm_image_bounds, "
            f"got {units}; use the annotation as published"
        )
    focal_px = np.asarray(entry.viewpoint["focal_length"], dtype=np.float64) * unit_px
    centre_px = half_size - np.asarray(entry.viewpoint["principal_point"], dtype=np.float64) * unit_px
    return corner_intrinsics(focal_px[0], focal_px[1], centre_px[0], centre_px[1], entry.size_wh)


def read_tracks(files: Sequence[Path | None]) -> Tracks | None:
    """The tracks of a window, if the annotation names them for all its frames.

    Raises:
        OSError: a file is missing or broken.
        ValueError: the frames do not follow the same points.
    """
    named = [file for file in files if file is not None]
    if len(named) < len(files):
        return None
    points, visible = [], []
    for file in named:
        require_file(file, "a track file of DynamicReplica")
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
            points.append(content["traj_3d_world"].double())
            visible.append(content["verts_inds_vis"].bool())
        except (*READ_ERRORS, *UNPICKLE_ERRORS) as error:
            raise OSError(
                f"could not read {file} ({error}): expected tensors traj_3d_world and verts_inds_vis; fetch it again"
            ) from error
    if len({(tuple(xyz.shape), tuple(seen.shape)) for xyz, seen in zip(points, visible, strict=True)}) > 1:
        raise ValueError(f"{named[0].parent}: expected the same points in every frame, got {[len(p) for p in points]}")
    points_world = torch.stack(points)
    known = points_world.isfinite().all(-1)
    return Tracks(points_world.nan_to_num(0.0, 0.0, 0.0), known, torch.stack(visible))


def find_sequences(root: Path, split: str = "train") -> list[DynamicReplicaSequence]:
    """The sequences of a split, left and right cameras apart.

    Raises:
        FileNotFoundError: there is no annotation.
        OSError: it is broken.
        ValueError: it says something else than it should.
    """
    path = require_file(root / split / f"frame_annotations_{split}.jgz", "DynamicReplica's annotation of the split")
    try:
        with gzip.open(path, "rb") as stream:
            text = stream.read()
    except READ_ERRORS as error:
        raise OSError(f"could not read {path} ({error}): expected gzipped JSON; fetch it again") from error
    found: dict[str, list[Entry]] = defaultdict(list)
    for number, item in enumerate(parse_json(text, path)):
        try:
            found[f"{item['sequence_name']}/{item['camera_name']}"].append(parse_entry(path.parent, item))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}, entry {number}: expected sequence and camera name, frame number, image, depth and "
                f"viewpoint, got trouble with {error!r}; fetch it again"
            ) from error
    return [
        DynamicReplicaSequence(name, tuple(sorted(entries, key=lambda entry: entry.frame_number)))
        for name, entries in sorted(found.items())
    ]


def parse_entry(folder: Path, item: Mapping[str, Any]) -> Entry:
    """One entry of the annotation, whose files lie in ``folder``."""
    height, width = item["image"]["size"]
    trajectories = (item.get("trajectories") or {}).get("path")
    return Entry(
        image=folder / item["image"]["path"],
        depth=folder / item["depth"]["path"],
        depth_scale=float(item["depth"].get("scale_adjustment", 1.0)),
        trajectories=None if trajectories is None else folder / trajectories,
        size_wh=(int(width), int(height)),
        viewpoint={key: item["viewpoint"][key] for key in ("R", "T", "focal_length", "principal_point")}
        | {"intrinsics_format": item["viewpoint"].get("intrinsics_format", "ndc_norm_image_bounds")},
        frame_number=int(item["frame_number"]),
    )
