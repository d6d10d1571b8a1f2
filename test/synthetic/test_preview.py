from pathlib import Path

import cv2
import pytest
import torch

from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.preview import clip_strip, contact_sheet, depth_picture, flow_picture
from pomato_ros.synthetic.world import TRAIN_WORLD


def test_a_contact_sheet_has_a_strip_for_every_seed(tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    contact_sheet([1, 2, 3], TRAIN_WORLD, path, size_wh=(24, 16), columns=2)
    assert cv2.imread(str(path)).shape == (2 * (16 + 4), 2 * 6 * (24 + 4), 3)


def test_a_sheet_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="could not write"):
        contact_sheet([1], TRAIN_WORLD, tmp_path / "missing" / "sheet.png", size_wh=(16, 12))


def test_a_strip_keeps_the_shape_of_the_image(clip: Clip) -> None:
    assert clip_strip(clip).shape == (48 + 4, 6 * (72 + 4), 3)


def test_near_is_redder_than_far() -> None:
    picture = depth_picture(torch.linspace(1.0, 5.0, 64).expand(8, 64)).astype(int)
    assert picture[4, 2, 0] > picture[4, 2, 2]
    assert picture[4, 55, 0] < picture[4, 55, 2]


def test_a_flow_of_zero_is_white_and_an_undefined_one_black() -> None:
    flow = torch.zeros(4, 6, 2)
    flow[0, 0] = torch.nan
    picture = flow_picture(flow)
    assert picture[1, 1].tolist() == [255, 255, 255]
    assert picture[0, 0].tolist() == [0, 0, 0]
