"""Labels in each form say what the scene says."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pomato_ros.cli.main import main
from pomato_ros.errors import ConfigError
from pomato_ros.sinks.labels import LabelWriter, bounding_box, run_lengths


def decoded(run: dict) -> np.ndarray:
    values = np.repeat(np.arange(len(run["counts"])) % 2, run["counts"])
    return values.reshape(run["size"], order="F").astype(bool)


def test_run_lengths_are_undone() -> None:
    draw = np.random.default_rng(0)
    for share in (0.0, 0.3, 1.0):
        mask = draw.random((7, 5)) < share
        assert np.array_equal(decoded(run_lengths(mask)), mask)
    mask = np.zeros((6, 8), bool)
    mask[2:4, 3:7] = True
    assert bounding_box(mask) == [3, 2, 4, 2]


def test_an_unknown_form_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="voc"):
        LabelWriter(tmp_path, "a", ["davis", "voc"])


def test_the_sample_is_labelled_in_every_form(repository_root: Path, tmp_path: Path) -> None:
    sample = repository_root / "pomato_ros" / "samples" / "room"
    assert main(["label", str(sample), "--out", str(tmp_path), "--max-frames", "6"]) == 0
    (masks,) = (tmp_path / "Annotations" / "480p").iterdir()
    name = masks.name
    assert len(list(masks.glob("*.png"))) == 6
    mask = cv2.imread(str(masks / "00005.png"), cv2.IMREAD_UNCHANGED)
    image = cv2.imread(str(tmp_path / "JPEGImages" / "480p" / name / "00005.jpg"))
    assert mask.shape == image.shape[:2]
    assert set(np.unique(mask)) <= {0, 255}
    kitti = tmp_path / "kitti" / name
    depth = cv2.imread(str(kitti / "depth" / "0000000005.png"), cv2.IMREAD_UNCHANGED)
    assert depth.dtype == np.uint16
    assert (depth > 0).mean() > 0.5
    assert np.allclose(np.loadtxt(kitti / "poses.txt")[0].reshape(3, 4), np.eye(4)[:3])
    assert len(np.loadtxt(kitti / "times.txt")) == 6
    coco = json.loads((tmp_path / "coco" / f"{name}.json").read_text())
    assert coco["videos"][0]["length"] == 6
    for annotation in coco["annotations"]:
        for run, area in zip(annotation["segmentations"], annotation["areas"], strict=True):
            assert run is None or decoded(run).sum() == area
    with np.load(tmp_path / "tapvid" / f"{name}.npz") as tracks:
        assert tracks["points"].shape[1:] == (6, 2)
        seen = tracks["points"][~tracks["occluded"]]
        assert len(seen)
        assert (seen >= 0).all()
        assert (seen <= 1).all()
