"""Each layout is read as it is distributed, and the truth itself scores as the truth."""

import dataclasses
import io
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from pomato_ros.datasets.papers.tapvid3d import read_clip
from pomato_ros.errors import ConfigError
from pomato_ros.evaluation.protocols.protocol import Protocol
from pomato_ros.evaluation.protocols.registry import PROTOCOLS, protocol_of
from pomato_ros.evaluation.protocols.runner import mean_scores, score_sequence
from pomato_ros.evaluation.protocols.table import protocol_table, summarise_layout
from pomato_ros.geometry.camera import unproject
from pomato_ros.geometry.grid import pixel_grid
from pomato_ros.structures import BudgetReport, Frame, SceneEstimate, TrackingState, TrackSet
from pomato_ros.synthetic.clip import Clip

WRITTEN = ("sintel", "bonn", "tum", "scannet", "kitti", "davis", "adt", "pstudio", "seven_scenes", "tartanair")
NO_TRACKS = TrackSet(
    ids=np.zeros(0, np.int64),
    positions_world=np.zeros((0, 3)),
    velocities_world=np.zeros((0, 3)),
    pixels=np.zeros((0, 2), np.float32),
    confidence=np.zeros(0, np.float32),
    visible=np.zeros(0, bool),
    dynamic=np.zeros(0, bool),
    age_frames=np.zeros(0, np.int64),
)


class KnowsTruth:
    """Answers with the clip's truth for some of its frames, in another unit and world; sees no depth."""

    def __init__(self, clip: Clip, numbers: Sequence[int]) -> None:
        self._clip, self._numbers, self._next = clip, list(numbers), 0

    def reset(self) -> None:
        self._next = 0

    def step(self, frame: Frame) -> SceneEstimate | None:
        assert frame.depth_m is None
        t = self._numbers[self._next]
        self._next += 1
        clip, unit = self._clip, 0.3
        pose = np.linalg.inv(clip.world_from_camera[0].numpy()) @ clip.world_from_camera[t].numpy()
        pose[:3, 3] *= unit
        depth = clip.depth_m[t].numpy() * unit
        points = unproject(pixel_grid(*depth.shape), depth, clip.intrinsics.matrix()).astype(np.float32)
        return SceneEstimate(
            stamp_ns=frame.stamp_ns,
            state=TrackingState.TRACKING,
            frames_in_window=1,
            image_rgb=frame.image_rgb,
            intrinsics=clip.intrinsics,
            intrinsics_known=True,
            model_from_source=np.eye(3),
            source_size_wh=(depth.shape[1], depth.shape[0]),
            points_camera=points,
            confidence=np.ones_like(depth),
            dynamic_mask=clip.moving(t).numpy(),
            world_from_camera=pose,
            pose_covariance=np.eye(6),
            pose_inlier_ratio=1.0,
            metres_per_unit=1.0,
            tracks=NO_TRACKS,
            stage_seconds={},
            budget=BudgetReport(),
        )


def score(clip: Clip, protocol: Protocol, root: Path) -> dict[str, float]:
    (sequence,) = protocol.chosen(protocol.find(root))
    numbers = protocol.frames_of(sequence)

    def follow(frames: Sequence[Frame], queries_xy: np.ndarray) -> np.ndarray:
        x, y = np.rint(queries_xy).astype(int).T
        return 0.3 * np.stack([clip.points_matched(0, t)[y, x].numpy() for t in numbers])

    scores = score_sequence(KnowsTruth(clip, numbers), follow, protocol, sequence)
    assert scores.frames == len(numbers)
    return mean_scores([scores])


def whole(protocol: Protocol) -> Protocol:
    """The protocol without its choice of frames, which ten frames have not got."""
    return dataclasses.replace(protocol, start=0, stride=1)


@pytest.mark.parametrize("layout", WRITTEN)
def test_the_truth_scores_as_the_truth(layout: str, truth: Clip, write_layout: Callable[[str], Path]) -> None:
    protocol = whole(protocol_of(layout))
    figures = score(truth, protocol, write_layout(layout))
    assert figures
    if protocol.poses:
        assert figures["ate_m"] < 1e-3
        assert figures["rpe_rotation_deg"] < 0.05
    if protocol.depth:
        assert figures["depth_absrel"] < (0.02 if layout == "bonn" else 5e-3)  # whose lens is undone
        assert figures["depth_delta1"] > (0.98 if layout == "bonn" else 0.999)
    if protocol.masks:
        assert figures["davis_j"] > 0.999
    if protocol.tracks:
        assert figures["apd"] > 0.95


def test_all_layouts_of_the_command_line_are_known() -> None:
    assert set(WRITTEN) | {"point_odyssey", "dynamic_replica", "euroc"} == set(PROTOCOLS)
    with pytest.raises(ConfigError, match="expected one of sintel"):
        protocol_of("imagenet")
    for name, protocol in PROTOCOLS.items():
        assert protocol.layout == name
        assert protocol.depth or protocol.poses or protocol.masks or protocol.tracks


@pytest.mark.parametrize("layout", list(PROTOCOLS))
def test_an_empty_folder_is_named(layout: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"(?i)expected|no |missing"):
        protocol_of(layout).find(tmp_path)


def test_frames_are_chosen_as_published() -> None:
    class Long:
        frames = 1200

    assert PROTOCOLS["bonn"].frames_of(Long()) == list(range(30, 230, 5))  # type: ignore[arg-type]
    assert PROTOCOLS["tum"].frames_of(Long()) == list(range(0, 120, 3))  # type: ignore[arg-type]
    assert PROTOCOLS["kitti"].frames_of(Long()) == list(range(110))  # type: ignore[arg-type]


def test_published_rows_are_marked(truth: Clip, write_layout: Callable[[str], Path]) -> None:
    protocol = whole(protocol_of("davis"))
    (sequence,) = protocol.find(write_layout("davis"))
    numbers = protocol.frames_of(sequence)
    scores = [score_sequence(KnowsTruth(truth, numbers), lambda f, q: q, protocol, sequence)]
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(protocol_table(protocol, scores))
    text = console.export_text()
    assert "MonST3R (published)" in text
    assert "mean, measured here" in text
    assert summarise_layout(protocol, scores)["davis_j"] == pytest.approx(1.0)


def test_clips_of_objects_hold_bytes_and_nothing_else(
    truth: Clip, tmp_path: Path, write_layout: Callable[[str], Path]
) -> None:
    plain = read_clip(write_layout("adt") / "clip.npz")
    with np.load(tmp_path / "adt" / "clip.npz") as stored:
        arrays = dict(stored)
    arrays["images_jpeg_bytes"] = np.array(arrays["images_jpeg_bytes"].tolist(), dtype=object)
    np.savez(tmp_path / "objects.npz", **arrays)
    objects = read_clip(tmp_path / "objects.npz")
    assert np.array_equal(objects.read_frame(2).image_rgb, plain.read_frame(2).image_rgb)

    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "owned",))  # type: ignore[return-value]

    assert pickle.dumps(Attack())
    arrays["images_jpeg_bytes"] = np.array([Attack()] * len(truth), dtype=object)
    np.savez(tmp_path / "attack.npz", **arrays)
    with pytest.raises(OSError, match="refused to load"):
        read_clip(tmp_path / "attack.npz")
    assert not (tmp_path / "owned").exists()
