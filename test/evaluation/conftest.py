"""A rendered clip with movers, and an engine and a network that know its truth."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from pomato_ros.evaluation.evaluate import Subject, subject_of
from pomato_ros.evaluation.oracle import OraclePredictor
from pomato_ros.structures import Frame, SceneEstimate, TrackingState, TrackSet
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip

SIZE_WH = (64, 48)
FRAMES = 14
Change = Callable[[SceneEstimate], SceneEstimate | None]

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


class TruthfulEngine:
    """Says the truth about each frame of a clip, in a unit of its own; ``change`` spoils it."""

    def __init__(self, clip: Clip, change: Change = lambda scene: scene, metres_per_unit: float = 1.0) -> None:
        self.clip, self.change, self.metres_per_unit = clip, change, metres_per_unit
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def step(self, frame: Frame) -> SceneEstimate | None:
        t = self.clip.stamps_ns.index(frame.stamp_ns)
        first_from_camera = (
            np.linalg.inv(self.clip.world_from_camera[0].numpy()) @ self.clip.world_from_camera[t].numpy()
        )
        first_from_camera[:3, 3] /= self.metres_per_unit
        scene = SceneEstimate(
            stamp_ns=frame.stamp_ns,
            state=TrackingState.TRACKING,
            frames_in_window=t + 1,
            image_rgb=frame.image_rgb,
            intrinsics=self.clip.intrinsics,
            intrinsics_known=True,
            model_from_source=np.eye(3),
            source_size_wh=SIZE_WH,
            points_camera=self.clip.points_camera(t).numpy() / np.float32(self.metres_per_unit),
            confidence=np.full(SIZE_WH[::-1], 2.0, np.float32),
            dynamic_mask=self.clip.moving(t).numpy(),
            world_from_camera=first_from_camera,
            pose_covariance=np.eye(6),
            pose_inlier_ratio=1.0,
            metres_per_unit=1.0,
            tracks=NO_TRACKS,
            stage_seconds={"preprocess": 0.001, "model": 0.01, "scene": 0.002},
        )
        return self.change(scene)


@pytest.fixture(scope="session")
def clip() -> Clip:
    world = dataclasses.replace(TRAIN_WORLD, mover_probability=1.0, camera_kinds=(1.0, 0.0, 0.0, 0.0, 0.0))
    return render_clip(5, world, FRAMES, SIZE_WH)


@pytest.fixture
def truthful_engine(clip: Clip) -> Callable[..., TruthfulEngine]:
    """Makes an engine; arguments as :class:`TruthfulEngine` takes them after the clip."""
    return lambda *args, **kwargs: TruthfulEngine(clip, *args, **kwargs)


@pytest.fixture
def truthful(clip: Clip) -> Callable[..., Subject]:
    """Makes a subject of such an engine and a network that knows the truth."""
    return lambda *args, **kwargs: subject_of(
        TruthfulEngine(clip, *args, **kwargs), OraclePredictor(clip), SIZE_WH[0], 16
    )
