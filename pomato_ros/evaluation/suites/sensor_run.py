"""Runs an engine over rendered sequences as a sensor sees them, and over recordings, and scores what it says."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomato_ros.datasets.sensors.sequence import SensorSequence
from pomato_ros.errors import UnusableFrame
from pomato_ros.evaluation.grading import MAX_DEPTH_M, PoseScores, pose_scores
from pomato_ros.evaluation.metrics.trajectory import path_length, relative_errors
from pomato_ros.evaluation.oracle_sets import OracleSequence
from pomato_ros.evaluation.oracle_trial import OracleResult, held, record_run, score_run
from pomato_ros.evaluation.perceiver import Perceiver
from pomato_ros.evaluation.suites.rendered import RenderedSequence
from pomato_ros.structures import Frame, SceneEstimate
from pomato_ros.synthetic.clip import Clip

CONFIDENT = 5.0  # depth over its standard deviation
SeeFrame = Callable[[RenderedSequence, int], Frame]


@dataclass(slots=True)
class DepthSums:
    """Sums over pixels with a true depth up to :data:`pomato_ros.evaluation.grading.MAX_DEPTH_M`."""

    relative_error: float = 0.0
    answered: int = 0
    asked: int = 0

    def add(self, other: "DepthSums") -> None:
        """Pool with those of other frames."""
        self.relative_error += other.relative_error
        self.answered += other.answered
        self.asked += other.asked

    @property
    def absrel(self) -> float:
        """Mean relative error in metres, no scale taken out; NaN without answers."""
        return self.relative_error / self.answered if self.answered else math.nan

    @property
    def coverage(self) -> float:
        """Share of pixels with a confident depth; NaN where none was asked for."""
        return self.answered / self.asked if self.asked else math.nan


class DepthProbe:
    """Passes frames to an engine and scores the depth of its scenes against a clip's truth."""

    def __init__(self, engine: Perceiver, clip: Clip) -> None:
        """Score nothing yet."""
        self._engine, self._clip = engine, clip
        self._number = {stamp_ns: t for t, stamp_ns in enumerate(clip.stamps_ns)}
        self.sums = DepthSums()

    def step(self, frame: Frame) -> SceneEstimate | None:
        """The engine's answer."""
        scene = self._engine.step(frame)
        if scene is not None:
            self.sums.add(score_depth(scene, self._clip.depth_m[self._number[frame.stamp_ns]].numpy()))
        return scene

    def reset(self) -> None:
        """Reset the engine."""
        self._engine.reset()


@dataclass(frozen=True, slots=True)
class SensorResult:
    """Scores of one rendered sequence."""

    result: OracleResult
    depth: DepthSums


@dataclass(frozen=True, slots=True)
class RecordedResult:
    """Scores of one recording with true poses."""

    name: str
    frames: int
    refused: int  # frames that the engine could not use
    ate_m: float  # after SE(3)
    poses: PoseScores
    rot_deg_per_frame: float  # mean angle by which the motion from frame to frame is off
    moving_share: float  # of the pixels, called moving


def score_depth(scene: SceneEstimate, truth_m: NDArray[np.float32]) -> DepthSums:
    """Of one frame; both of one size. An answer is a depth that is confident."""
    asked = (truth_m > 0) & (truth_m < MAX_DEPTH_M)
    answered = asked & np.isfinite(scene.depth) & (scene.depth > 0) & (scene.confidence >= CONFIDENT)
    error = np.abs(scene.depth[answered] - truth_m[answered]) / truth_m[answered]
    return DepthSums(float(error.sum(dtype=np.float64)), int(answered.sum()), int(asked.sum()))


def run_rendered(
    engine: Perceiver,
    sequences: Iterable[RenderedSequence],
    see: SeeFrame,
    frames_later: int,
    watch: Callable[[SensorResult], None] = lambda result: None,
) -> list[SensorResult]:
    """Run and score each sequence, from a reset on.

    Args:
        engine: works at the sequences' size.
        sequences: rendered.
        see: frame of a sequence as the sensor gives it.
        frames_later: when tracks must still have their ids.
        watch: called with each result.
    """
    results = []
    for sequence in sequences:
        results.append(run_one(engine, sequence, see, frames_later))
        watch(results[-1])
    return results


def run_one(engine: Perceiver, sequence: RenderedSequence, see: SeeFrame, frames_later: int) -> SensorResult:
    """Run and score one sequence; arguments as in :func:`run_rendered`."""
    probe = DepthProbe(engine, sequence.clip)
    plain = OracleSequence(sequence.kind, sequence.seed, sequence.clip)

    def see_frame(_: OracleSequence, t: int) -> Frame:
        return see(sequence, t)

    return SensorResult(score_run(plain, record_run(probe, plain, see_frame), frames_later), probe.sums)


def run_recording(engine: Perceiver, sequence: SensorSequence) -> RecordedResult:
    """Run a recording from a reset on and compare its poses with the truth; a lost camera holds its pose.

    Raises:
        ValueError: the recording has no true poses.
    """
    if sequence.world_from_camera is None:
        raise ValueError(f"{sequence.name}: expected true poses beside the images, found none")
    poses = np.full((len(sequence), 4, 4), np.nan)
    moving, refused = [], 0
    engine.reset()
    for t, frame in enumerate(sequence):
        try:
            scene = engine.step(frame)
        except UnusableFrame:
            refused += 1
            continue
        if scene is None:
            continue
        moving.append(float(scene.dynamic_mask.mean()))
        if scene.world_from_camera is not None:
            poses[t] = scene.world_from_camera
    known = np.isfinite(sequence.world_from_camera).all(axis=(1, 2))
    truth, filled = sequence.world_from_camera[known], held(poses)[known]
    scores = pose_scores(filled, truth)
    return RecordedResult(
        name=sequence.name,
        frames=len(sequence),
        refused=refused,
        ate_m=scores.ate_se3_over_path * path_length(truth),
        poses=scores,
        rot_deg_per_frame=float(relative_errors(filled, truth).rotation_deg.mean()),
        moving_share=float(np.mean(moving)) if moving else math.nan,
    )
