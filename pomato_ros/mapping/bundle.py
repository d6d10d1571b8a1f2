"""Bundle adjustment of one chunk with GTSAM: cameras and points that explain followed features, robustly.

Each observation is a reprojection factor with a Geman-McClure loss; where the source has a depth, a range factor of its
uncertainty ties points to it, which also holds the scale. Motion between neighbours is held loosely.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomato_ros.errors import ConfigError
from pomato_ros.geometry.camera import project, unproject
from pomato_ros.geometry.rigid import invert
from pomato_ros.mapping.image_tracks import ImageTracks

PIXEL_SIGMA = 0.3  # of a followed feature
OUTLIER_PX = 2.5
LOOSE_MOTION = (0.05, 0.5)  # for poses of a network
TIGHT_MOTION = (0.003, 0.1)  # for poses of a metric sensor
FIXED_SIGMA = 1e-4
LEAST_STEP = 1e-3
LOSS_WIDTH = 3.0  # sigmas at which an observation begins to lose its say
ITERATIONS = 40
ROUNDS = 2  # the second one without the outliers of the first


@dataclass(frozen=True, slots=True)
class BundleProblem:
    """Cameras to refine, and what is known of them.

    Attributes:
        world_from_camera: (n, 4, 4) where to begin.
        camera_matrix: (3, 3) of all images.
        depth: (n, h, w), 0 or NaN where unknown, in the unit of the poses.
        depth_sigma: relative standard deviation of depth.
        tracks: features that were followed.
        motion_sigma: of the motion between neighbours: rotation in rad, translation as a share of the median step.
    """

    world_from_camera: NDArray[np.float64]
    camera_matrix: NDArray[np.float64]
    depth: NDArray[np.float32]
    depth_sigma: float
    tracks: ImageTracks
    motion_sigma: tuple[float, float] = LOOSE_MOTION


@dataclass(frozen=True, slots=True)
class BundleResult:
    """Refined cameras, the points, and the observations that agree with them."""

    world_from_camera: NDArray[np.float64]  # (n, 4, 4)
    points_world: NDArray[np.float64]  # (tracks, 3); NaN where a track was left out
    inliers: ImageTracks
    residual_px: float  # root mean square of the inliers


def adjust(problem: BundleProblem) -> BundleResult:
    """The most likely cameras and points.

    Raises:
        ConfigError: GTSAM is not installed.
    """
    tracks, poses = problem.tracks, problem.world_from_camera
    points = np.full((int(tracks.track.max(initial=-1)) + 1, 3), np.nan)
    for _ in range(ROUNDS):
        tracks = _with_depth(problem, tracks, poses, points)
        if not len(tracks.track):
            break
        poses, points = _solve(problem, tracks, poses, points)
        error_px = reprojection_errors(poses, points, problem.camera_matrix, tracks)
        tracks = tracks.select(error_px < OUTLIER_PX)
    error_px = reprojection_errors(poses, points, problem.camera_matrix, tracks)
    rms_px = float(np.sqrt(np.mean(error_px**2))) if len(error_px) else 0.0
    return BundleResult(poses, points, tracks, rms_px)


def reprojection_errors(
    world_from_camera: NDArray[np.float64],
    points_world: NDArray[np.float64],
    camera_matrix: NDArray[np.float64],
    tracks: ImageTracks,
) -> NDArray[np.float64]:
    """(o,) px; infinite for points that are not ahead of the camera or unknown."""
    camera_from_world = invert(world_from_camera)[tracks.image]
    points = points_world[tracks.track]
    seen = np.einsum("oij,oj->oi", camera_from_world[:, :3, :3], points) + camera_from_world[:, :3, 3]
    error_px = np.linalg.norm(project(seen, camera_matrix) - tracks.pixels, axis=-1)
    return np.where(np.isfinite(error_px), error_px, np.inf)


def depth_at(depth: NDArray[np.float32], tracks: ImageTracks) -> NDArray[np.float64]:
    """(o,) depth at the observations' nearest pixels; NaN where unknown."""
    column, row = np.rint(tracks.pixels).astype(int).T
    found = depth[tracks.image, row.clip(0, depth.shape[1] - 1), column.clip(0, depth.shape[2] - 1)].astype(np.float64)
    return np.where(np.isfinite(found) & (found > 0), found, np.nan)


