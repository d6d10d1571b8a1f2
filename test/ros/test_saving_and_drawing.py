from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pomato_ros.ros.debug_image import BAR_HEIGHT_PX, draw_debug_image, overlay_mask
from pomato_ros.ros.saving import PLY_DTYPE, new_file, save_cloud, save_trajectory, write_whole
from pomato_ros.structures import Frame, SceneEstimate


@pytest.fixture
def scene(fakes: SimpleNamespace) -> SceneEstimate:
    width, height = fakes.SOURCE_WH
    return fakes.make_scene(Frame(fakes.START_NS, np.zeros((height, width, 3), np.uint8)), np.eye(4), 12)


def turned() -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", [0.1, 0.2, 0.3]).as_matrix()
    pose[:3, 3] = (1.0, 2.0, 3.0)
    return pose


def test_a_saved_cloud_holds_the_valid_points_in_odom(scene: SceneEstimate, tmp_path: Path) -> None:
    path = save_cloud(scene, turned(), tmp_path / "new")
    head, _, body = path.read_bytes().partition(b"end_header\n")
    vertices = np.frombuffer(body, PLY_DTYPE)
    assert f"element vertex {len(vertices)}".encode() in head
    valid = np.isfinite(scene.points_camera).all(axis=-1)
    assert len(vertices) == valid.sum()
    expected = scene.points_camera[valid] @ turned()[:3, :3].T + turned()[:3, 3]
    np.testing.assert_allclose(np.stack([vertices[axis] for axis in "xyz"], -1), expected, rtol=1e-6)
    assert (vertices["red"][0], vertices["green"][0], vertices["blue"][0]) == (10, 20, 30)
    assert vertices["dynamic"].sum() == scene.dynamic_mask.sum()


def test_a_saved_trajectory_keeps_every_digit_of_its_stamps(tmp_path: Path, fakes: SimpleNamespace) -> None:
    path = save_trajectory([(fakes.START_NS, np.eye(4)), (fakes.START_NS + 1, turned())], tmp_path)
    comment, first, second = path.read_text().splitlines()
    assert comment.startswith("#")
    assert first.split()[0] == "1700000000.123456789"
    assert second.split()[0] == "1700000000.123456790"
    values = [float(word) for word in second.split()[1:]]
    np.testing.assert_allclose(values[:3], [1.0, 2.0, 3.0])
    np.testing.assert_allclose(Rotation.from_quat(values[3:]).as_matrix(), turned()[:3, :3], atol=1e-8)


def test_a_file_that_cannot_be_written_whole_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.ply").mkdir()  # in the place of the file
    with pytest.raises(OSError, match=r"a\.ply"):
        write_whole(tmp_path / "a.ply", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["a.ply"]


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_half(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "a.ply", b"content")
    assert list(tmp_path.iterdir()) == []


def test_the_home_folder_may_be_written_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert new_file(Path("~/clouds"), "a.ply") == tmp_path / "clouds" / "a.ply"
    assert (tmp_path / "clouds").is_dir()


def test_the_debug_picture_shows_the_image_enlarged_below_a_bar(scene: SceneEstimate, fakes: SimpleNamespace) -> None:
    picture = draw_debug_image(scene, 2.5, None)
    width, height = fakes.MODEL_WH
    scale = picture.shape[1] // width
    assert picture.shape == (BAR_HEIGHT_PX + scale * height, scale * width, 3)
    assert picture.shape[1] >= 480


def test_only_movers_are_tinted() -> None:
    image = np.full((10, 12, 3), 100, np.uint8)
    mask = np.zeros((10, 12), bool)
    mask[3:6, 4:8] = True
    picture = overlay_mask(image, mask)
    assert (picture[~mask] == 100).all()
    assert (picture[mask][:, 2] > 150).all()
