from pathlib import Path

import cv2
import numpy as np
import pytest

from pomato_ros.ros.frame_source import Skips, SourceError, file_frames, limit_size, open_source, read_camera_file

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


def jpeg(value: int = 100) -> bytes:
    noise = np.random.default_rng(value).integers(0, 256, (60, 80, 3), np.uint8)
    return cv2.imencode(".jpg", noise)[1].tobytes()


def png() -> bytes:
    return cv2.imencode(".png", cv2.imdecode(np.frombuffer(jpeg(), np.uint8), cv2.IMREAD_COLOR))[1].tobytes()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("1.jpg", b"no image", "cannot decode"),
        ("1.png", b"", "empty"),
        ("1.jpg", jpeg()[:1000], "cut off"),
        ("1.png", png()[:-3000], "cut off"),
    ],
    ids=["no image", "empty", "jpeg", "png"],
)
def test_a_file_that_cannot_be_read_is_left_out_and_named(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    write_images(tmp_path, ["0.jpg", "2.jpg"])
    (tmp_path / name).write_bytes(content)
    source = open_source(str(tmp_path), 10.0)
    assert [frame.offset_ns for frame in source.frames()] == [0, 200_000_000]  # the others keep their times
    assert name in source.skips.sentence()
    assert reason in source.skips.sentence()
    assert len(list(source.frames())) == 2
    assert len(source.skips.reasons) == 1  # of one pass


def test_a_folder_in_which_nothing_can_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"")
    with pytest.raises(SourceError, match="no image"):
        list(open_source(str(tmp_path), 10.0).frames())


def test_bytes_after_the_end_of_a_jpeg_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "0.jpg").write_bytes(jpeg() + b"trailer of a phone")
    assert len(list(open_source(str(tmp_path), 10.0).frames())) == 1


def test_hidden_files_are_no_frames(tmp_path: Path) -> None:
    write_images(tmp_path, ["0.png", "1.png"])
    (tmp_path / "._1.png").write_bytes(b"Mac OS X")
    assert open_source(str(tmp_path), 10.0).count == 2


def test_pictures_of_other_formats_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"a\.heic.*convert"):
        open_source(str(tmp_path), 10.0)
    write_images(tmp_path, ["0.png"])
    assert open_source(str(tmp_path), 10.0).foreign == ("a.heic",)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_images_of_more_than_8_bits_keep_their_contrast(tmp_path: Path, bits: int) -> None:
    for index in range(2):
        grey = np.linspace(0, (2**bits - 1) / (index + 1), 40 * 30).reshape(30, 40)
        cv2.imwrite(str(tmp_path / f"{index}.png"), grey.astype(np.uint16))
    bright, dark = (frame.image_bgr for frame in open_source(str(tmp_path), 10.0).frames())
    assert (int(bright.max()), int(dark.max())) == (255, 127)  # one scale for both


def test_a_name_with_odd_digits_is_a_name(tmp_path: Path) -> None:
    (tmp_path / "\u00b21.png").write_bytes(png())
    assert len(list(open_source(str(tmp_path), 10.0).frames())) == 1


def test_the_home_folder_may_be_written_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_images(tmp_path / "clip", ["0.png"])
    assert open_source("~/clip", 10.0).count == 1


@pytest.mark.parametrize("text", ["a\nb\n", "0.0\n0.1\n", "1\n\uff13\n", "\xff\xfe"])
def test_stamps_that_are_no_integers_are_refused(tmp_path: Path, text: str) -> None:
    write_images(tmp_path, ["0.jpg", "1.jpg"])
    (tmp_path / "stamps.txt").write_text(text, encoding="utf-8")
    with pytest.raises(SourceError, match="expected one integer in ns a line"):
        open_source(str(tmp_path), 10.0)


@pytest.mark.parametrize("text", ["!!python/object/apply:os.system ['x']", "a: [1, 2\n b: {", "", "- 1", "\x00\x01"])
def test_a_calibration_that_is_no_plain_yaml_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "camera_info.yaml").write_text(text)
    with pytest.raises(SourceError, match=r"camera_info\.yaml: expected"):
        read_camera_file(tmp_path / "camera_info.yaml")


@pytest.mark.parametrize(
    ("old", "new"), [("image_width: 40", "image_width: 0"), ("[50.0, 0.0, 19.5", "[.nan, 0.0, 19.5"), ("51.0", "-51.0")]
)
def test_a_calibration_that_no_camera_has_is_refused(tmp_path: Path, old: str, new: str) -> None:
    (tmp_path / "camera_info.yaml").write_text(CALIBRATION.replace(old, new))
    with pytest.raises(SourceError, match="expected"):
        read_camera_file(tmp_path / "camera_info.yaml")


class Capture:
    """A video whose frames have given times in ms; None cannot be decoded."""

    def __init__(self, times_ms: list[float | None], stated: int, rate_hz: float = 10.0) -> None:
        self.times_ms = times_ms
        self.facts = {cv2.CAP_PROP_FPS: rate_hz, cv2.CAP_PROP_FRAME_COUNT: float(stated)}
        self.place = -1

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.place += 1
        came = self.place < len(self.times_ms) and self.times_ms[self.place] is not None
        return came, np.zeros((2, 2, 3), np.uint8) if came else None

    def get(self, name: int) -> float:
        return self.facts[name] if name in self.facts else float(self.times_ms[self.place] or 0.0)


def offsets_ms(capture: Capture, skips: Skips) -> list[float]:
    return [frame.offset_ns * 1e-6 for frame in file_frames(capture, skips) if frame.offset_ns is not None]


def test_each_frame_of_a_video_has_its_own_time() -> None:
    skips = Skips()
    assert offsets_ms(Capture([40.0, 73.0, 273.0, 306.0], 4), skips) == [0.0, 33.0, 233.0, 266.0]
    assert offsets_ms(Capture([0.0, 0.0, 0.0], 3), skips) == [0.0, 100.0, 200.0]  # a container without times
    assert not skips.sentence()


def test_a_video_goes_on_after_a_frame_that_cannot_be_decoded() -> None:
    skips = Skips()
    assert offsets_ms(Capture([0.0, None, 200.0, 300.0], 4), skips) == [0.0, 200.0, 300.0]
    assert "frame 1" in skips.sentence()


def test_a_video_that_ends_before_its_stated_length_says_so() -> None:
    skips = Skips()
    assert len(offsets_ms(Capture([0.0, 100.0], 40), skips)) == 2
    assert "states 4.0 s and ends after 0.1 s" in skips.sentence()


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
