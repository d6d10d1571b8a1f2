"""The engine over an oracle that errs as networks do: what is left is the engine's own error."""

import dataclasses
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomato_ros.config import PomatoConfig
from pomato_ros.evaluation import baselines
from pomato_ros.evaluation.metrics.masks import MaskCounts, count_mask
from pomato_ros.evaluation.metrics.trajectory import absolute_errors, align_trajectory, path_length, root_mean_square
from pomato_ros.evaluation.oracle import frame_of, pointmap_engine
from pomato_ros.evaluation.oracle_noise import ISSUE_NOISE, ISSUE_SENSOR, NoiseModel, NoisyOracle, sensed_depth
from pomato_ros.evaluation.oracle_sets import MAJORITY, STILL_RATE_HZ, OracleSequence
from pomato_ros.evaluation.oracle_tracks import TrackCounts, TrackRecord, score_recorded_tracks
from pomato_ros.evaluation.perceiver import Perceiver
from pomato_ros.geometry.alignment import DegenerateAlignmentError
from pomato_ros.geometry.rigid import invert, rotation_log
from pomato_ros.sources.dust3r.pomato_source import WindowPredictor
from pomato_ros.structures import Frame, PoseArray, SceneEstimate, TrackingState
from pomato_ros.synthetic.clip import Clip

WINDOWS_LATER = 5  # a track must have kept its id for so many windows
STILL_DEPTH_M = 3.0  # the depth that drift while standing still is stated for
LEAST_WAY_M = 0.01  # a shorter way is none
SENSOR_DRAWS = 4  # beside those of the oracle's heads and units
SCALE_PRIORS = {
    "depth": f"depth: a depth image with each frame ({ISSUE_SENSOR})",
    "fixed": "fixed: the true unit of the first window",
}


@dataclass(frozen=True, slots=True)
class OracleRun:
    """The engine's estimates for each frame of a sequence; what is missing is NaN or False."""

    world_from_camera: PoseArray  # (t, 4, 4), world is the first camera
    covariance: PoseArray  # (t, 6, 6)
    moving: NDArray[np.bool_]  # (t, h, w)
    scale_ratio: NDArray[np.float64]  # (t,) median of depth over true depth
    lost: NDArray[np.bool_]  # (t,) no pose, or none that the engine stands for
    tracks: TrackRecord


@dataclass(frozen=True, slots=True)
class BlindScores:
    """How the engine took frames of noise."""

    poses_while_blind: int  # frames of noise that were given a pose
    frames_to_recover: int  # after the last of them, till there is a pose; all that were left if there is none
    recovered: bool
    jump_sigma: float  # the largest error of the way over the gap, in its own standard deviations; NaN if not recovered


@dataclass(frozen=True, slots=True)
class OracleResult:
    """Scores of one sequence; NaN or None where they do not apply."""

    kind: str
    seed: int
    frames: int
    lost_frames: int
    ate_over_path: float
    ate_m: float
    scale_errors: NDArray[np.float64]  # (n,) of the frames with depth, shares
    nees: NDArray[np.float64]  # (n,) of the frames with a pose, without the first
    mask: MaskCounts
    mask_majority: MaskCounts  # over the frames more than half of which moves
    tracks: TrackCounts
    drift_m: float  # of the mean position of the last second, at STILL_DEPTH_M
    worst_drift_m: float  # of any frame
    blind: BlindScores | None


EngineFor = Callable[[OracleSequence], Perceiver]


def oracle_engine(
    config: PomatoConfig,
    noise: NoiseModel = ISSUE_NOISE,
    change: Callable[[PomatoConfig], PomatoConfig] = lambda c: c,
    prior: str = "depth",
) -> EngineFor:
    """Makes an engine over the noisy truth of a sequence, which takes its metres from ``prior`` (SCALE_PRIORS)."""

    def engine_for(sequence: OracleSequence) -> Perceiver:
        oracle = NoisyOracle(sequence.clip, noise, sequence.seed, blind=sequence.blind)
        scale = 1.0 / oracle.units_per_metre(0) if prior == "fixed" else 1.0
        metres = {"scale_source": prior, "scale": scale}
        return pointmap_engine(change(config.with_values(metres)), oracle)

    return engine_for


def network_engine(config: PomatoConfig, predictor: WindowPredictor) -> EngineFor:
    """Makes an engine over a network, which takes its metres from a depth sensor, for the oracle's sequences."""

    def engine_for(_sequence: OracleSequence) -> Perceiver:
        return pointmap_engine(config.with_values({"scale_source": "depth"}), predictor)

    return engine_for


