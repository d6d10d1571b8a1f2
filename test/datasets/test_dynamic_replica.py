"""DynamicReplica: a miniature in its format gives the clip back; what is broken is named."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pomato_ros.datasets.dynamic_replica import Entry, find_sequences, intrinsics_of
from pomato_ros.synthetic.clip import Clip

FRAMES = 5
PRECISION = 2.0**-11  # of a half float
ERROR_M = 2e-5  # of the clip's own single precision
FOLDER = "009850-3_obj_source_left"
ANNOTATION = "frame_annotations_train.jgz"


def annotation(clip: Clip) -> list[dict[str, Any]]:
    """Entries of the left camera's frames, the last one first, and one of the right camera."""
    height, width = clip.depth_m.shape[1:]
    entries = []
    for t, pose in enumerate(clip.world_from_camera.numpy()):
        right, down, forward = pose[:3, :3].T
        axes = np.stack((-right, -down, forward), axis=-1)  # of a PyTorch3D camera, in the world
        entries.append(
            {
                "sequence_name": "009850-3_obj",
                "frame_number": t,
                "frame_timestamp": t / 30,
                "image": {"path": f"{FOLDER}/images/{FOLDER}-{t:04d}.png", "size": [height, width]},
                "depth": {
                    "path": f"{FOLDER}/depths/{FOLDER}_{t:04d}.geometric.png",
                    "scale_adjustment": 1.0,
                    "mask_path": None,
                },
                "mask": {"path": f"{FOLDER}/masks/{FOLDER}_{t:04d}.png"},
                "viewpoint": {
                    "R": axes.tolist(),
                    "T": (-pose[:3, 3] @ axes).tolist(),
                    "focal_length": [2 * clip.intrinsics.fx_px / height, 2 * clip.intrinsics.fy_px / height],
                    "principal_point": [0.0, 0.0],
                    "intrinsics_format": "ndc_isotropic",
                },
                "camera_name": "left",
                "trajectories": {"path": f"{FOLDER}/trajectories/{t:06d}.pth"},
            }
        )
    return [*entries[::-1], entries[0] | {"camera_name": "right", "trajectories": None}]


@pytest.fixture
def root(tmp_path: Path, clip: Clip, sky: NDArray[np.bool_], point_tracks: Any, write_rgb: Callable[..., None]) -> Path:
    """A training split of one sequence."""
    folder = tmp_path / "train" / FOLDER
    write_rgb(folder / "images" / f"{FOLDER}-{t:04d}.png" for t in range(FRAMES))
    (folder / "depths").mkdir()
    (folder / "trajectories").mkdir()
    for t, depth in enumerate(clip.depth_m.numpy()):
        bits = np.where(sky, np.float16(0), depth.astype(np.float16)).view(np.uint16)
        assert cv2.imwrite(str(folder / "depths" / f"{FOLDER}_{t:04d}.geometric.png"), bits)
        tracks = {
            "traj_3d_world": torch.from_numpy(point_tracks.points_world[t]).float(),
            "traj_2d": torch.zeros(point_tracks.points_world.shape[1], 3),
            "verts_inds_vis": torch.from_numpy(point_tracks.visible[t]),
            "instances": torch.zeros(point_tracks.points_world.shape[1]),
            "img": clip.images[t],
        }
        torch.save(tracks, folder / "trajectories" / f"{t:06d}.pth")
    write_annotation(tmp_path, annotation(clip))
    return tmp_path


def write_annotation(root: Path, entries: list[dict[str, Any]]) -> None:
    with gzip.open(root / "train" / ANNOTATION, "wt") as stream:
        json.dump(entries, stream)


