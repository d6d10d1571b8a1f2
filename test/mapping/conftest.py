"""A small rendered clip, and answers for it that know the truth."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from pomato_ros.mapping.chunk_result import ChunkResult
from pomato_ros.sources.dust3r.prediction import PairPrediction
from pomato_ros.structures import Frame, PreparedFrame
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip

SIZE_WH = (64, 48)


@pytest.fixture(scope="session")
def clip() -> Clip:
    """Ten frames with movers."""
    world = dataclasses.replace(
        TRAIN_WORLD, mover_probability=1.0, movers=(2, 3), mover_image_share=(0.05, 0.2), floating_probability=0.0
    )
    return render_clip(6, world, 10, SIZE_WH, supersample=2)


@pytest.fixture(scope="session")
def frames(clip: Clip) -> list[Frame]:
    """The clip's calibrated images."""
    return [Frame(clip.stamps_ns[t], clip.images[t].numpy(), clip.intrinsics) for t in range(len(clip))]


class TruePairs:
    """True pointmaps of each pair of the clip's frames, every pair in a unit of its own."""

    image_size_px = SIZE_WH[0]
    identity = "truth"

    def __init__(self, clip: Clip) -> None:
        self._clip = clip

    def predict_pairs(self, frames: Sequence[PreparedFrame], edges: np.ndarray) -> PairPrediction:
        numbers = [self._clip.stamps_ns.index(frame.stamp_ns) for frame in frames]
        pairs = [(numbers[i], numbers[j]) for i, j in edges]
        units = torch.linspace(0.5, 1.5, len(pairs))[:, None, None, None]
        own = torch.stack([self._clip.points_camera(i) for i, _ in pairs]) * units
        moved = torch.stack([self._clip.points_transferred(j, i) for i, j in pairs]) * units
        matched = torch.stack([self._clip.points_matched(j, i) for i, j in pairs]) * units
        confidence = torch.full(own.shape[:-1], 5.0)
        return PairPrediction(own, confidence, moved, confidence, matched, confidence)

    def descriptors(self, frames: Sequence[PreparedFrame]) -> np.ndarray:
        return np.stack([frame.image_rgb.mean(axis=(0, 1)) for frame in frames]).astype(np.float32)


@pytest.fixture(scope="session")
def true_pairs(clip: Clip) -> TruePairs:
    """A pair predictor that knows the truth."""
    return TruePairs(clip)


class TrueChunks:
    """Solves chunks with the truth, each in a world and a unit of its own; counts how often it is asked."""

    identity = "true chunks"

    def __init__(self, clip: Clip) -> None:
        self._clip = clip
        self.solved = 0

    def solve(self, frames: Sequence[Frame], advance: Callable[[], None] = lambda: None) -> ChunkResult:
        self.solved += 1
        numbers = [self._clip.stamps_ns.index(frame.stamp_ns) for frame in frames]
        unit = 1.0 + 0.3 * numbers[0]
        poses = self._clip.world_from_camera[numbers].numpy()
        poses = np.linalg.inv(poses[0]) @ poses
        poses[:, :3, 3] *= unit
        depth = self._clip.depth_m[numbers].numpy() * np.float32(unit)
        return ChunkResult(
            stamps_ns=np.array([frame.stamp_ns for frame in frames]),
            images_rgb=np.stack([frame.image_rgb for frame in frames]),
            world_from_camera=poses,
            camera_matrix=self._clip.intrinsics.matrix(),
            depth=depth,
            confidence=np.ones_like(depth),
            moving=np.stack([self._clip.moving(t).numpy() for t in numbers]),
            metric=False,
            cost=(1.0, 0.0),
        )


@pytest.fixture
def true_chunks(clip: Clip) -> TrueChunks:
    """A chunk solver that knows the truth."""
    return TrueChunks(clip)