def run_trial(
    engine_for: EngineFor,
    sequences: Iterable[OracleSequence],
    new_frames_per_window: int,
    watch: Callable[[OracleResult, OracleSequence, OracleRun], None] = lambda result, sequence, run: None,
    prior: str = "depth",
) -> list[OracleResult]:
    """Run and score each sequence; ``watch`` sees each as it is done.

    Args:
        engine_for: a fresh engine that knows a sequence's truth.
        sequences: what to run.
        new_frames_per_window: by how many frames the window's key moves on.
        watch: called after each.
        prior: what of :data:`SCALE_PRIORS` the frames bring along.
    """
    results = []
    see = frame_with_depth if prior == "depth" else plain_frame
    for sequence in sequences:
        run = record_run(engine_for(sequence), sequence, see)
        results.append(score_run(sequence, run, WINDOWS_LATER * new_frames_per_window))
        watch(results[-1], sequence, run)
    return results


def plain_frame(sequence: OracleSequence, t: int) -> Frame:
    """Frame ``t`` as a camera gives it."""
    return frame_of(sequence.clip, t)


def frame_with_depth(sequence: OracleSequence, t: int) -> Frame:
    """Frame ``t`` with the image of a depth sensor, which sees nothing while the camera is blind."""
    frame, depth_m = plain_frame(sequence, t), sequence.clip.depth_m[t].numpy()
    if t in sequence.blind:
        return frame
    draws = np.random.default_rng([sequence.seed, t, t, SENSOR_DRAWS])
    return dataclasses.replace(frame, depth_m=sensed_depth(depth_m, ISSUE_SENSOR, draws))


def record_run(
    engine: Perceiver, sequence: OracleSequence, see: Callable[[OracleSequence, int], Frame] = plain_frame
) -> OracleRun:
    """Every frame of a sequence, as ``see`` has it, through the engine, from a reset on."""
    clip = sequence.clip
    frames = len(clip)
    run = OracleRun(
        world_from_camera=np.full((frames, 4, 4), np.nan),
        covariance=np.full((frames, 6, 6), np.nan),
        moving=np.zeros(clip.depth_m.shape, bool),
        scale_ratio=np.full(frames, np.nan),
        lost=np.ones(frames, bool),
        tracks=TrackRecord(),
    )
    engine.reset()
    for t in range(frames):
        scene = engine.step(see(sequence, t))
        if scene is not None:
            note(run, t, scene, clip)
    return run


def note(run: OracleRun, t: int, scene: SceneEstimate, clip: Clip) -> None:
    """Keep what the scores need of one scene."""
    run.moving[t] = scene.dynamic_mask
    ratio = scene.depth / clip.depth_m[t].numpy()
    valid = np.isfinite(ratio)
    run.scale_ratio[t] = np.median(ratio[valid]) if valid.any() else np.nan
    run.tracks.add(t, scene)
    if scene.world_from_camera is None:
        return
    run.lost[t] = scene.state is TrackingState.LOST
    run.world_from_camera[t] = scene.world_from_camera
    if scene.pose_covariance is not None:
        run.covariance[t] = scene.pose_covariance


def score_run(sequence: OracleSequence, run: OracleRun, frames_later: int) -> OracleResult:
    """All scores of one run; ``frames_later``: when tracks must still have their ids."""
    clip = sequence.clip
    truth = first_from_camera(clip)
    moving = np.stack([clip.moving(t).numpy() for t in range(len(clip))])
    majority = moving.mean(axis=(1, 2)) > MAJORITY
    ate_m, ate_share = absolute_error(run.world_from_camera, truth)
    drift_m, worst_drift_m = drift(run.world_from_camera, float(clip.depth_m[0].median()))
    scale_ratio = run.scale_ratio[np.isfinite(run.scale_ratio) & ~run.lost]
    return OracleResult(
        kind=sequence.kind,
        seed=sequence.seed,
        frames=len(clip),
        lost_frames=int(run.lost.sum()),
        ate_over_path=ate_share,
        ate_m=ate_m,
        scale_errors=np.abs(scale_ratio - 1.0),
        nees=normalised_errors(run.world_from_camera, run.covariance, truth)[1:],
        mask=count_mask(run.moving, moving),
        mask_majority=count_mask(run.moving[majority], moving[majority]),
        tracks=score_recorded_tracks(run.tracks, clip, frames_later),
        drift_m=drift_m,
        worst_drift_m=worst_drift_m,
        blind=score_blind(run, sequence.blind, truth) if len(sequence.blind) else None,
    )


