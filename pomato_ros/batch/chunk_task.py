"""One task: some frames of one recording through the engine, kept as a file that stitching reads."""

import functools
import io
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from pomato_ros.batch.inputs import open_input
from pomato_ros.batch.store import Store
from pomato_ros.config import PomatoConfig
from pomato_ros.engine import Engine
from pomato_ros.errors import UnusableFrame
from pomato_ros.mapping.sources import backend_for, frames_between
from pomato_ros.structures import SceneEstimate

GRID = (9, 12)  # rows and columns of the depth that a frame keeps, to place chunks on one another
COVARIANCE_ENTRIES = 21  # upper triangle of 6x6, row by row


@dataclass(frozen=True, slots=True)
class ChunkTask:
    """What a worker is asked for."""

    uri: str  # of the recording
    folder: str  # of its results
    number: int
    start: int  # first frame
    count: int  # frames

    @property
    def file(self) -> str:
        """Where its answer lies."""
        return f"{self.folder}/chunks/{self.number:05d}.npz"


@dataclass(frozen=True, slots=True)
class FrameTable:
    """A row for each frame of a chunk, in the world of the chunk.

    Attributes:
        stamp_ns: (n,).
        state: (n,) name of the tracking state.
        world_from_camera: (n, 4, 4); NaN while lost.
        covariance: (n, 21) upper triangle, x y z then rotation, world axes; NaN while lost.
        camera_points: (n, 108, 3) grid of points at rest in the camera; NaN where unknown or moving.
        inlier_ratio: (n,) of the pose.
        moving_share: (n,) of the pixels.
        depth_coverage: (n,) share of pixels with a depth.
        median_depth: (n,).
        tracks: (n,) points that are followed.
        objects: (n,) moving objects.
    """

    stamp_ns: NDArray[np.int64]
    state: NDArray[np.str_]
    world_from_camera: NDArray[np.float64]
    covariance: NDArray[np.float64]
    camera_points: NDArray[np.float32]
    inlier_ratio: NDArray[np.float64]
    moving_share: NDArray[np.float64]
    depth_coverage: NDArray[np.float64]
    median_depth: NDArray[np.float64]
    tracks: NDArray[np.int64]
    objects: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.stamp_ns)

    def to_bytes(self) -> bytes:
        """As an .npz file without time stamps of its own: equal tables have equal bytes."""
        stream = io.BytesIO()
        np.savez(stream, **{each.name: getattr(self, each.name) for each in fields(self)})
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "FrameTable":
        """Inverse of :meth:`to_bytes`."""
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            return cls(**{each.name: stored[each.name] for each in fields(cls)})


def run_task(task: ChunkTask, store: Store, config: PomatoConfig) -> int:
    """Evaluate a task and keep its answer; done already, nothing happens. The number of frames.

    Raises:
        PomatoError: the recording cannot be used.
    """
    if store.exists(task.file):
        return task.count
    scenes: list[SceneEstimate] = []
    with open_input(task.uri) as frames:
        backend = backend_for(next(frames_between(frames, 0, 1)), config.model.backend)
        engine = _engine(replace(config, model=replace(config.model, backend=backend)))
        engine.reset()
        for frame in frames_between(frames, task.start, task.count):
            scenes.extend(engine.advance(frame))
    if not scenes:
        raise UnusableFrame(f"{task.uri}: no scene of frames {task.start} to {task.start + task.count - 1}")
    store.write(task.file, table_of(scenes).to_bytes())
    return len(scenes)


@functools.lru_cache(maxsize=1)
def _engine(config: PomatoConfig) -> Engine:
    """The engine of this process, its weights loaded once."""
    return Engine(config)


def table_of(scenes: list[SceneEstimate]) -> FrameTable:
    """A row for each scene."""
    unknown = np.full((4, 4), np.nan)
    upper = np.triu_indices(6)
    nothing = np.full(COVARIANCE_ENTRIES, np.nan)
    poses = [unknown if s.world_from_camera is None else s.world_from_camera for s in scenes]
    spread = [nothing if s.pose_covariance is None else s.pose_covariance[upper] for s in scenes]
    known = [np.isfinite(scene.depth) for scene in scenes]
    medians = [float(np.median(s.depth[k])) if k.any() else np.nan for s, k in zip(scenes, known, strict=True)]
    return FrameTable(
        stamp_ns=np.array([scene.stamp_ns for scene in scenes], np.int64),
        state=np.array([scene.state.value for scene in scenes]),
        world_from_camera=np.stack(poses),
        covariance=np.stack(spread),
        camera_points=np.stack([grid_points(scene) for scene in scenes]),
        inlier_ratio=np.array([scene.pose_inlier_ratio for scene in scenes], np.float64),
        moving_share=np.array([float(scene.dynamic_mask.mean()) for scene in scenes]),
        depth_coverage=np.array([float(each.mean()) for each in known]),
        median_depth=np.array(medians),
        tracks=np.array([len(scene.tracks.ids) for scene in scenes], np.int64),
        objects=np.array([len(scene.objects.ids) for scene in scenes], np.int64),
    )


def grid_points(scene: SceneEstimate) -> NDArray[np.float32]:
    """(108, 3) points of an even grid of pixels, NaN where they move or have no depth."""
    height, width = scene.dynamic_mask.shape
    rows, columns = (
        np.linspace(0.5 * size / count, size - 0.5 * size / count, count).astype(int)
        for size, count in ((height, GRID[0]), (width, GRID[1]))
    )
    points = scene.points_camera[np.ix_(rows, columns)].astype(np.float32)
    points[scene.dynamic_mask[np.ix_(rows, columns)]] = np.nan
    return points.reshape(-1, 3)
