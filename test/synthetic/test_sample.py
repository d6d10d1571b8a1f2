from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.sample import FIRST_STAMP_NS, SAMPLE_FRAMES, load_sample, make_sample

BUNDLED = Path(__file__).parents[2] / "pomato_ros" / "samples" / "room"
LIMIT_BYTES = 4 * 2**20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    make_sample(folder, frames=3)
    return folder


@pytest.fixture(scope="module")
def bundled() -> Clip:
    return load_sample(BUNDLED)


def test_a_sample_reads_back_as_a_clip(folder: Path) -> None:
    clip = load_sample(folder)
    assert clip.images.shape == (3, 112, 160, 3)
    assert clip.stamps_ns[0] == FIRST_STAMP_NS
    assert np.diff(clip.stamps_ns) == pytest.approx(1e9 / 15.0, abs=1.0)
    bits = np.load(folder / "truth.npz")["moving_bits"]
    moving = torch.from_numpy(np.unpackbits(bits, axis=-1).astype(bool))
    assert torch.equal(moving, torch.stack([clip.moving(t) for t in range(3)]))


def test_files_of_a_sample_agree(folder: Path) -> None:
    frames = sorted((folder / "frames").iterdir())
    stamps = [int(line) for line in (folder / "stamps.txt").read_text().split()]
    assert [path.name for path in frames] == ["00000.jpg", "00001.jpg", "00002.jpg"]
    assert stamps == load_sample(folder).stamps_ns
    info = yaml.safe_load((folder / "camera_info.yaml").read_text())
    assert cv2.imread(str(frames[0])).shape == (info["image_height"], info["image_width"], 3) == (224, 320, 3)
    matrix = np.array(info["camera_matrix"]["data"]).reshape(3, 3)
    projection = np.array(info["projection_matrix"]["data"]).reshape(3, 4)
    np.testing.assert_allclose(projection[:, :3], matrix)
    truth = load_sample(folder).intrinsics
    assert matrix[0, 0] == pytest.approx(2.0 * truth.fx_px)
    assert matrix[0, 2] + 0.5 == pytest.approx(2.0 * (truth.cx_px + 0.5)), "the same optical axis at both sizes"


def test_a_folder_without_a_sample_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected truth\.npz"):
        load_sample(tmp_path)


def test_the_bundled_sample_is_small_and_whole(bundled: Clip) -> None:
    assert sum(path.stat().st_size for path in BUNDLED.rglob("*") if path.is_file()) < LIMIT_BYTES
    assert len(bundled) == SAMPLE_FRAMES == len(bundled.images)


def test_the_bundled_sample_has_a_moving_camera_and_clear_movers(bundled: Clip) -> None:
    path = bundled.world_from_camera[:, :3, 3]
    assert float((path[1:] - path[:-1]).norm(dim=-1).sum()) > 1.5
    share = torch.stack([bundled.moving(t).float().mean() for t in range(0, SAMPLE_FRAMES, 8)])
    assert float(share.min()) > 0.02
    moved = (bundled.world_from_object[0] != bundled.world_from_object[-1]).flatten(1).any(1)
    assert int(moved.sum()) == 3


def test_the_bundled_pictures_fit_their_truth(bundled: Clip) -> None:
    seen = bundled.visible(40, 44) & ~bundled.moving_mask(40, 44)
    pixels = bundled.pixels_matched(40, 44)[seen].round().long()
    there = bundled.images[44][pixels[:, 1], pixels[:, 0]].float()
    here = bundled.images[40][seen].float()
    unmoved = bundled.images[44][seen].float()
    assert float((there - here).abs().mean()) < 0.7 * float((unmoved - here).abs().mean())