def first_from_camera(clip: Clip) -> PoseArray:
    """(t, 4, 4) true poses in the first camera, which is the engine's world."""
    poses = clip.world_from_camera.numpy()
    return invert(poses[0]) @ poses


def held(world_from_camera: PoseArray) -> PoseArray:
    """Poses (t, 4, 4) in which a missing one is that before it; the first is the origin if it is missing."""
    filled = world_from_camera.copy()
    for t in range(len(filled)):
        if not np.isfinite(filled[t]).all():
            filled[t] = filled[t - 1] if t else np.eye(4)
    return filled


def absolute_error(world_from_camera: PoseArray, truth: PoseArray) -> tuple[float, float]:
    """RMS position error after one SE(3), in metres and as a share of the true way; a lost camera holds its pose."""
    length = path_length(truth)
    if length < LEAST_WAY_M:
        return math.nan, math.nan
    try:
        aligned = align_trajectory(held(world_from_camera), truth, with_scale=False)
        error_m = root_mean_square(absolute_errors(aligned, truth))
    except DegenerateAlignmentError:  # positions on a line: nothing to turn
        error_m = baselines.standing_still_over_path(truth) * length
    return error_m, error_m / length


def pose_errors(world_from_camera: PoseArray, truth: PoseArray) -> PoseArray:
    """(t, 6) position error and rotation error (rad), along the axes of the world."""
    position = world_from_camera[:, :3, 3] - truth[:, :3, 3]
    turn = world_from_camera[:, :3, :3] @ np.swapaxes(truth[:, :3, :3], -1, -2)
    return np.concatenate((position, rotation_log(turn)), axis=-1)


def normalised_errors(world_from_camera: PoseArray, covariance: PoseArray, truth: PoseArray) -> NDArray[np.float64]:
    """(t,) NEES: squared errors in the covariance's own measure, 6 on average if it is honest; NaN without a pose."""
    posed = np.isfinite(world_from_camera).all(axis=(1, 2)) & np.isfinite(covariance).all(axis=(1, 2))
    values = np.full(len(truth), np.nan)
    if posed.any():
        error = pose_errors(world_from_camera[posed], truth[posed])[..., None]
        values[posed] = (np.swapaxes(error, -1, -2) @ np.linalg.solve(covariance[posed], error))[..., 0, 0]
    return values


def drift(world_from_camera: PoseArray, depth_m: float) -> tuple[float, float]:
    """How far the mean of the last second, and the worst frame, are from the first pose; metres at STILL_DEPTH_M.

    ``depth_m`` is the scene's own. Meant for cameras at rest that see :data:`STILL_RATE_HZ` frames a second.
    """
    positions = held(world_from_camera)[:, :3, 3]
    away = (positions - positions[0]) * (STILL_DEPTH_M / depth_m)
    last = away[-STILL_RATE_HZ:].mean(axis=0)
    return float(np.linalg.norm(last)), float(np.linalg.norm(away, axis=-1).max())


def score_blind(run: OracleRun, blind: range, truth: PoseArray) -> BlindScores:
    """Silence while blind, the way back, and whether the way over the gap is within what its covariance allows."""
    after = np.arange(blind.stop, len(truth))
    back = after[~run.lost[after]]
    recovered = bool(back.size)
    jump = math.nan
    before = np.flatnonzero(~run.lost[: blind.start])
    if recovered and before.size:
        error = pose_errors(run.world_from_camera[back[:1]], truth[back[:1]])[0]
        error -= pose_errors(run.world_from_camera[before[-1:]], truth[before[-1:]])[0]
        jump = float((np.abs(error) / np.sqrt(np.diagonal(run.covariance[back[0]]))).max())
    return BlindScores(
        poses_while_blind=int((~run.lost[blind.start : blind.stop]).sum()),
        frames_to_recover=int(back[0] - blind.stop + 1) if recovered else len(after),
        recovered=recovered,
        jump_sigma=jump,
    )


def pooled_counts(counts: Iterable[MaskCounts]) -> MaskCounts:
    """Pixel counts of several sequences together."""
    names = [item.name for item in dataclasses.fields(MaskCounts)]
    items = list(counts)
    return MaskCounts(**{name: sum(getattr(item, name) for item in items) for name in names})
