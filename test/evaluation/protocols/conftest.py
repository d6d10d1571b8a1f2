"""Writes a few frames of a rendered clip in the true layout of each data set."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pomato_ros.geometry.rigid import invert, quaternion_xyzw_from_matrix
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip


def write_image(path: Path, image_rgb: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image_rgb[..., ::-1] if image_rgb.ndim == 3 else image_rgb)


def images(clip: Clip) -> list[np.ndarray]:
    return [image.numpy() for image in clip.images]


def sintel(root: Path, clip: Clip) -> None:
    for t, image in enumerate(images(clip)):
        name = f"frame_{t + 1:04d}"
        write_image(root / "training" / "final" / "alley_2" / f"{name}.png", image)
        tag = np.float32(202021.25).tobytes()
        depth = clip.depth_m[t].numpy().astype("<f4")
        place = root / "training" / "depth" / "alley_2" / f"{name}.dpt"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(tag + np.array(depth.shape[::-1], "<i4").tobytes() + depth.tobytes())
        matrix = clip.intrinsics.matrix()
        matrix[:2, 2] += 0.5
        numbers = np.concatenate((matrix.ravel(), invert(clip.world_from_camera[t].numpy())[:3].ravel()))
        place = root / "training" / "camdata_left" / "alley_2" / f"{name}.cam"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(tag + numbers.astype("<f8").tobytes())


def tum(root: Path, clip: Clip, name: str = "rgbd_dataset_freiburg3_walking_xyz") -> None:
    folder = root / name
    lists: dict[str, list[str]] = {"rgb": [], "depth": [], "groundtruth": []}
    for t, image in enumerate(images(clip)):
        stamp = f"{1 + t / 30:.6f}"
        write_image(folder / "rgb" / f"{stamp}.png", image)
        write_image(folder / "depth" / f"{stamp}.png", np.rint(clip.depth_m[t].numpy() * 5000).astype(np.uint16))
        lists["rgb"].append(f"{stamp} rgb/{stamp}.png")
        lists["depth"].append(f"{stamp} depth/{stamp}.png")
        pose = clip.world_from_camera[t].numpy()
        values = [*pose[:3, 3], *quaternion_xyzw_from_matrix(pose[:3, :3])]
        lists["groundtruth"].append(stamp + " " + " ".join(f"{value:.9f}" for value in values))
    for kind, lines in lists.items():
        (folder / f"{kind}.txt").write_text("# written by a test\n" + "\n".join(lines) + "\n")


def bonn(root: Path, clip: Clip) -> None:
    tum(root, clip, "rgbd_bonn_balloon2")


def scannet(root: Path, clip: Clip) -> None:
    folder = root / "scene0707_00"
    for t, image in enumerate(images(clip)):
        write_image(folder / "color" / f"{t}.jpg", image)
        write_image(folder / "depth" / f"{t}.png", np.rint(clip.depth_m[t].numpy() * 1000).astype(np.uint16))
        (folder / "pose").mkdir(exist_ok=True)
        np.savetxt(folder / "pose" / f"{t}.txt", clip.world_from_camera[t].numpy())
    (folder / "intrinsic").mkdir()
    matrix = np.eye(4)
    matrix[:3, :3] = clip.intrinsics.matrix()
    np.savetxt(folder / "intrinsic" / "intrinsic_color.txt", matrix)


def kitti(root: Path, clip: Clip) -> None:
    drive = "2011_09_26_drive_0002_sync"
    for t, image in enumerate(images(clip)):
        write_image(root / "2011_09_26" / drive / "image_02" / "data" / f"{t + 5:010d}.png", image)
        truth = root / "val" / drive / "proj_depth" / "groundtruth" / "image_02" / f"{t + 5:010d}.png"
        write_image(truth, np.rint(clip.depth_m[t].numpy() * 256).astype(np.uint16))


def davis(root: Path, clip: Clip) -> None:
    for t, image in enumerate(images(clip)):
        write_image(root / "JPEGImages" / "480p" / "dog" / f"{t:05d}.jpg", image)
        mask = clip.moving(t).numpy().astype(np.uint8) * 255
        write_image(root / "Annotations" / "480p" / "dog" / f"{t:05d}.png", mask)
    (root / "ImageSets" / "2016").mkdir(parents=True)
    lines = [f"/JPEGImages/480p/dog/{t:05d}.jpg /Annotations/480p/dog/{t:05d}.png" for t in range(len(clip))]
    (root / "ImageSets" / "2016" / "val.txt").write_text("\n".join(lines) + "\n")


def tapvid3d(root: Path, clip: Clip, as_objects: bool = False) -> None:
    root.mkdir(parents=True, exist_ok=True)
    rows, columns = (axis.ravel() for axis in np.mgrid[6:40:8, 6:60:8])
    encoded = [cv2.imencode(".jpg", image[..., ::-1])[1].tobytes() for image in images(clip)]
    points = np.stack([clip.points_matched(0, t)[rows, columns].numpy() for t in range(len(clip))])
    visible = np.stack([clip.visible(0, t)[rows, columns].numpy() for t in range(len(clip))])
    camera = clip.intrinsics
    np.savez(
        root / "clip.npz",
        images_jpeg_bytes=np.array(encoded, dtype=object if as_objects else None),
        queries_xyt=np.stack((columns, rows, np.zeros(len(rows))), axis=-1),
        tracks_XYZ=points,
        visibility=visible,
        fx_fy_cx_cy=np.array([camera.fx_px, camera.fy_px, camera.cx_px, camera.cy_px]),
    )


def seven_scenes(root: Path, clip: Clip) -> None:
    folder = root / "seq-01"
    for t, image in enumerate(images(clip)):
        write_image(folder / f"frame-{t:06d}.color.png", image)
        write_image(folder / f"frame-{t:06d}.depth.png", np.rint(clip.depth_m[t].numpy() * 1000).astype(np.uint16))
        np.savetxt(folder / f"frame-{t:06d}.pose.txt", clip.world_from_camera[t].numpy())


def tartanair(root: Path, clip: Clip) -> None:
    folder = root / "office" / "Easy" / "P000"
    body_from_optical = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    lines = []
    for t, image in enumerate(images(clip)):
        write_image(folder / "image_left" / f"{t:06d}_left.png", image)
        (folder / "depth_left").mkdir(exist_ok=True)
        np.save(folder / "depth_left" / f"{t:06d}_left_depth.npy", clip.depth_m[t].numpy())
        pose = clip.world_from_camera[t].numpy() @ np.linalg.inv(body_from_optical)
        values = [*pose[:3, 3], *quaternion_xyzw_from_matrix(pose[:3, :3])]
        lines.append(" ".join(f"{value:.9f}" for value in values))
    (folder / "pose_left.txt").write_text("\n".join(lines) + "\n")


WRITERS = {
    "sintel": sintel,
    "bonn": bonn,
    "tum": tum,
    "scannet": scannet,
    "kitti": kitti,
    "davis": davis,
    "adt": tapvid3d,
    "pstudio": tapvid3d,
    "seven_scenes": seven_scenes,
    "tartanair": tartanair,
}


@pytest.fixture(scope="session")
def truth() -> Clip:
    """Ten frames with movers."""
    world = dataclasses.replace(TRAIN_WORLD, mover_probability=1.0, movers=(1, 2), floating_probability=0.0)
    return render_clip(6, world, 10, (64, 48))


@pytest.fixture
def write_layout(truth: Clip, tmp_path: Path) -> Callable[[str], Path]:
    """Writes the clip in the layout with a name; the folder."""

    def write(layout: str) -> Path:
        WRITERS[layout](tmp_path / layout, truth)
        return tmp_path / layout

    return write


@pytest.fixture(scope="session")
def layouts() -> list[str]:
    """Layouts that can be written here."""
    return list(WRITERS)