def _with_depth(
    problem: BundleProblem, tracks: ImageTracks, poses: NDArray[np.float64], points: NDArray[np.float64]
) -> ImageTracks:
    """Observations of tracks that have a first point: where they were seen first with a depth. Fills ``points``."""
    found = depth_at(problem.depth, tracks)
    usable = np.flatnonzero(np.isfinite(found) & np.isnan(points[tracks.track, 0]))
    _, first = np.unique(tracks.track[usable], return_index=True)
    rows = usable[first]  # the earliest of each track
    camera = unproject(tracks.pixels[rows], found[rows], problem.camera_matrix)
    pose = poses[tracks.image[rows]]
    points[tracks.track[rows]] = np.einsum("oij,oj->oi", pose[:, :3, :3], camera) + pose[:, :3, 3]
    return tracks.select(np.isfinite(points[tracks.track, 0]))


def _solve(
    problem: BundleProblem, tracks: ImageTracks, poses: NDArray[np.float64], points: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One optimisation with GTSAM's Levenberg-Marquardt."""
    try:
        import gtsam
    except ImportError as error:
        raise ConfigError("bundle adjustment needs GTSAM; run: pip install 'pomato_ros[mapping]'") from error
    graph, values = gtsam.NonlinearFactorGraph(), gtsam.Values()
    for number, pose in enumerate(poses):
        values.insert(_camera_key(gtsam, number), gtsam.Pose3(pose))
    seen = np.unique(tracks.track)
    for track in seen:
        values.insert(_point_key(gtsam, track), points[track])
    _add_motion(gtsam, graph, poses, problem.motion_sigma)
    _add_observations(gtsam, graph, problem, tracks)
    parameters = gtsam.LevenbergMarquardtParams()
    parameters.setMaxIterations(ITERATIONS)
    solved = gtsam.LevenbergMarquardtOptimizer(graph, values, parameters).optimize()
    refined = np.stack([solved.atPose3(_camera_key(gtsam, number)).matrix() for number in range(len(poses))])
    placed = points.copy()
    for track in seen:
        placed[track] = solved.atPoint3(_point_key(gtsam, track))
    return refined, placed


def _add_motion(gtsam: Any, graph: Any, poses: NDArray[np.float64], motion_sigma: tuple[float, float]) -> None:
    """The first camera stays; neighbours keep about the motion that they had."""
    fixed = gtsam.noiseModel.Isotropic.Sigma(6, FIXED_SIGMA)
    graph.add(gtsam.PriorFactorPose3(_camera_key(gtsam, 0), gtsam.Pose3(poses[0]), fixed))
    steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=-1)
    turn_sigma, step_share = motion_sigma
    step_sigma = max(step_share * float(np.median(steps)), LEAST_STEP) if len(steps) else 1.0
    loose = gtsam.noiseModel.Diagonal.Sigmas(np.array([turn_sigma] * 3 + [step_sigma] * 3))
    for number in range(len(poses) - 1):
        motion = gtsam.Pose3(invert(poses[number]) @ poses[number + 1])
        keys = _camera_key(gtsam, number), _camera_key(gtsam, number + 1)
        graph.add(gtsam.BetweenFactorPose3(*keys, motion, loose))


def _add_observations(gtsam: Any, graph: Any, problem: BundleProblem, tracks: ImageTracks) -> None:
    """A reprojection factor for each observation, and a range factor where it has a depth."""
    matrix = problem.camera_matrix
    camera = gtsam.Cal3_S2(matrix[0, 0], matrix[1, 1], 0.0, matrix[0, 2], matrix[1, 2])
    loss = gtsam.noiseModel.mEstimator.GemanMcClure.Create(LOSS_WIDTH)
    noise = gtsam.noiseModel.Robust.Create(loss, gtsam.noiseModel.Isotropic.Sigma(2, PIXEL_SIGMA))
    rays = np.linalg.norm(unproject(tracks.pixels, np.ones(len(tracks.pixels)), matrix), axis=-1)
    ranges = depth_at(problem.depth, tracks) * rays
    for track, image, pixel, distance in zip(tracks.track, tracks.image, tracks.pixels, ranges, strict=True):
        keys = _camera_key(gtsam, image), _point_key(gtsam, track)
        graph.add(gtsam.GenericProjectionFactorCal3_S2(pixel, noise, *keys, camera))
        if np.isfinite(distance):
            spread = gtsam.noiseModel.Isotropic.Sigma(1, problem.depth_sigma * distance)
            robust = gtsam.noiseModel.Robust.Create(gtsam.noiseModel.mEstimator.Cauchy.Create(1.0), spread)
            graph.add(gtsam.RangeFactor3D(*keys, distance, robust))


def _camera_key(gtsam: Any, number: int) -> int:
    return int(gtsam.symbol("x", int(number)))


def _point_key(gtsam: Any, track: int) -> int:
    return int(gtsam.symbol("p", int(track)))
