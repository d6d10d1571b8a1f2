from pathlib import Path

import cv2
import numpy as np
import pytest

from pomato_ros.ros.frame_source import SourceError, limit_size, open_source, read_camera_file

CALIBRATION = """image_width: 40
image_height: 30
camera_name: cam
camera_matrix: {rows: 3, cols: 3, data: [50.0, 0.0, 19.5, 0.0, 51.0, 14.5, 0.0, 0.0, 1.0]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [0.1, 0.0, 0.0, 0.0, 0.0]}
rectification_matrix: {rows: 3, cols: 3, data: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]}
projection_matrix: {rows: 3, cols: 4, data: [50.0, 0.0, 19.5, 0.0, 0.0, 51.0, 14.5, 0.0, 0.0, 0.0, 1.0, 0.0]}
"""


def write_images(folder: Path, names: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((30, 40, 3), 10 * index, np.uint8))
    return folder


def test_a_folder_is_played_in_natural_order(tmp_path: Path) -> None:
    write_images(tmp_path, ["frame10.png", "frame2.png", "frame1.png"])
    (tmp_path / "readme.txt").write_text("no image")
    source = open_source(str(tmp_path), 10.0)
    frames = list(source.frames())
    assert source.count == 3
    assert [int(frame.image_bgr[0, 0, 0]) for frame in frames] == [20, 10, 0]
    assert [frame.offset_ns for frame in frames] == [0, 100_000_000, 200_000_000]


@pytest.mark.parametrize("name", ["frames", "images"])
def test_images_may_lie_one_folder_down(tmp_path: Path, name: str) -> None:
    write_images(tmp_path / name, ["0.jpg"])
    assert open_source(str(tmp_path), 10.0).count == 1


@pytest.mark.parametrize("place", ["", "frames"])
def test_stamps_and_calibration_beside_the_images_are_used(tmp_path: Path, place: str) -> None:
    write_images(tmp_path / "frames", ["0.jpg", "1.jpg"])
    (tmp_path / place / "stamps.txt").write_text("1000000000\n1066666667\n")
    (tmp_path / place / "camera_info.yaml").write_text(CALIBRATION)
    source = open_source(str(tmp_path / "frames"), 10.0)
    assert [frame.offset_ns for frame in source.frames()] == [0, 66_666_667]
    assert source.calibration_file is not None
    camera = read_camera_file(source.calibration_file)
    assert (camera.width_px, camera.height_px, camera.camera_matrix[0], camera.distortion[0]) == (40, 30, 50.0, 0.1)


@pytest.mark.parametrize("stamps", ["1\n", "2\n1\n", "1\n1\n"])
def test_stamps_that_do_not_suit_are_refused(tmp_path: Path, stamps: str) -> None:
    write_images(tmp_path, ["0.jpg", "1.jpg"])
    (tmp_path / "stamps.txt").write_text(stamps)
    with pytest.raises(SourceError, match="stamps"):
        open_source(str(tmp_path), 10.0)


def test_a_video_file_gives_its_frames_at_its_rate(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 20.0, (40, 30))
    for index in range(4):
        writer.write(np.full((30, 40, 3), 40 * index, np.uint8))
    writer.release()
    source = open_source(str(path), 10.0)
    frames = list(source.frames())
    assert source.count == 4
    assert [frame.offset_ns for frame in frames] == [0, 50_000_000, 100_000_000, 150_000_000]
    assert abs(int(frames[2].image_bgr.mean()) - 80) < 5


def test_nothing_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no video, folder or device"):
        open_source(str(tmp_path / "nothing"), 10.0)
    with pytest.raises(SourceError, match="no images"):
        open_source(str(tmp_path), 10.0)


def test_a_file_that_is_no_video_is_told(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"not a video")
    with pytest.raises(SourceError, match="cannot be opened"):
        open_source(str(tmp_path / "clip.mp4"), 10.0)


def test_a_spoiled_image_is_named(tmp_path: Path) -> None:
    write_images(tmp_path, ["0.jpg"])
    (tmp_path / "1.jpg").write_bytes(b"no image")
    with pytest.raises(SourceError, match=r"1\.jpg"):
        list(open_source(str(tmp_path), 10.0).frames())


@pytest.mark.parametrize("spoil", ["camera_matrix", "projection_matrix", "image_width"])
def test_a_calibration_that_lacks_something_is_refused(tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "camera_info.yaml"
    path.write_text(CALIBRATION.replace(spoil, "other"))
    with pytest.raises(SourceError, match=spoil):
        read_camera_file(path)


def test_large_images_are_reduced_and_small_ones_left_alone() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    assert limit_size(image, 50).shape == (25, 50, 3)
    assert limit_size(image, 0) is image
    assert limit_size(image, 300) is image