def test_a_miniature_gives_the_clip_back(
    root: Path, assert_same: Callable[..., None], assert_same_motion: Callable[..., None]
) -> None:
    left, right = find_sequences(root)
    assert (left.name, right.name) == ("009850-3_obj/left", "009850-3_obj/right")
    assert (len(left), len(right)) == (FRAMES, 1)
    recorded = left.read(range(FRAMES))
    assert_same(recorded, list(range(FRAMES)), ERROR_M, PRECISION)
    assert_same(left.read([4, 1]), [4, 1], ERROR_M, PRECISION)
    assert_same_motion(recorded, ERROR_M, PRECISION)
    assert recorded.agreement(0, 1) > 0.8


def test_a_camera_without_tracks_gives_no_matching_truth(root: Path) -> None:
    recorded = find_sequences(root)[1].read([0])
    assert recorded.tracks is None
    assert not recorded.pair(0, 0).valid_match.any()


def test_a_window_with_a_frame_without_tracks_has_none(root: Path, clip: Clip) -> None:
    entries = annotation(clip)
    entries[0]["trajectories"] = {"path": None}  # the last frame's
    write_annotation(root, entries)
    left = find_sequences(root)[0]
    assert left.read([0, 4]).tracks is None
    assert left.read([0, 3]).tracks is not None


@pytest.mark.parametrize(("units", "unit_px"), [("ndc_isotropic", (200, 200)), ("ndc_norm_image_bounds", (300, 200))])
def test_units_of_half_the_image_become_pixels(units: str, unit_px: tuple[int, int]) -> None:
    """The principal point is counted to the left and up from the image's middle, which is (299.5, 199.5) here."""
    viewpoint = {"focal_length": [1.5, 1.25], "principal_point": [0.1, -0.2], "intrinsics_format": units}
    nothing = Path("nothing")
    camera = intrinsics_of(Entry(nothing, nothing, 1.0, None, (600, 400), viewpoint, 0))
    assert (camera.fx_px, camera.fy_px) == pytest.approx((1.5 * unit_px[0], 1.25 * unit_px[1]))
    assert (camera.cx_px, camera.cy_px) == pytest.approx((299.5 - 0.1 * unit_px[0], 199.5 + 0.2 * unit_px[1]))
    assert (camera.width_px, camera.height_px) == (600, 400)


def test_what_is_missing_or_broken_is_named(root: Path, clip: Clip) -> None:
    with pytest.raises(FileNotFoundError, match="frame_annotations_valid.jgz is missing"):
        find_sequences(root, "valid")
    entries = annotation(clip)
    del entries[2]["viewpoint"]
    write_annotation(root, entries)
    with pytest.raises(ValueError, match=r"train.jgz, entry 2: .*viewpoint"):
        find_sequences(root)
    (root / "train" / ANNOTATION).write_bytes(gzip.compress(b"no json"))
    with pytest.raises(ValueError, match="expected JSON"):
        find_sequences(root)
    (root / "train" / ANNOTATION).write_bytes(b"not gzipped")
    with pytest.raises(OSError, match="expected gzipped JSON"):
        find_sequences(root)


def test_broken_tracks_and_cameras_are_named(root: Path, clip: Clip) -> None:
    files = root / "train" / FOLDER / "trajectories"
    content = torch.load(files / "000001.pth", weights_only=True)
    torch.save(content | {"traj_3d_world": content["traj_3d_world"][:-1]}, files / "000001.pth")
    with pytest.raises(ValueError, match="expected the same points in every frame"):
        find_sequences(root)[0].read([0, 1])
    torch.save({"traj_2d": content["traj_2d"]}, files / "000001.pth")
    with pytest.raises(OSError, match=r"000001.pth .*expected tensors traj_3d_world"):
        find_sequences(root)[0].read([1])
    (files / "000001.pth").write_bytes(b"broken")
    with pytest.raises(OSError, match=r"could not read .*000001.pth"):
        find_sequences(root)[0].read([1])
    entries = annotation(clip)
    entries[-1]["viewpoint"] |= {"intrinsics_format": "screen"}
    write_annotation(root, entries)
    with pytest.raises(ValueError, match="got screen"):
        find_sequences(root)[1].read([0])
