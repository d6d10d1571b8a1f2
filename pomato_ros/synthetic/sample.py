"""Makes and reads the bundled sample clip: a room, a few movers and a walking camera, with its truth.

A sample is a folder: ``frames/00000.jpg`` and so on, ``stamps.txt`` (one integer in ns per frame), ``camera_info.yaml``
(of the frames, as ROS's camera_calibration_parsers write it) and ``truth.npz``, which belongs to half the frames' size.
"""

import shutil
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pomato_ros.structures import Intrinsics
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.renderer import render
from pomato_ros.synthetic.sample_scene import sample_scene

SAMPLE_FRAMES = 96
SAMPLE_SIZE_WH = (320, 224)
TRUTH_SIZE_WH = (160, 112)
FIRST_STAMP_NS = 1_000_000_000  # a stamp of zero means "unknown" to ROS
JPEG_QUALITY = 90


def make_sample(folder: Path, frames: int = SAMPLE_FRAMES) -> None:
    """Render the sample clip into ``folder``, replacing what an earlier call left there.

    Args:
        folder: where to; made if need be.
        frames: length of the clip.

    Raises:
        OSError: a file could not be written.
    """
    clip = render(sample_scene(frames, SAMPLE_SIZE_WH), supersample=2)
    truth = render(sample_scene(frames, TRUTH_SIZE_WH))
    pictures = folder / "frames"
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir(parents=True)
    for index, image in enumerate(clip.images.numpy()):
        _write_jpeg(pictures / f"{index:05d}.jpg", image)
    stamps = [FIRST_STAMP_NS + stamp for stamp in clip.stamps_ns]
    (folder / "stamps.txt").write_text("".join(f"{stamp}\n" for stamp in stamps))
    (folder / "camera_info.yaml").write_text(camera_info_yaml(clip.intrinsics, "sample_room"))
    moving = torch.stack([truth.moving(t) for t in range(len(truth))])
    np.savez_compressed(
        folder / "truth.npz",
        depth_m=truth.depth_m.numpy().astype(np.float16),  # (t, h, w)
        moving_bits=np.packbits(moving.numpy(), axis=-1),  # (t, h, w / 8), unpack with numpy.unpackbits
        instance=truth.instance.numpy().astype(np.uint8),  # (t, h, w)
        world_from_camera=truth.world_from_camera.numpy(),  # (t, 4, 4)
        world_from_object=truth.world_from_object.numpy(),  # (t, n, 4, 4)
        camera_matrix=truth.intrinsics.matrix(),  # (3, 3), of the truth's size
        stamps_ns=np.array(stamps, dtype=np.int64),
    )


def load_sample(folder: Path) -> Clip:
    """The sample at the truth's size: frames halved, depth as precise as its half floats (1 in 2000).

    Raises:
        FileNotFoundError: ``folder`` holds no sample.
    """
    path = folder / "truth.npz"
    if not path.is_file():
        raise FileNotFoundError(f"no sample at {folder}: expected truth.npz there; make one with make_sample")
    with np.load(path) as truth:
        arrays = {name: truth[name] for name in truth.files}
    height, width = arrays["depth_m"].shape[1:]
    images = [_read_jpeg(file, (width, height)) for file in sorted((folder / "frames").glob("*.jpg"))]
    matrix = arrays["camera_matrix"]
    fx, fy, cx, cy = (float(matrix[row, column]) for row, column in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return Clip(
        images=torch.from_numpy(np.stack(images)),
        depth_m=torch.from_numpy(arrays["depth_m"].astype(np.float32)),
        world_from_camera=torch.from_numpy(arrays["world_from_camera"]),
        intrinsics=Intrinsics(fx, fy, cx, cy, width, height),
        instance=torch.from_numpy(arrays["instance"].astype(np.int16)),
        world_from_object=torch.from_numpy(arrays["world_from_object"]),
        stamps_ns=[int(stamp) for stamp in arrays["stamps_ns"]],
    )


def camera_info_yaml(intrinsics: Intrinsics, camera_name: str) -> str:
    """An undistorted camera in the layout of ROS's camera_calibration_parsers."""
    k = intrinsics
    return f"""image_width: {k.width_px}
image_height: {k.height_px}
camera_name: {camera_name}
camera_matrix:
  rows: 3
  cols: 3
  data: [{k.fx_px!r}, 0.0, {k.cx_px!r}, 0.0, {k.fy_px!r}, {k.cy_px!r}, 0.0, 0.0, 1.0]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [0.0, 0.0, 0.0, 0.0, 0.0]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
projection_matrix:
  rows: 3
  cols: 4
  data: [{k.fx_px!r}, 0.0, {k.cx_px!r}, 0.0, 0.0, {k.fy_px!r}, {k.cy_px!r}, 0.0, 0.0, 0.0, 1.0, 0.0]
"""


def _write_jpeg(path: Path, image_rgb: NDArray[np.uint8]) -> None:
    """Write an RGB image (h, w, 3)."""
    bgr = np.ascontiguousarray(image_rgb[..., ::-1])
    if not cv2.imwrite(str(path), bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
        raise OSError(f"could not write {path}; check that the folder can be written")


def _read_jpeg(path: Path, size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """Read a JPEG as RGB (h, w, 3), averaged down to ``size_wh``."""
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise OSError(f"could not read {path}; make the sample again")
    small = cv2.resize(bgr, size_wh, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(small[..., ::-1], dtype=np.uint8)
