"""The two ways to solve a chunk: global alignment of pointmaps, or the online answer with bundle adjustment."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pomato_ros.config import PomatoConfig
from pomato_ros.engine import Engine
from pomato_ros.errors import UnusableFrame
from pomato_ros.mapping.bundle import LOOSE_MOTION, TIGHT_MOTION, BundleProblem, adjust
from pomato_ros.mapping.chunk import align_chunk
from pomato_ros.mapping.chunk_result import ChunkResult
from pomato_ros.mapping.depth_refinement import agreed_depth, corrected_depth
from pomato_ros.mapping.flow_depth import triangulated_depth
from pomato_ros.mapping.image_tracks import follow_images
from pomato_ros.mapping.options import AlignmentOptions, PairOptions
from pomato_ros.mapping.pair_prediction import PairPredictor
from pomato_ros.sources.dust3r.preprocess import prepare_frame
from pomato_ros.structures import Frame, SceneEstimate

NETWORK_DEPTH_SIGMA = 1.0  # relative; of a network whose depth may be wrong as a whole
SENSOR_DEPTH_SIGMA = 0.03


class ChunkSolver(Protocol):
    """Solves chunks of frames, each for itself."""

    @property
    def identity(self) -> str:
        """Changes whenever the answers may."""

    def solve(self, frames: Sequence[Frame], advance: Callable[[], None] = lambda: None) -> ChunkResult:
        """All frames of a chunk, oldest first; ``advance`` is called as work is done.

        Raises:
            UnusableFrame: frames of different sizes, or none that can be used.
        """


class AlignmentSolver:
    """DUSt3R's global alignment with POMATO's masks, for networks whose pointmaps agree over many pairs."""

    def __init__(self, predictor: PairPredictor, pairs: PairOptions, options: AlignmentOptions) -> None:
        """Pointmaps come from ``predictor``."""
        self._predictor, self._pairs, self._options = predictor, pairs, options

    @property
    def identity(self) -> str:
        """Digest of weights and options."""
        return digest("alignment", self._predictor.identity, self._pairs, self._options)

    def solve(self, frames: Sequence[Frame], advance: Callable[[], None] = lambda: None) -> ChunkResult:
        """See :class:`ChunkSolver`."""
        prepared = [prepare_frame(frame, self._predictor.image_size_px) for frame in frames]
        return align_chunk(prepared, self._predictor, self._pairs, self._options, advance)


class BundleSolver:
    """The engine's poses, masks and depth, then bundle adjustment on followed features at rest."""

    def __init__(self, config: PomatoConfig, engine: Engine | None = None) -> None:
        """Run the engine that ``config`` describes, or ``engine`` itself."""
        self._config = config
        self._engine = engine or Engine(config)

    @property
    def identity(self) -> str:
        """Digest of weights and options."""
        return digest("bundle", self._engine.describe(), self._config)

    def solve(self, frames: Sequence[Frame], advance: Callable[[], None] = lambda: None) -> ChunkResult:
        """See :class:`ChunkSolver`."""
        scenes = self._scenes(frames, advance)
        poses = continued_poses(scenes)
        depth, confidence, moving, images = (
            np.stack([getattr(scene, name) for scene in scenes])
            for name in ("depth", "confidence", "dynamic_mask", "image_rgb")
        )
        matrix = scenes[-1].intrinsics.matrix()
        metric = all(frame.depth_m is not None or frame.baseline_m is not None for frame in frames)
        tracks = follow_images(list(images), ~moving)
        sigma = SENSOR_DEPTH_SIGMA if metric else NETWORK_DEPTH_SIGMA
        motion = TIGHT_MOTION if metric else LOOSE_MOTION
        result = adjust(BundleProblem(poses, matrix, depth, sigma, tracks, motion))
        if not metric:
            depth = multi_view_depth(images, moving, corrected_depth(depth, result), result.world_from_camera, matrix)
        before = adjusted_share(len(tracks.track), len(result.inliers.track))
        return ChunkResult(
            stamps_ns=np.array([scene.stamp_ns for scene in scenes], np.int64),
            images_rgb=images,
            world_from_camera=result.world_from_camera,
            camera_matrix=matrix,
            depth=depth.astype(np.float32),
            confidence=confidence.astype(np.float32),
            moving=moving,
            metric=metric,
            cost=(before, result.residual_px),
        )

    def _scenes(self, frames: Sequence[Frame], advance: Callable[[], None]) -> list[SceneEstimate]:
        """What the engine says of each frame, from a reset on."""
        self._engine.reset()
        scenes: list[SceneEstimate] = []
        for frame in frames:
            scenes.extend(self._engine.advance(frame))
            advance()
        if not scenes:
            raise UnusableFrame(f"expected a scene of some of {len(frames)} frames, got none; use a longer source")
        return scenes


def multi_view_depth(
    images_rgb: NDArray[np.uint8],
    moving: NDArray[np.bool_],
    depth: NDArray[np.float32],
    world_from_camera: NDArray[np.float64],
    camera_matrix: NDArray[np.float64],
) -> NDArray[np.float32]:
    """(n, h, w) depth with what parallax measures, then averaged over the images that see a surface."""
    measured = triangulated_depth(list(images_rgb), moving, depth, world_from_camera, camera_matrix)
    return agreed_depth(measured, moving, world_from_camera, camera_matrix)


def continued_poses(scenes: Sequence[SceneEstimate]) -> NDArray[np.float64]:
    """(n, 4, 4) world from camera; frames while lost take the pose before them, or the first one that is known."""
    known = [scene.world_from_camera for scene in scenes if scene.world_from_camera is not None]
    last = known[0] if known else np.eye(4)
    poses = []
    for scene in scenes:
        last = last if scene.world_from_camera is None else scene.world_from_camera
        poses.append(last)
    return np.stack(poses)


def adjusted_share(observations: int, inliers: int) -> float:
    """Share of the observations that agree with the adjusted cameras; 0 without any."""
    return inliers / observations if observations else 0.0


def digest(*parts: object) -> str:
    """16 hexadecimal digits of what ``parts`` print."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
