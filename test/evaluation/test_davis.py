"""A miniature DAVIS folder: masks are compared at the images' own size, without the first and the last frame."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pomato_ros.evaluation.davis import evaluate_davis, find_sequences
from pomato_ros.evaluation.recorded_report import davis_table, summarise_davis
from pomato_ros.structures import Frame, SceneEstimate
from pomato_ros.synthetic.clip import Clip

FRAMES = 5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in ("images", "masks"):
        (tmp_path / "box" / part).mkdir(parents=True)
    for index in range(FRAMES):
        mask = np.zeros((96, 128), np.uint8)
        mask[32:64, 32:64] = 255
        cv2.imwrite(str(tmp_path / "box" / "masks" / f"{index:05d}.png"), mask)
        cv2.imwrite(str(tmp_path / "box" / "images" / f"{index:05d}.jpg"), np.full((96, 128, 3), 90, np.uint8))
    return tmp_path


class HalfSizeEngine:
    """Sees the images at half their size and marks the same box, except in the first and the last frame."""

    image_size_px = 64

    def __init__(self, truthful: SceneEstimate) -> None:
        self.scene, self.count = truthful, 0

    def reset(self) -> None:
        self.count = 0

    def step(self, frame: Frame) -> SceneEstimate | None:
        assert frame.intrinsics is None
        self.count += 1
        mask = np.zeros((48, 64), bool)
        mask[16:32, 16:32] = self.count not in (1, FRAMES)
        homography = np.array([[0.5, 0.0, -0.25], [0.0, 0.5, -0.25], [0.0, 0.0, 1.0]])
        return dataclasses.replace(
            self.scene, dynamic_mask=mask, model_from_source=homography, source_size_wh=(128, 96)
        )


def test_a_mask_is_scored_at_the_size_of_the_image(folder: Path, clip: Clip, truthful_engine: Callable) -> None:
    scene = truthful_engine().step(Frame(clip.stamps_ns[0], clip.images[0].numpy()))
    done: list[int] = []
    results = evaluate_davis(HalfSizeEngine(scene), find_sequences(folder), lambda: done.append(1))
    assert (results[0].name, results[0].frames, len(done)) == ("box", FRAMES - 2, 1)
    assert results[0].moving.mean == results[0].moving.recall == 1.0
    assert results[0].all_moving.mean == pytest.approx(32 * 32 / (96 * 128))
    assert summarise_davis(results)["davis_jm_box"] == 1.0
    assert results[0].opencv.mean == summarise_davis(results)["opencv_davis_jm"] == 0.0  # images without any motion
    assert davis_table(results).row_count == 1


def test_a_folder_without_sequences_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="NAME/images and NAME/masks"):
        find_sequences(tmp_path)
